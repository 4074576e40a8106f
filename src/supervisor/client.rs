//! Talking to the daemon, starting it where needed.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Paths;
use super::job::{self, Found};
use super::protocol::{Envelope, Failure, JobStatus, Reply, Request, VERSION};
use super::store::Store;
use crate::sys;
use crate::sys::clock::wait_until;

/// How long a daemon may take to come up.
const DAEMON_START: Duration = Duration::from_secs(10);

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon does not come up.
    #[error("the supervisor does not start; its log is {0}")]
    NotUp(camino::Utf8PathBuf),
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
    daemon: Vec<String>,
}

impl Client {
    /// Makes a client. `daemon` is the command that runs a daemon.
    pub fn new(paths: Paths, daemon: Vec<String>) -> Self {
        Self { paths, daemon }
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
        Ok(self.ask(&Request::Status, |_| {})?.jobs)
    }

    /// Asks for something and waits until it is done, reporting on the way.
    ///
    /// # Errors
    /// When a daemon cannot be reached or refuses.
    pub fn ask(&self, request: &Request, mut progress: impl FnMut(&JobStatus)) -> Result<Outcome, ClientError> {
        // A daemon of another version ends at the first request and leaves the jobs to its successor.
        for _ in 0..3 {
            let stream = self.connect()?;
            let envelope = Envelope {
                version: VERSION,
                build: build_id(),
                request: request.clone(),
            };
            let mut line = serde_json::to_string(&envelope).map_err(io::Error::other)?;
            line.push('\n');
            (&stream).write_all(line.as_bytes())?;
            let mut replies = BufReader::new(&stream).lines();
            loop {
                let Some(reply) = replies.next() else { break };
                match serde_json::from_str(&reply?) {
                    Ok(Reply::Progress(status)) => progress(&status),
                    Ok(Reply::Done { jobs, failures }) => return Ok(Outcome { jobs, failures }),
                    Ok(Reply::Refused(reason)) => return Err(ClientError::Refused(reason)),
                    Ok(Reply::Outdated) => break,
                    Err(error) => return Err(io::Error::other(error).into()),
                }
            }
            // It is ending; the socket goes with it.
            wait_until(DAEMON_START, || {
                UnixStream::connect(&self.paths.socket).is_err().then_some(())
            });
        }
        Err(ClientError::NotUp(self.paths.daemon_log()))
    }

    /// Stops jobs, if there are any. Returns nothing when nothing ran.
    ///
    /// # Errors
    /// When a daemon cannot be reached.
    pub fn stop(
        &self,
        names: Option<Vec<String>>,
        kill: bool,
        progress: impl FnMut(&JobStatus),
    ) -> Result<Option<Outcome>, ClientError> {
        if UnixStream::connect(&self.paths.socket).is_err() && !self.orphans()? {
            return Ok(None);
        }
        self.ask(&Request::Stop { names, kill }, progress).map(Some)
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

    fn connect(&self) -> Result<UnixStream, ClientError> {
        if let Ok(stream) = UnixStream::connect(&self.paths.socket) {
            return Ok(stream);
        }
        let log = self.paths.daemon_log();
        if let Some(parent) = log.parent() {
            sys::fs::create_dir(parent)?;
        }
        sys::fs::create_private_dir(&self.paths.state)?;
        let argv: Vec<&str> = self.daemon.iter().map(String::as_str).collect();
        let mut daemon = sys::process::spawn_detached(&argv, sys::fs::append(&log, 0o640)?)?;
        let connected = wait_until(DAEMON_START, || UnixStream::connect(&self.paths.socket).ok());
        // One that lost the race for the lock has ended already.
        let _ = daemon.try_wait();
        connected.ok_or(ClientError::NotUp(log))
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
