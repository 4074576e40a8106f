//! One connection, from its first request to its last.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::admission::Admitted;
use super::body::Body;
use super::listener::Peer;
use super::origin::is_host;

/// How long a connection may stay idle, or take for a request's headers. Go's
/// clients keep theirs for 90 seconds; closing sooner would cross a request.
const IDLE: Duration = Duration::from_mins(2);
/// Bytes of a request's body that HTTP/2 clients may send ahead.
const H2_WINDOW: u32 = 2 << 20;
/// Requests at once on one HTTP/2 connection.
const H2_STREAMS: u32 = 250;
/// Header lines that a request may have. Go's servers count bytes, of which
/// hyper's buffer takes some 400 KiB.
const MOST_HEADERS: usize = 1_000;

/// Answers a connection's requests until it is to end, and those under way.
pub async fn connection<S, H, F>(stream: S, peer: Peer, http2: bool, handler: H, admitted: Admitted)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let admitted = Arc::new(admitted);
    let end = admitted.end().clone();
    // What a client resets may go on here for a while: it counts until it ends.
    let streams = http2.then(|| Arc::new(Semaphore::new(H2_STREAMS as usize)));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let busy = admitted.request();
        let permit = streams.clone().map(Semaphore::try_acquire_owned).transpose();
        let answer = match permit {
            _ if !has_host(&request) => Err((
                StatusCode::BAD_REQUEST,
                "400 Bad Request: the request must name one host\n",
            )),
            Err(_) => Err((
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests of this connection are under way\n",
            )),
            Ok(permit) => {
                if let Some(permit) = permit {
                    request.extensions_mut().insert(Arc::new(permit));
                }
                Ok(handler(request, peer.clone()))
            }
        };
        async move {
            let _busy = busy;
            Ok::<_, Infallible>(match answer {
                Ok(answer) => answer.await,
                Err((status, text)) => refused(status, text),
            })
        }
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
            () = end.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
        return;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        // A client that has said all and closed its side still means it.
        .half_close(true)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // An error here is the client's: it went away or sent no HTTP.
        _ = connection.as_mut() => return,
        () = end.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Says whether a request names one host, as it must (RFC 9112, section 3.2;
/// RFC 9113, section 8.3.1). Those of HTTP/1.0, which probes send, need none.
fn has_host(request: &Request<Incoming>) -> bool {
    let mut named = request.headers().get_all(HOST).iter();
    let is_usable = |text: &str| text.is_empty() || is_host(text);
    match (request.uri().authority(), named.next(), named.next()) {
        (_, Some(_), Some(_)) => false,
        // HTTP/1.1 wants the header beside it (RFC 9112, section 3.2).
        (Some(authority), None, _) => request.version() != Version::HTTP_11 && is_host(authority.as_str()),
        (None, None, _) => request.version() == Version::HTTP_10,
        (_, Some(host), None) => host.to_str().is_ok_and(is_usable),
    }
}

fn refused(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
