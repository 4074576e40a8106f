//! Processes by name; commands that may not take for ever.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use camino::Utf8Path;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{Gid, Uid, fchownat};

/// How long what a process has said may be on its way once it has ended.
const REST: Duration = Duration::from_millis(200);

/// Returns the processes with a name, oldest first.
pub fn named(name: &str) -> Vec<i32> {
    let mut found: Vec<i32> = platform::all()
        .into_iter()
        .filter(|pid| super::process::name_of(*pid).as_deref() == Some(name))
        .collect();
    found.sort_unstable();
    found
}

/// Returns the processes with a name, of a user, that see the files of this
/// machine as this process does, oldest first.
pub fn of_this_machine(name: &str, user: u32) -> Vec<i32> {
    let mut found = named(name);
    found.retain(|pid| platform::is_of(*pid, user));
    found
}

#[cfg(target_os = "linux")]
mod platform {
    use std::os::unix::fs::MetadataExt as _;

    pub(super) fn is_of(pid: i32, user: u32) -> bool {
        let mounts = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt"));
        let owner = std::fs::metadata(format!("/proc/{pid}")).map(|metadata| metadata.uid());
        // One that may not be looked at is taken for what it seems.
        let is_here = mounts(&pid.to_string()).map_or(true, |there| mounts("self").is_ok_and(|own| own == there));
        owner.is_ok_and(|owner| owner == user) && (is_here || user != 0)
    }

    pub(super) fn all() -> Vec<i32> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    pub(super) fn is_of(pid: i32, user: u32) -> bool {
        let output = std::process::Command::new("ps")
            .args(["-o", "uid=", "-p", &pid.to_string()])
            .output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().parse() == Ok(user)
    }

    pub(super) fn all() -> Vec<i32> {
        let output = std::process::Command::new("ps").args(["-axo", "pid="]).output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }
}

/// Returns the ids of the user and of the group that this process acts as.
pub fn ids() -> (u64, u64) {
    (
        nix::unistd::geteuid().as_raw().into(),
        nix::unistd::getegid().as_raw().into(),
    )
}

/// Runs a command and returns what it says.
///
/// # Errors
/// When it cannot be run, or takes longer than `limit`: then it is killed.
pub fn output_within(command: &mut Command, limit: Duration) -> io::Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Whatever it leaves behind may hold its output open: it is read aside.
    let (stdout, stderr) = (aside(child.stdout.take()), aside(child.stderr.take()));
    let Some(status) = super::clock::wait_until(limit, || child.try_wait().ok().flatten()) else {
        let _ = child.kill();
        let _ = child.wait();
        let reason = format!("it did not answer within {} seconds", limit.as_secs());
        return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
    };
    Ok(Output {
        status,
        stdout: said(&stdout),
        stderr: said(&stderr),
    })
}

/// Reads a stream piece by piece.
fn aside(stream: Option<impl io::Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, pieces) = mpsc::channel();
    std::thread::spawn(move || {
        let Some(mut stream) = stream else { return };
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            if sender.send(piece[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    pieces
}

/// Returns what was said by a process that has ended: what is on its way comes
/// at once, and what others say who hold its output does not count.
fn said(pieces: &mpsc::Receiver<Vec<u8>>) -> Vec<u8> {
    let pieces = std::iter::from_fn(|| pieces.recv_timeout(REST).ok());
    pieces.flatten().collect()
}

/// Gives a file, or a directory and all that is in it, to another user; links
/// are given, not followed, whatever that user does meanwhile.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn give(path: &Utf8Path, user: u32, group: u32) -> io::Result<()> {
    let owner = (Uid::from_raw(user), Gid::from_raw(group));
    let given = give_at(AT_FDCWD, path.as_str().as_ref(), owner);
    given.map_err(|errno| super::fs::named(&errno.into(), "cannot give away", path))
}

fn give_at(directory: impl AsFd, name: &OsStr, owner: (Uid, Gid)) -> nix::Result<()> {
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
    let there = fstatat(&directory, name, flags)?;
    if (there.st_uid, there.st_gid) != (owner.0.as_raw(), owner.1.as_raw()) {
        fchownat(&directory, name, Some(owner.0), Some(owner.1), flags)?;
    }
    if SFlag::from_bits_truncate(there.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
        return Ok(());
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = openat(&directory, name, flags, Mode::empty())?;
    let mut inside = Dir::from_fd(opened.try_clone().map_err(|_| Errno::EMFILE)?)?;
    for entry in inside.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if [".", ".."].iter().any(|own| name == *own) {
            continue;
        }
        match give_at(&opened, name, owner) {
            // A server at work removes what it needs no more.
            Err(Errno::ENOENT) => {}
            given => given?,
        }
    }
    Ok(())
}
