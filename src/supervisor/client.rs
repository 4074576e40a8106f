//! Talking to the daemon, starting it where needed.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::Paths;
use super::job::{self, Found};
use super::protocol::{Envelope, Failure, JobStatus, Reply, Request, StateName, VERSION};
use super::store::Store;
use crate::sys;
use crate::sys::clock::monotonic;

/// How long a daemon may take to come up.
const DAEMON_START: Duration = Duration::from_secs(10);

/// How long a daemon may take to say anything at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a daemon that has just taken over may take to see how jobs are.
const SETTLE: Duration = Duration::from_secs(1);

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon does not come up.
    #[error("the supervisor does not start; its log is {0}")]
    NotUp(camino::Utf8PathBuf),
    /// The daemon runs, and says nothing: it is stopped (SIGSTOP), or traced.
    #[error("the supervisor{} has said nothing for {} seconds", .0.map_or(String::new(), |pid| format!(" (process {pid})")), PATIENCE.as_secs())]
    Silent(Option<i32>),
    /// The connection failed.
    #[error("cannot talk to the supervisor: {0}")]
    Io(#[from] io::Error),
    /// The daemon did not do it.
    #[error("the supervisor refuses: {0}")]
    Refused(String),
}

/// What came of a request.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// All jobs.
    pub jobs: Vec<JobStatus>,
    /// Jobs that did not become what was asked for.
    pub failures: Vec<Failure>,
}

/// A way to the daemon of a root.
#[derive(Clone, Debug)]
pub struct Client {
    paths: Paths,
    command: Vec<String>,
}

impl Client {
    /// Makes a client. `command` runs a daemon.
    pub fn new(paths: Paths, command: Vec<String>) -> Self {
        Self { paths, command }
    }

    /// Returns the state of all jobs. Starts a daemon only when jobs run
    /// without one, to take them over.
    ///
    /// # Errors
    /// When a daemon cannot be reached.
    pub fn status(&self) -> Result<Vec<JobStatus>, ClientError> {
        if UnixStream::connect(&self.paths.socket).is_err() && !self.orphans()? {
            let store = Store::load(&self.paths.store())?;
            return Ok(store
                .jobs
                .into_values()
                .map(|stored| JobStatus::down(&stored.spec))
                .collect());
        }
        let mut is_fresh = UnixStream::connect(&self.paths.socket).is_err();
        let deadline = monotonic() + SETTLE;
        loop {
            let (outcome, was_replaced) = self.ask_any(&Request::Status, |_| {})?;
            let jobs = outcome.jobs;
            is_fresh |= was_replaced;
            // A daemon that has just taken over has yet to see that jobs are ready.
            let settling = is_fresh && jobs.iter().any(|job| job.state == StateName::Starting);
            if !settling || monotonic() >= deadline {
                return Ok(jobs);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks for something and waits until it is done, reporting on the way.
    ///
    /// A daemon that ends meanwhile, as one of another version does, leaves
    /// the jobs to its successor, which is asked again: requests say how
    /// things should be, so asking twice does no harm.
    ///
    /// # Errors
    /// When a daemon cannot be reached, says nothing, or refuses.
    pub fn ask(&self, request: &Request, progress: impl FnMut(&JobStatus)) -> Result<Outcome, ClientError> {
        self.ask_any(request, progress).map(|(outcome, _)| outcome)
    }

    /// Does so; says also whether the daemon that answered took over from another.
    fn ask_any(&self, request: &Request, mut progress: impl FnMut(&JobStatus)) -> Result<(Outcome, bool), ClientError> {
        let mut was_replaced = false;
        let deadline = monotonic() + DAEMON_START;
        loop {
            let (stream, is_new) = self.connect()?;
            // One that was just started may have to end what an earlier one left.
            let patience = if is_new { DAEMON_START * 3 } else { PATIENCE };
            if let Some(outcome) = self.exchange(&stream, request, patience, &mut progress)? {
                return Ok((outcome, was_replaced));
            }
            was_replaced = true;
            if monotonic() >= deadline {
                return Err(ClientError::NotUp(self.paths.daemon_log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a request and reads until it is done; nothing when the daemon ended before.
    fn exchange(
        &self,
        stream: &UnixStream,
        request: &Request,
        patience: Duration,
        progress: &mut impl FnMut(&JobStatus),
    ) -> Result<Option<Outcome>, ClientError> {
        let envelope = Envelope {
            version: VERSION,
            build: build_id(),
            request: request.clone(),
        };
        let mut line = serde_json::to_string(&envelope).map_err(io::Error::other)?;
        line.push('\n');
        let mut writer = stream;
        sys::failpoint::pass("client");
        if writer.write_all(line.as_bytes()).is_err() {
            return Ok(None);
        }
        sys::failpoint::pass("client");
        // What is asked for may take long; how things are is said at once.
        // One that has hung up already says so when it is read from.
        let _ = stream.set_read_timeout(Some(patience));
        for reply in BufReader::new(stream).lines() {
            sys::failpoint::pass("client");
            let reply = match reply {
                Ok(reply) => reply,
                // That is how a socket's timeout ends.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ClientError::Silent(self.daemon()));
                }
                Err(_) => return Ok(None),
            };
            let _ = stream.set_read_timeout(None);
            match serde_json::from_str(&reply) {
                Ok(Reply::Progress(status)) => progress(&status),
                Ok(Reply::Done { jobs, failures }) => return Ok(Some(Outcome { jobs, failures })),
                Ok(Reply::Refused(reason)) => return Err(ClientError::Refused(reason)),
                // Or of a version whose words are not ours.
                Ok(Reply::Outdated) | Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Stops jobs, if there are any. Returns nothing when nothing ran. To kill
    /// them, a daemon that says nothing is killed first.
    ///
    /// # Errors
    /// When a daemon cannot be reached.
    pub fn stop(
        &self,
        names: Option<Vec<String>>,
        kill: bool,
        mut progress: impl FnMut(&JobStatus),
    ) -> Result<Option<Outcome>, ClientError> {
        if UnixStream::connect(&self.paths.socket).is_err() && !self.orphans()? {
            // Jobs that should run, but do not, must not come back with the next daemon.
            let store = Store::load(&self.paths.store())?;
            if !store.jobs.values().any(|stored| stored.wanted) {
                return Ok(None);
            }
        }
        let request = Request::Stop { names, kill };
        match self.ask(&request, &mut progress) {
            Err(ClientError::Silent(Some(pid))) if kill => {
                sys::process::signal_process(pid, Signal::SIGKILL);
                sys::process::wait_gone(pid);
                self.ask(&request, progress).map(Some)
            }
            outcome => outcome.map(Some),
        }
    }

    /// Returns the daemon's process id: it is the one that has the lock open.
    fn daemon(&self) -> Option<i32> {
        let lock = self.paths.lock();
        let written = || sys::fs::read_optional(&lock).ok()??.trim().parse().ok();
        sys::process::holders(&lock).first().copied().or_else(written)
    }

    /// Says whether jobs run that no daemon looks after.
    fn orphans(&self) -> io::Result<bool> {
        let jobs = self.paths.jobs();
        let store = Store::load(&self.paths.store())?;
        for name in job::names(&jobs) {
            let known = store.jobs.get(&name).and_then(|stored| stored.process.as_ref());
            if !matches!(job::find(&jobs, &name, known)?, Found::Nothing) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Connects; says also whether a daemon was started for that.
    fn connect(&self) -> Result<(UnixStream, bool), ClientError> {
        if let Some(parent) = self.paths.socket.parent().filter(|parent| parent.exists()) {
            // A socket away from the root lies where others may make directories.
            sys::fs::create_private_dir(parent)?;
        }
        let log = self.paths.daemon_log();
        let deadline = monotonic() + DAEMON_START;
        let mut daemon: Option<std::process::Child> = None;
        loop {
            if let Ok(stream) = UnixStream::connect(&self.paths.socket) {
                return Ok((stream, daemon.is_some()));
            }
            // One that found the lock taken by a daemon that was ending has ended too.
            let ended = daemon
                .as_mut()
                .is_none_or(|daemon| daemon.try_wait().is_ok_and(|status| status.is_some()));
            if ended {
                if let Some(parent) = log.parent() {
                    sys::fs::create_dir(parent)?;
                }
                sys::fs::create_private_dir(&self.paths.state)?;
                let argv: Vec<&str> = self.command.iter().map(String::as_str).collect();
                daemon = Some(sys::process::spawn_detached(&argv, sys::fs::append(&log, 0o640)?)?);
            }
            if monotonic() >= deadline {
                return Err(ClientError::NotUp(log));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Names the build of this binary, so that a daemon of an older one gives way.
pub fn build_id() -> String {
    let modified = sys::env::current_exe()
        .and_then(|path| std::fs::metadata(path)?.modified())
        .ok()
        .and_then(|time| jiff::Timestamp::try_from(time).ok())
        .map_or(0, jiff::Timestamp::as_nanosecond);
    format!("{}-{modified}", env!("CARGO_PKG_VERSION"))
}
