//! Processes by name; commands that may not take for ever.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use camino::Utf8Path;

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
    let (sender, said) = std::sync::mpsc::channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::spawn(move || {
        let aside = std::thread::spawn(move || all(stderr));
        let stdout = all(stdout);
        let _ = sender.send((stdout, aside.join().unwrap_or_default()));
    });
    let Some(status) = super::clock::wait_until(limit, || child.try_wait().ok().flatten()) else {
        let _ = child.kill();
        let _ = child.wait();
        let reason = format!("it did not answer within {} seconds", limit.as_secs());
        return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
    };
    let (stdout, stderr) = said.recv_timeout(limit).unwrap_or_default();
    Ok(Output { status, stdout, stderr })
}

fn all(stream: Option<impl io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What could be read counts.
    let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
    bytes
}

/// Gives a file, or a directory and all that is in it, to another user; links
/// are given, not followed.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn give(path: &Utf8Path, user: u32, group: u32) -> io::Result<()> {
    let failed = |error: io::Error| super::fs::named(&error, "cannot give away", path);
    let there = std::fs::symlink_metadata(path).map_err(failed)?;
    if (there.uid(), there.gid()) != (user, group) {
        std::os::unix::fs::lchown(path, Some(user), Some(group)).map_err(failed)?;
    }
    if there.is_dir() {
        for entry in path.read_dir_utf8().map_err(failed)? {
            give(entry.map_err(failed)?.path(), user, group)?;
        }
    }
    Ok(())
}
