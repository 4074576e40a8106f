//! Beginning a connection that is encrypted.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::listener::Peer;
use super::preface::{answer_plain, begins_tls};
use crate::sys::clock::monotonic;

/// How long a client may take to say what it speaks.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one that failed to speak TLS is the last that is told of.
const PAUSE: Duration = Duration::from_secs(1);

/// Agrees on encryption; nothing when the client was told to come with it.
pub async fn encrypted(stream: TcpStream, tls: &TlsAcceptor) -> io::Result<Option<TlsStream<TcpStream>>> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the client took too long");
    let begun = crate::sys::task::timeout(PATIENCE, begins_tls(&stream));
    match begun.await.map_err(|_| late())? {
        Some(true) => {}
        Some(false) => {
            answer_plain(stream).await;
            return Ok(None);
        }
        // Whoever only looks whether something listens sends nothing.
        None => return Ok(None),
    }
    let accepted = crate::sys::task::timeout(PATIENCE, tls.accept(stream)).await;
    accepted.map_err(|_| late())?.map(Some)
}

/// Clients with which no encryption was agreed on. Anybody can cause them.
#[derive(Debug, Default)]
pub struct Handshakes(Mutex<(Option<Instant>, u64)>);

impl Handshakes {
    /// Logs a failure, or counts it where there was one a moment ago.
    pub fn note(&self, peer: &Peer, reason: &io::Error) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, untold) = &mut *told;
        if last.is_some_and(|last| last.elapsed() < PAUSE) {
            *untold += 1;
            return;
        }
        tracing::info!(remote_addr = %peer, error = %reason, untold = *untold, "TLS handshake failed");
        *told = (Some(monotonic()), 0);
    }
}
