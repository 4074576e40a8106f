//! Bodies of requests.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;

use crate::sys::task;

/// How long a client may send nothing in the middle of a body.
const PATIENCE: Duration = Duration::from_mins(1);

/// Gives a body piece by piece as it comes; at last why nothing more does,
/// where that is not its end.
pub fn pieces(body: &mut Incoming) -> BoxStream<'_, Result<Bytes, String>> {
    let body = BodyDataStream::new(body);
    stream::unfold(Some(body), async |body| {
        let mut body = body?;
        match task::timeout(PATIENCE, body.next()).await {
            Err(_) => Some((Err("nothing came for a minute".to_owned()), None)),
            Ok(None) => None,
            Ok(Some(Err(error))) => Some((Err(error.to_string()), None)),
            Ok(Some(Ok(data))) => Some((Ok(data), Some(body))),
        }
    })
    .boxed()
}
