//! What this process uses, and how much room a file system has.

use std::io;
use std::time::Duration;

use camino::Utf8Path;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike as _;

/// Room of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may still write.
    pub free: u64,
    /// All bytes there are.
    pub total: u64,
    /// Whether no more files can be made, however many bytes are free.
    pub has_no_files_left: bool,
    /// Whether it is mounted read-only.
    pub is_read_only: bool,
}

impl Space {
    /// What is less than this holds no layer, and hardly a file system's own needs.
    const LEAST: u64 = 1 << 20;

    /// Says whether there is no room for more than a few small files.
    pub fn is_full(&self) -> bool {
        self.free < Self::LEAST || self.has_no_files_left
    }
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
        // Some file systems do not count them, and say that there are none.
        has_no_files_left: found.files() > 0 && found.files_available() == 0,
        is_read_only: found.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY),
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

/// Lets this process have as many descriptors open as it may.
pub fn raise_descriptors() {
    /// macOS refuses more, whatever its limit says (`OPEN_MAX`).
    const MOST: Option<u64> = if cfg!(target_os = "macos") { Some(10_240) } else { None };
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let most = MOST.map_or(hard, |most| most.min(hard));
        if soft < most {
            // With those that it has it serves, too.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, hard);
        }
    }
}

/// Returns how many descriptors a process of this user may raise its limit to.
pub fn hard_descriptors() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard)
}

/// Returns how many files a user may watch for changes, where the system has
/// such a limit (Linux's inotify).
pub fn watches() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?;
    text.trim().parse().ok()
}

/// Returns how many descriptors this process may have open.
pub fn most_descriptors() -> u64 {
    /// What POSIX systems begin with.
    const USUAL: u64 = 256;
    getrlimit(Resource::RLIMIT_NOFILE).map_or(USUAL, |(soft, _)| soft)
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
        most_descriptors: Some(most_descriptors()),
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
