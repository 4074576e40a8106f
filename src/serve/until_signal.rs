//! Serving until somebody says that it is enough.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs a server until it ends by itself, or SIGTERM or SIGINT cancel `stop`
/// and it has drained. A second signal ends it at once: then it returns nothing.
///
/// # Errors
/// When signals cannot be waited for.
pub async fn until_signal<T>(stop: &CancellationToken, serving: impl Future<Output = T>) -> io::Result<Option<T>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::pin!(serving);
    tokio::select! {
        done = &mut serving => return Ok(Some(done)),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    Ok(tokio::select! {
        done = &mut serving => Some(done),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    })
}
