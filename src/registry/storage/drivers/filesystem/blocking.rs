//! Work that waits for the disk.

use std::io;

/// Runs work on a thread that may wait, or at once for a caller that has
/// threads of its own.
///
/// # Errors
/// Those of the work.
pub async fn blocking<T: Send + 'static>(
    inline: bool,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if inline {
        return work();
    }
    let work = || {
        crate::sys::failpoint::reach("disk:any")?;
        work()
    };
    crate::sys::task::blocking(work)
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
}
