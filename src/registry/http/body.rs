//! Bodies of requests.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use hyper::header::EXPECT;

use crate::serve::pace::in_time;
use crate::sys::task;

/// How long what nobody takes is thrown away.
const LINGER: Duration = Duration::from_secs(5);

/// Why a body is not all there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It has more bytes than are taken.
    #[error("at most {0} bytes are taken")]
    TooLarge(usize),
    /// It ended early, or came too slowly.
    #[error("{0}")]
    Incomplete(String),
}

/// The body of a request. What nobody takes of it is taken and thrown away for
/// a while: a client in the middle of sending would meet with a connection that
/// is closed, and not with the answer that says why.
pub struct RequestBody {
    body: Option<Incoming>,
    /// Whether its client sends it already, or was told to.
    is_coming: bool,
}

impl RequestBody {
    /// Takes over the body of a request with these headers.
    pub fn new(body: Incoming, headers: &HeaderMap) -> Self {
        Self {
            body: Some(body),
            // Who waits for a word (RFC 9110, section 10.1.1) has the answer instead.
            is_coming: !headers.contains_key(EXPECT),
        }
    }

    /// Says whether there is nothing of it, or nothing more.
    pub fn is_at_end(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        if self.is_coming && !body.is_end_stream() {
            task::spawn(task::timeout(LINGER, async move {
                while let Some(Ok(_)) = body.frame().await {}
            }));
        }
    }
}

/// Gives a body piece by piece as it comes; at last why nothing more does,
/// where that is not its end.
pub fn pieces(body: &mut RequestBody) -> BoxStream<'_, Result<Bytes, String>> {
    body.is_coming = true;
    match &mut body.body {
        None => stream::empty().boxed(),
        Some(body) => in_time(BodyDataStream::new(body).map_err(|error| error.to_string())).boxed(),
    }
}

/// Takes a small body in whole.
///
/// # Errors
/// When it is larger than `limit` bytes, or not all of it came.
pub async fn whole(body: &mut RequestBody, limit: usize) -> Result<Bytes, BodyError> {
    let mut content = BytesMut::new();
    let mut pieces = pieces(body);
    while let Some(piece) = pieces.try_next().await.map_err(BodyError::Incomplete)? {
        if content.len() + piece.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        content.extend_from_slice(&piece);
    }
    Ok(content.freeze())
}
