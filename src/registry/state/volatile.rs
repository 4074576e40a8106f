//! Where a registry keeps what is its own when its storage lasts no longer
//! than its process.

use std::io;

/// Makes a directory in memory where the system has one. What killed
/// processes left is removed.
///
/// # Errors
/// When it cannot be made.
pub fn directory() -> io::Result<tempfile::TempDir> {
    const PREFIX: &str = "kdk-registry-inmemory.";
    let memory = std::path::Path::new("/dev/shm");
    let base = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    for entry in std::fs::read_dir(&base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let left = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse::<i32>().ok());
        if left.is_some_and(|pid| !crate::sys::process::exists(pid)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}.", std::process::id()))
        .tempdir_in(base)
}
