//! One connection, from its first request to its last.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::listener::Peer;

/// How long a connection may stay idle, or take for a request's headers. Go's
/// clients keep theirs for 90 seconds; closing sooner would cross a request.
const IDLE: Duration = Duration::from_mins(2);
/// Bytes of a request's body that HTTP/2 clients may send ahead.
const H2_WINDOW: u32 = 2 << 20;
/// Requests at once on one HTTP/2 connection.
const H2_STREAMS: u32 = 250;
/// Answers a connection's requests until `stop` is cancelled, and those under way.
pub async fn connection<S, H, F>(stream: S, peer: Peer, http2: bool, handler: H, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let service = service_fn(move |request| {
        let answer = handler(request, peer.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    if http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(IDLE)
            // Blobs are large: a window of a few pieces keeps them flowing.
            .initial_stream_window_size(H2_WINDOW)
            .initial_connection_window_size(H2_WINDOW * 4)
            .max_concurrent_streams(H2_STREAMS)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
        return;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        // A client that has said all and closed its side still means it.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // An error here is the client's: it went away or sent no HTTP.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
