//! Tasks and waiting of what serves: the only place that starts the one and
//! does the other.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;

/// Starts a task, which goes on when nobody waits for it.
#[expect(clippy::disallowed_methods, reason = "this is the room that starts tasks")]
pub fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// Runs work that takes long, or waits for the disk, on a thread for such.
#[expect(clippy::disallowed_methods, reason = "this is the room that starts tasks")]
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    if super::simulation::is_here() {
        return tokio::spawn(async move { work() });
    }
    tokio::task::spawn_blocking(work)
}

/// Waits.
#[expect(clippy::disallowed_methods, reason = "this is the room that waits")]
pub async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits for something, and no longer than a time.
///
/// # Errors
/// When the time is over.
#[expect(clippy::disallowed_methods, reason = "this is the room that waits")]
pub async fn timeout<T>(time: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    tokio::time::timeout(time, work).await
}
