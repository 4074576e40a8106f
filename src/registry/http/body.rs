//! Bodies of requests.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::body::{Body as _, Incoming};

use crate::sys::clock::monotonic;
use crate::sys::task;

/// How long a client may send nothing in the middle of a body.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long what nobody takes is thrown away.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes of a body for which it has a second more in all.
const SLOWEST: u64 = 4 << 10;

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
pub struct RequestBody(Option<Incoming>);

impl RequestBody {
    /// Takes over a body.
    pub fn new(body: Incoming) -> Self {
        Self(Some(body))
    }

    /// Says whether there is nothing of it, or nothing more.
    pub fn is_at_end(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take() else { return };
        if !body.is_end_stream() {
            task::spawn(task::timeout(LINGER, async move {
                while let Some(Ok(_)) = body.frame().await {}
            }));
        }
    }
}

/// Gives a body piece by piece as it comes; at last why nothing more does,
/// where that is not its end.
pub fn pieces(body: &mut RequestBody) -> BoxStream<'_, Result<Bytes, String>> {
    match &mut body.0 {
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

/// Ends a body whose client is silent for too long, or slower than anybody who
/// means it: what is waited for counts, not what is done meanwhile.
fn in_time<S>(body: S) -> impl Stream<Item = Result<Bytes, String>>
where
    S: Stream<Item = Result<Bytes, String>> + Unpin,
{
    let begin = (body, Duration::ZERO, 0_u64);
    stream::unfold(Some(begin), async |state| {
        let (mut body, waited, received) = state?;
        let left = (PATIENCE + Duration::from_secs(received / SLOWEST)).saturating_sub(waited);
        let began = monotonic();
        match task::timeout(PATIENCE.min(left), body.next()).await {
            Err(_) if left < PATIENCE => {
                let seconds = (waited + left).as_secs();
                Some((Err(format!("only {received} bytes came in {seconds} seconds")), None))
            }
            Err(_) => Some((Err("nothing came for a minute".to_owned()), None)),
            Ok(None) => None,
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(Some(Ok(data))) => {
                let waited = waited + monotonic().duration_since(began);
                let state = (body, waited, received + data.len() as u64);
                Some((Ok(data), Some(state)))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::simulation;

    /// Takes a body of pieces of so many bytes, each after a pause; says how it ended.
    fn take(count: u64, size: usize, pause: Duration) -> (usize, Option<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            let _simulated = simulation::enter(1);
            let body = stream::unfold(0, move |number| async move {
                if number == count {
                    return None;
                }
                task::sleep(pause).await;
                Some((Ok(Bytes::from(vec![0; size])), number + 1))
            });
            let mut taken = Box::pin(in_time(Box::pin(body)));
            let mut bytes = 0;
            while let Some(piece) = taken.next().await {
                match piece {
                    Ok(piece) => bytes += piece.len(),
                    Err(reason) => return (bytes, Some(reason)),
                }
            }
            (bytes, None)
        })
    }

    #[test]
    fn a_body_takes_as_long_as_its_size_allows() {
        let second = Duration::from_secs(1);
        assert_eq!(take(3, 7, second), (21, None));
        let silent = take(1, 1, 61 * second);
        assert_eq!(silent, (0, Some("nothing came for a minute".to_owned())));
        // Never silent for long, and never done: a byte in ten seconds.
        let slow = take(1000, 1, 10 * second);
        assert_eq!(slow, (6, Some("only 6 bytes came in 60 seconds".to_owned())));
        // As fast as it must be, for hours.
        assert_eq!(take(10_000, 4096, second), (40_960_000, None));
    }
}
