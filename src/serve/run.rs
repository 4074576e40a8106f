//! The accept loop, drained on stop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::body::Body;
use super::connection::connection;
use super::handshake::{Handshakes, encrypted};
use super::listener::{Listener, Peer, Stream};
use super::preface::begins_http2;
use super::tls::Tls;
use crate::sys::usage;

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
    usage::raise_descriptors();
    let admission = Admission::of(usage::most_descriptors());
    let failures = Arc::<Handshakes>::default();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                admission.room().await;
                listener.accept().await
            } => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, or the client is gone already: others may fare better shortly.
            crate::sys::task::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (tls, handler, failures) = (tls.clone(), handler.clone(), Arc::clone(&failures));
        let admitted = admission.enter(&stop);
        connections.spawn(async move {
            match (stream, tls) {
                (Stream::Unix(stream), _) => connection(stream, peer, false, handler, admitted).await,
                (Stream::Tcp(stream), None) => {
                    let end = admitted.end().clone();
                    let http2 = tokio::select! {
                        () = end.cancelled() => return,
                        http2 = async { h2c && begins_http2(&stream).await } => http2,
                    };
                    connection(stream, peer, http2, handler, admitted).await;
                }
                (Stream::Tcp(stream), Some(tls)) => {
                    let end = admitted.end().clone();
                    let acceptor = tls.acceptor();
                    let begun = tokio::select! {
                        () = end.cancelled() => return,
                        begun = encrypted(stream, &acceptor) => begun,
                    };
                    match begun {
                        Ok(Some(stream)) => {
                            let peer = peer.encrypted();
                            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            connection(stream, peer, http2, handler, admitted).await;
                        }
                        Ok(None) => {}
                        Err(reason) => failures.note(&peer, &reason),
                    }
                }
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
