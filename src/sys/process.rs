//! Processes: spawning into groups, identity, exit, signals to groups.
//!
//! A pid alone names nobody, since pids are reused. An [`Identity`] is pid
//! plus start time plus boot id, and is checked before any signal is sent to
//! a process that is not our own child.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// What is to run, and with which surroundings.
#[derive(Debug)]
pub struct SpawnSpec<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    /// The whole environment.
    pub env: &'a [(String, String)],
    /// Working directory.
    pub cwd: &'a Utf8Path,
    /// Standard output and standard error.
    pub output: OwnedFd,
    /// File that the child writes its pid to and keeps open: its lock lasts
    /// as long as the child or any of its descendants.
    pub pid_file: &'a File,
}

/// Starts a process as leader of a group of its own.
///
/// The child itself writes its pid to `pid_file` before it becomes the
/// program, so that there is no moment at which it runs and nobody could
/// know, even when this process is killed right after the fork.
///
/// # Errors
/// When the program cannot be found or started.
#[expect(unsafe_code, reason = "pre_exec has no safe form")]
pub fn spawn(spec: SpawnSpec<'_>) -> io::Result<Child> {
    let (program, arguments) = spec
        .argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an empty command"))?;
    let errors = spec.output.try_clone()?;
    let pid_fd = spec.pid_file.as_raw_fd();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(spec.env.iter().map(|(key, value)| (key, value)))
        .current_dir(spec.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::from(spec.output))
        .stderr(Stdio::from(errors))
        .process_group(0);
    // SAFETY: the closure runs between fork and exec and calls only
    // async-signal-safe functions (fcntl, getpid, pwrite, ftruncate) on a
    // descriptor that outlives the call; it allocates nothing.
    unsafe {
        command.pre_exec(move || {
            use nix::libc;
            let mut digits = [0_u8; 12];
            let mut at = digits.len();
            let mut rest = libc::getpid();
            while rest > 0 {
                at -= 1;
                digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
            }
            let text = &digits[at..];
            if libc::fcntl(pid_fd, libc::F_SETFD, 0) == -1
                || libc::ftruncate(pid_fd, 0) == -1
                || libc::pwrite(pid_fd, text.as_ptr().cast(), text.len(), 0) == -1
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command.spawn()
}

/// Starts a process that outlives this one, in a session of its own.
///
/// # Errors
/// When the program cannot be found or started.
#[expect(unsafe_code, reason = "pre_exec has no safe form")]
pub fn spawn_detached(argv: &[&str], output: File) -> io::Result<Child> {
    let errors = output.try_clone()?;
    let mut command = Command::new(argv[0]);
    command
        .args(&argv[1..])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    // SAFETY: setsid, umask, close_range and fcntl are async-signal-safe and
    // allocate nothing. Descriptors are only marked to be closed by exec, so
    // that the one by which exec reports its failure still works.
    unsafe {
        command.pre_exec(|| {
            nix::libc::umask(0o022);
            platform::close_on_exec_from(3);
            nix::unistd::setsid().map(|_| ()).map_err(io::Error::from)
        });
    }
    command.spawn()
}

/// Names one process for as long as the machine runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Boot of the machine in which it runs.
    pub boot: String,
    /// Process id.
    pub pid: i32,
    /// Start time in the system's own unit.
    pub start: u64,
}

impl Identity {
    /// Returns the identity of a living process, or nothing when it is gone
    /// or only waits to be reaped.
    pub fn of(pid: i32) -> Option<Self> {
        let start = platform::start_time(pid)?;
        Some(Self {
            boot: platform::boot_id(),
            pid,
            start,
        })
    }

    /// Says whether that very process still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now == *self)
    }
}

/// Keeps memory that is not used any more from piling up: few arenas, and
/// large buffers go back to the system. Otherwise each thread keeps its own.
pub fn hold_little_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "no safe function sets these")]
    // SAFETY: mallopt only sets numbers; before other threads exist.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2);
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, 256 << 10);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, 1 << 20);
    }
}

/// Says whether there is a process with this id.
pub fn exists(pid: i32) -> bool {
    nix::sys::signal::kill(Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

/// Returns the id of this boot of the machine.
pub fn boot_id() -> String {
    platform::boot_id()
}

/// Takes from new files and directories the right of others to write, on top
/// of what the user's own mask takes.
pub fn tighten_umask() {
    use nix::sys::stat::{Mode, umask};
    let current = umask(Mode::S_IWGRP | Mode::S_IWOTH);
    umask(current | Mode::S_IWGRP | Mode::S_IWOTH);
}

/// Waits until a process is gone; it need not be a child.
pub fn wait_gone(pid: i32) {
    platform::wait_gone(pid);
}

/// Waits by looking again and again, where the system offers no event.
fn poll_until_gone(pid: i32) {
    while Identity::of(pid).is_some() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Sends a signal to every process of a group. A group that is gone is no error.
pub fn signal_group(group: i32, signal: Signal) {
    let _ = killpg(Pid::from_raw(group), signal);
}

/// Sends a signal to one process.
pub fn signal_process(pid: i32, signal: Signal) {
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
}

/// Returns the group that a process belongs to.
pub fn group_of(pid: i32) -> Option<i32> {
    nix::unistd::getpgid(Some(Pid::from_raw(pid))).ok().map(Pid::as_raw)
}

/// Says whether a group still has a living process.
pub fn group_alive(group: i32) -> bool {
    platform::group_alive(group)
}

/// Returns the processes that hold a file open, as far as this user may see.
pub fn holders(path: &Utf8Path) -> Vec<i32> {
    platform::holders(path)
}

/// Keeps a server from standing still when nobody reads its output: a line
/// that does not fit into the pipe is lost instead.
pub fn never_block_on_output() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::stat::{SFlag, fstat};
    let output = io::stdout();
    let is_pipe = fstat(&output).is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode).contains(SFlag::S_IFIFO));
    if is_pipe && let Ok(flags) = fcntl(&output, FcntlArg::F_GETFL) {
        let _ = fcntl(
            &output,
            FcntlArg::F_SETFL(OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK),
        );
    }
}

/// What a running process was started with.
#[derive(Clone, Debug)]
pub struct Started {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub cwd: Utf8PathBuf,
}

/// Returns what a process was started with, where the system tells.
pub fn started_with(pid: i32) -> Option<Started> {
    platform::started_with(pid)
}

/// Returns the name of a process.
pub fn name_of(pid: i32) -> Option<String> {
    platform::name_of(pid)
}

/// Returns the effective user id.
pub fn user_id() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Becomes a program that another user runs; returns only when that fails.
pub fn become_as(user: &str, argv: &[String]) -> io::Error {
    let Some((program, arguments)) = argv.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "an empty command");
    };
    match account(user) {
        Err(error) => error,
        Ok(None) => io::Error::new(io::ErrorKind::NotFound, format!("there is no user {user}")),
        Ok(Some(account)) => {
            let mut command = Command::new(program);
            run_as(command.args(arguments), account);
            command.exec()
        }
    }
}

/// User and group that a process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
}

/// Finds a user by name.
///
/// # Errors
/// When the system does not say.
pub fn account(user: &str) -> io::Result<Option<Account>> {
    let found = nix::unistd::User::from_name(user)?;
    Ok(found.map(|user| Account {
        user: user.uid.as_raw(),
        group: user.gid.as_raw(),
    }))
}

/// Lets a program run as another user, without the groups of this one.
pub fn run_as(command: &mut Command, account: Account) {
    command.uid(account.user).gid(account.group);
}

/// Returns the name of the effective user.
pub fn user_name() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten()?;
    Some(user.name)
}

/// Returns the name of the machine.
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}

/// Finds a program on the PATH.
pub fn find_program(name: &str) -> Option<Utf8PathBuf> {
    Utf8PathBuf::from_path_buf(which::which(name).ok()?).ok()
}

#[cfg(target_os = "linux")]
mod platform {
    use std::os::fd::{FromRawFd as _, OwnedFd};

    use nix::libc;

    /// Fields of `/proc/PID/stat` after the command's name, which may hold anything.
    fn stat(pid: i32) -> Option<Vec<String>> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = text.rsplit_once(')')?;
        Some(rest.split_whitespace().map(str::to_owned).collect())
    }

    fn is_zombie(fields: &[String]) -> bool {
        matches!(fields.first().map(String::as_str), Some("Z" | "X"))
    }

    pub(super) fn start_time(pid: i32) -> Option<u64> {
        let fields = stat(pid)?;
        if is_zombie(&fields) {
            return None;
        }
        fields.get(19)?.parse().ok()
    }

    pub(super) fn boot_id() -> String {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// Marks all descriptors from `first` on to be closed by exec.
    #[expect(unsafe_code, reason = "called between fork and exec")]
    pub(super) unsafe fn close_on_exec_from(first: i32) {
        const CLOEXEC: u32 = 1 << 2;
        // SAFETY: close_range only sets a flag here.
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOEXEC) };
    }

    pub(super) fn holders(path: &camino::Utf8Path) -> Vec<i32> {
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let me = i32::try_from(std::process::id()).unwrap_or_default();
        entries
            .flatten()
            .filter_map(|entry| {
                Some((
                    entry.file_name().to_str()?.parse::<i32>().ok()?,
                    entry.path().join("fd"),
                ))
            })
            .filter(|(pid, _)| *pid != me)
            .filter(|(_, descriptors)| {
                let open = std::fs::read_dir(descriptors).into_iter().flatten().flatten();
                open.filter_map(|entry| std::fs::read_link(entry.path()).ok())
                    .any(|target| target == path.as_std_path())
            })
            .map(|(pid, _)| pid)
            .collect()
    }

    pub(super) fn wait_gone(pid: i32) {
        if !wait_on_pidfd(pid) {
            super::poll_until_gone(pid);
        }
    }

    #[expect(unsafe_code, reason = "pidfd_open has no safe wrapper in nix")]
    fn wait_on_pidfd(pid: i32) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd as _;

        // SAFETY: pidfd_open takes a pid and flags and returns a descriptor
        // that nobody else owns, or -1.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let Ok(raw) = i32::try_from(raw) else { return false };
        if raw < 0 {
            return false;
        }
        // SAFETY: just opened, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        loop {
            let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => {}
                outcome => return outcome.is_ok(),
            }
        }
    }

    pub(super) fn group_alive(group: i32) -> bool {
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return false;
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter_map(stat)
            .any(|fields| !is_zombie(&fields) && fields.get(2).and_then(|field| field.parse().ok()) == Some(group))
    }

    pub(super) fn started_with(pid: i32) -> Option<super::Started> {
        let words = |file: &str| -> Option<Vec<String>> {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).ok()?;
            let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
            Some(parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect())
        };
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        let env = words("environ")?;
        let env = env.iter().filter_map(|pair| pair.split_once('='));
        Some(super::Started {
            argv: words("cmdline")?,
            env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            cwd: camino::Utf8PathBuf::from_path_buf(cwd).ok()?,
        })
    }

    pub(super) fn name_of(pid: i32) -> Option<String> {
        Some(
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .ok()?
                .trim()
                .to_owned(),
        )
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::process::Command;

    use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
    use nix::sys::signal::killpg;
    use nix::unistd::Pid;

    fn ps(pid: i32, column: &str) -> Option<String> {
        // The same text whatever the caller's language and zone are.
        let output = Command::new("ps")
            .args(["-o", column, "-p", &pid.to_string()])
            .envs([("LC_ALL", "C"), ("TZ", "UTC")])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    pub(super) fn start_time(pid: i32) -> Option<u64> {
        if ps(pid, "stat=")?.starts_with('Z') {
            return None;
        }
        // The start as text, hashed to a number: only equality matters.
        let text = ps(pid, "lstart=")?;
        Some(text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    pub(super) fn boot_id() -> String {
        let output = Command::new("sysctl").args(["-n", "kern.bootsessionuuid"]).output();
        output
            .ok()
            .and_then(|out| String::from_utf8(out.stdout).ok())
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    pub(super) fn wait_gone(pid: i32) {
        let Ok(queue) = Kqueue::new() else {
            return super::poll_until_gone(pid);
        };
        let Ok(ident) = usize::try_from(pid) else { return };
        let interest = KEvent::new(
            ident,
            EventFilter::EVFILT_PROC,
            EvFlags::EV_ADD | EvFlags::EV_ONESHOT,
            FilterFlag::NOTE_EXIT,
            0,
            0,
        );
        let mut events = [interest];
        while let Err(nix::errno::Errno::EINTR) = queue.kevent(&[interest], &mut events, None) {}
        // Whatever the event said, it must really be gone.
        super::poll_until_gone(pid);
    }

    /// Marks the usual descriptors from `first` on to be closed by exec.
    #[expect(unsafe_code, reason = "called between fork and exec")]
    pub(super) unsafe fn close_on_exec_from(first: i32) {
        for descriptor in first..1024 {
            // SAFETY: fcntl on a descriptor that is not open merely fails.
            unsafe { nix::libc::fcntl(descriptor, nix::libc::F_SETFD, nix::libc::FD_CLOEXEC) };
        }
    }

    pub(super) fn holders(_: &camino::Utf8Path) -> Vec<i32> {
        Vec::new()
    }

    pub(super) fn group_alive(group: i32) -> bool {
        killpg(Pid::from_raw(group), None).is_ok()
    }

    pub(super) fn started_with(_: i32) -> Option<super::Started> {
        None
    }

    pub(super) fn name_of(pid: i32) -> Option<String> {
        Some(ps(pid, "comm=")?.rsplit('/').next()?.to_owned()) // it says the whole path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_this_process() {
        let me = Identity::of(i32::try_from(std::process::id()).expect("small")).expect("alive");
        assert!(me.is_alive());
        let other = Identity {
            start: me.start + 1,
            ..me
        };
        assert!(!other.is_alive());
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = Command::new("true").spawn().expect("true runs");
        let pid = i32::try_from(child.id()).expect("small");
        wait_gone(pid);
        assert_eq!(Identity::of(pid), None);
        child.wait().expect("reaped");
    }
}
