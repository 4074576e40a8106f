//! The accept loop, drained on stop.

use std::future::Future;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Body;
use super::connection::connection;
use super::listener::{Listener, Peer, Stream};
use super::preface::{answer_plain, begins_http2, begins_tls};
use super::tls::Tls;

/// How long a client may take to say what it speaks.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves connections until `stop` is cancelled, then lets requests under way
/// finish for at most `drain`. With `h2c`, HTTP/2 is understood without TLS.
pub async fn run<H, F>(
    listener: Listener,
    tls: Option<Tls>,
    h2c: bool,
    handler: H,
    stop: CancellationToken,
    drain: Duration,
) where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, or the client is gone already: others may fare better shortly.
            crate::sys::task::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (tls, handler, stop) = (tls.clone(), handler.clone(), stop.clone());
        connections.spawn(async move {
            match (stream, tls) {
                (Stream::Unix(stream), _) => connection(stream, peer, false, handler, stop).await,
                (Stream::Tcp(stream), None) => {
                    let http2 = h2c && begins_http2(&stream).await;
                    connection(stream, peer, http2, handler, stop).await;
                }
                (Stream::Tcp(stream), Some(tls)) => encrypted(stream, peer, &tls.acceptor(), handler, stop).await,
            }
        });
    }
    if let Listener::Unix(_, path) = &listener {
        let _ = crate::sys::fs::remove(path);
    }
    drop(listener);
    connections.close();
    let _ = crate::sys::task::timeout(drain, connections.wait()).await;
}

async fn encrypted<H, F>(stream: TcpStream, peer: Peer, tls: &TlsAcceptor, handler: H, stop: CancellationToken)
where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let begun = tokio::select! {
        () = stop.cancelled() => return,
        begun = crate::sys::task::timeout(PATIENCE, begins_tls(&stream)) => begun,
    };
    match begun {
        Ok(Some(true)) => {}
        Ok(Some(false)) => return answer_plain(stream).await,
        _ => return,
    }
    let Ok(Ok(stream)) = crate::sys::task::timeout(PATIENCE, tls.accept(stream)).await else {
        return;
    };
    let peer = match peer {
        Peer::Tcp { address, .. } => Peer::Tcp { address, tls: true },
        Peer::Unix => Peer::Unix,
    };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    connection(stream, peer, http2, handler, stop).await;
}
