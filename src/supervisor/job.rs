//! Starting a job's process, and knowing it again.
//!
//! A job has a pid file. The daemon locks it, forks, and the child writes its
//! pid into it before it becomes the service; the lock is shared with the
//! child and lasts as long as the child or any descendant holds the file
//! open. So "the lock is taken" means "the job runs", whichever daemon
//! started it and however that daemon ended.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::protocol::JobSpec;
use crate::sys::clock::wait_until;
use crate::sys::failpoint;
use crate::sys::fs::{SharedLock, read_optional};
use crate::sys::process::{self, Identity, SpawnSpec};
use crate::sys::running::output_within;
use nix::sys::signal::Signal;

/// How long it may take to end what a job left with somebody else.
const REMAINS: Duration = Duration::from_secs(20);

/// A process that belongs to a job.
pub enum Running {
    /// A child of this daemon.
    Child(Child),
    /// A process that an earlier daemon started.
    Adopted(Identity),
}

impl Running {
    /// Returns the process id.
    pub fn pid(&self) -> i32 {
        match self {
            Self::Child(child) => i32::try_from(child.id()).unwrap_or_default(),
            Self::Adopted(identity) => identity.pid,
        }
    }

    /// Waits until the leader has ended. Returns how, for people.
    pub fn wait(self) -> String {
        let pid = self.pid();
        match self {
            Self::Child(mut child) => match child.wait() {
                Ok(status) => status.to_string(),
                Err(error) => format!("ended ({error})"),
            },
            Self::Adopted(_) => {
                process::wait_gone(pid);
                "ended".to_owned()
            }
        }
    }
}

/// Makes sure that nothing is left of a job whose leader has ended: neither
/// its processes, nor what it has started through somebody else.
pub fn clean_up(group: i32, pid_file: &Utf8Path, ran: &JobSpec) {
    end_processes(group, pid_file);
    end_remains(ran);
}

/// Ends what is left of a group, and descendants that left the group but hold
/// the pid file.
pub fn end_processes(group: i32, pid_file: &Utf8Path) {
    end_group(group, Duration::from_secs(2));
    for pid in process::holders(pid_file) {
        process::signal_process(pid, Signal::SIGTERM);
    }
    if wait_until(Duration::from_secs(2), || {
        process::holders(pid_file).is_empty().then_some(())
    })
    .is_none()
    {
        for pid in process::holders(pid_file) {
            process::signal_process(pid, Signal::SIGKILL);
        }
    }
}

/// Runs the command that ends what a job may have left with somebody else.
pub fn end_remains(ran: &JobSpec) {
    let Some((program, arguments)) = ran.remains.split_first() else {
        return;
    };
    let mut command = Command::new(program);
    // Its own directory may be gone.
    command
        .args(arguments)
        .env_clear()
        .envs(ran.env.iter().cloned())
        .current_dir("/");
    // That there is nothing left is a failure to some.
    let _ = output_within(&mut command, REMAINS);
}

/// Asks what is left of a group to end, and kills it after `grace`.
pub fn end_group(group: i32, grace: Duration) {
    // There is no group 0: to signals that is whoever sends them.
    let gone = || (group <= 0 || !process::group_alive(group)).then_some(());
    if gone().is_some() {
        return;
    }
    process::signal_group(group, Signal::SIGTERM);
    if wait_until(grace, gone).is_none() {
        process::signal_group(group, Signal::SIGKILL);
        wait_until(Duration::from_secs(5), gone);
    }
}

/// Path of a job's pid file.
pub fn pid_file(jobs: &Utf8Path, name: &str) -> Utf8PathBuf {
    jobs.join(format!("{name}.pid"))
}

/// Starts a job. Nothing when it runs already, whoever started it.
///
/// # Errors
/// When the program cannot be started, with its name in the message.
pub fn start(spec: &JobSpec, jobs: &Utf8Path, output: OwnedFd) -> io::Result<Option<Child>> {
    // Somebody may be probing the lock this instant.
    let lock = wait_until(Duration::from_millis(200), || {
        SharedLock::try_take(&pid_file(jobs, &spec.name)).transpose()
    });
    let Some(lock) = lock.transpose()? else { return Ok(None) };
    failpoint::pass("daemon");
    let spawned = process::spawn(SpawnSpec {
        argv: &spec.argv,
        env: &spec.env,
        cwd: &spec.cwd,
        output,
        pid_file: lock.file(),
    });
    failpoint::pass("daemon");
    spawned
        .map(Some)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run {}: {error}", spec.program())))
}

/// What a pid file tells of a job.
pub enum Found {
    /// Nothing of it runs.
    Nothing,
    /// Its leader runs.
    Leader(Identity),
    /// Its leader is gone, but processes of its group are left.
    Leftovers(i32),
}

impl Found {
    /// Returns the group of which processes are left; 0 where there is none.
    pub fn group(&self) -> i32 {
        match self {
            Self::Nothing => 0,
            Self::Leader(identity) => identity.pid,
            Self::Leftovers(group) => *group,
        }
    }
}

/// Looks for a job that an earlier daemon started.
///
/// # Errors
/// When the pid file cannot be used.
pub fn find(jobs: &Utf8Path, name: &str, known: Option<&Identity>) -> io::Result<Found> {
    let path = pid_file(jobs, name);
    if !SharedLock::is_held(&path)? {
        // The lock is free: nothing that kept the file open is left. A
        // service that closed it is still known by its identity.
        return Ok(match known.filter(|identity| identity.is_alive()) {
            Some(identity) => Found::Leader(identity.clone()),
            None => Found::Nothing,
        });
    }
    // A child that was forked this instant has yet to write its pid.
    let pid = wait_until(Duration::from_secs(2), || {
        read_optional(&path).ok()??.trim().parse::<i32>().ok()
    });
    let Some(pid) = pid.or(known.map(|identity| identity.pid)) else {
        return Ok(Found::Nothing);
    };
    match Identity::of(pid) {
        Some(identity) if known.is_none_or(|known| known.pid != pid || *known == identity) => {
            Ok(Found::Leader(identity))
        }
        _ if process::group_alive(pid) => Ok(Found::Leftovers(pid)),
        _ => Ok(Found::Nothing),
    }
}

/// Returns the names of jobs that have a pid file.
pub fn names(jobs: &Utf8Path) -> Vec<String> {
    let Ok(entries) = jobs.read_dir_utf8() else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().strip_suffix(".pid").map(str::to_owned))
        .collect();
    found.sort();
    found
}
