//! What this process uses, and how much room a file system has.

use std::io;
use std::time::Duration;

use camino::Utf8Path;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;

/// Room of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this user may still write.
    pub free: u64,
    /// All there is.
    pub total: u64,
}

/// Returns how much room the file system of a path has.
///
/// # Errors
/// Those of the file system.
pub fn space(path: &Utf8Path) -> io::Result<Space> {
    let found = nix::sys::statvfs::statvfs(path.as_std_path())?;
    // The width of these differs between systems.
    #[allow(clippy::useless_conversion, reason = "not everywhere")]
    let (unit, free, total) = (
        u64::from(found.fragment_size()),
        u64::from(found.blocks_available()),
        u64::from(found.blocks()),
    );
    Ok(Space {
        free: free.saturating_mul(unit),
        total: total.saturating_mul(unit),
    })
}

/// What this process uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on processors.
    pub cpu: Duration,
    /// Bytes in memory, where the system tells.
    pub resident: Option<u64>,
    /// Open descriptors, where the system tells.
    pub descriptors: Option<u64>,
    /// Descriptors that may be open.
    pub most_descriptors: Option<u64>,
}

/// Returns what this process uses.
pub fn own() -> Usage {
    let cpu = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
    });
    Usage {
        cpu: Duration::from_micros(u64::try_from(cpu).unwrap_or_default()),
        resident: resident(),
        descriptors: descriptors(),
        most_descriptors: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
    }
}

/// Reads the second number of `/proc/self/statm`, which counts pages.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

fn descriptors() -> Option<u64> {
    let own = if cfg!(target_os = "linux") {
        "/proc/self/fd"
    } else {
        "/dev/fd"
    };
    let count = std::fs::read_dir(own).ok()?.count();
    // One is that of the directory itself.
    u64::try_from(count).ok()?.checked_sub(1)
}
