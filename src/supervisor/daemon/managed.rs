//! One job as the daemon sees it.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::supervisor::job::end_remains;
use crate::supervisor::log::NOTE;
use crate::supervisor::protocol::{JobSpec, JobStatus, Ready, StopSpec};
use crate::supervisor::state::{JobState, Phase};
use crate::supervisor::store::Stored;
use crate::sys;
use crate::sys::clock::{Clock, monotonic};
use crate::sys::process::Identity;
use crate::sys::signal::StopSignal;

/// How long a port that nobody is seen to hold may stay taken.
const PATIENCE: Duration = Duration::from_secs(1);

/// A job and all that is known of it.
pub struct Job {
    /// As what it should run.
    pub spec: JobSpec,
    /// As what it runs, while it does.
    pub running: Option<JobSpec>,
    /// Whether it should run.
    pub wanted: bool,
    /// What it does.
    pub state: JobState,
    /// Its process, while it runs.
    pub identity: Option<Identity>,
    /// When that process was started.
    pub started_at: Option<Timestamp>,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
    /// Failures in a row.
    pub failures: u32,
    /// How it ended the last time, for people.
    pub last_end: String,
    /// Whether its leader has ended, while others of its group have not.
    pub leader_gone: bool,
    /// Counts starts, so that messages about an earlier one are told apart.
    pub generation: u64,
    /// What it writes to.
    pub pipe: Option<File>,
    probe_cancelled: Arc<AtomicBool>,
}

impl Job {
    /// Makes a job that does not run.
    pub fn new(spec: JobSpec, wanted: bool, restarts: u32) -> Self {
        Self {
            spec,
            running: None,
            wanted,
            state: JobState::Down,
            identity: None,
            started_at: None,
            restarts,
            failures: 0,
            last_end: String::new(),
            leader_gone: false,
            generation: 0,
            pipe: None,
            probe_cancelled: Arc::default(),
        }
    }

    /// Returns the specification of what runs, or of what would.
    pub fn as_running(&self) -> &JobSpec {
        self.running.as_ref().unwrap_or(&self.spec)
    }

    /// Says whether a process of it runs.
    pub fn has_process(&self) -> bool {
        matches!(self.state, JobState::Alive { .. })
    }

    /// Says whether it runs and was not asked to end.
    pub fn is_running(&self) -> bool {
        matches!(
            self.state,
            JobState::Alive {
                phase: Phase::Starting | Phase::Ready,
                ..
            }
        )
    }

    /// Lets it run as specified, as soon as it can.
    pub fn ask(&mut self, spec: JobSpec) {
        self.spec = spec;
        self.wanted = true;
        match &mut self.state {
            JobState::Down | JobState::Failed { .. } | JobState::Backoff { .. } => {
                self.state = JobState::Waiting;
                self.failures = 0;
                self.restarts = 0;
            }
            // That it ended by itself a moment ago is not how this start goes.
            JobState::Alive {
                phase: phase @ Phase::Ending,
                ..
            } => *phase = Phase::Stopping { kill_at: None },
            _ => {}
        }
    }

    /// Asks it to end, if it runs; returns how long that may take.
    pub fn stop(&mut self) -> Duration {
        if !self.is_running() {
            return Duration::ZERO;
        }
        self.cancel_probe();
        let grace = Duration::from_secs(self.as_running().stop.grace_seconds);
        let signal = self.as_running().stop.signal.os();
        if let JobState::Alive { pid, phase, .. } = &mut self.state {
            sys::process::signal_group(*pid, signal);
            *phase = Phase::Stopping {
                kill_at: Some(monotonic() + grace),
            };
        }
        grace
    }

    /// Ends the readiness probe under way.
    pub fn cancel_probe(&self) {
        self.probe_cancelled.store(true, Ordering::Relaxed);
    }

    /// Returns the switch that ends a new readiness probe.
    pub fn new_probe(&mut self) -> Arc<AtomicBool> {
        self.cancel_probe();
        self.probe_cancelled = Arc::default();
        Arc::clone(&self.probe_cancelled)
    }

    /// Tells in the job's own log what happened to it, where nothing of its own can.
    pub fn note(&self, text: &str) {
        if let Some(mut pipe) = self.pipe.as_ref() {
            // What cannot be told there is in the status still.
            let _ = pipe.write_all(format!("{NOTE}{text}\n").as_bytes());
        }
    }

    /// Returns what a successor must know of it.
    pub fn stored(&self) -> Stored {
        Stored {
            spec: self.spec.clone(),
            running: self.running.clone(),
            wanted: self.wanted,
            process: self.identity.clone(),
            started_at: self.started_at,
            restarts: self.restarts,
        }
    }

    /// Describes the job.
    pub fn status(&self) -> JobStatus {
        let wait = |until: std::time::Instant| until.saturating_duration_since(monotonic()).as_secs() + 1;
        let detail = match &self.state {
            JobState::Failed { reason, until, .. } if self.wanted => format!("{reason}; next try in {}s", wait(*until)),
            JobState::Failed { reason, .. } => reason.clone(),
            JobState::Backoff { until } => format!("{}; next try in {}s", self.last_end, wait(*until)),
            JobState::Waiting if !self.spec.depends_on.is_empty() => format!("for {}", self.spec.depends_on.join(", ")),
            JobState::Alive {
                phase: Phase::Starting, ..
            } => "not ready yet".to_owned(),
            JobState::Alive {
                phase: Phase::Ending, ..
            } => self.last_end.clone(),
            _ => String::new(),
        };
        let uptime_seconds = match self.state {
            // By the wall clock: the job may be older than this daemon.
            JobState::Alive { .. } => self
                .started_at
                .map(|at| u64::try_from(Clock::System.now().duration_since(at).as_secs()).unwrap_or(0)),
            _ => None,
        };
        JobStatus {
            name: self.spec.name.clone(),
            state: self.state.name(self.failures),
            detail,
            pid: self.state.pid().filter(|_| !self.leader_gone),
            uptime_seconds,
            restarts: self.restarts,
            address: self.as_running().address.clone(),
            fingerprint: self.as_running().fingerprint.clone(),
            program: self.as_running().program().to_owned(),
            ready: self.as_running().ready.clone(),
        }
    }
}

/// Returns how a running job can be run again, by what the system tells of
/// it. Its fingerprint is nobody's, so that the next reconfigure restarts it.
pub fn reconstruct(name: &str, pid: i32) -> Option<JobSpec> {
    let started = sys::process::started_with(pid)?;
    Some(JobSpec {
        name: name.to_owned(),
        argv: started.argv,
        env: started.env,
        cwd: started.cwd,
        stop: StopSpec {
            signal: StopSignal::Term,
            grace_seconds: 20,
        },
        ready: Ready::Running,
        depends_on: Vec::new(),
        remains: Vec::new(),
        listen: None,
        address: String::new(),
        fingerprint: String::new(),
    })
}

/// Checks that a job will be able to listen; names who is in its way.
pub fn check_address(spec: &JobSpec) -> Result<(), (String, Option<u16>)> {
    may_listen(spec).or_else(|taken| {
        if spec.remains.is_empty() {
            return Err(taken);
        }
        // Perhaps what holds it is left of the job itself.
        end_remains(spec);
        may_listen(spec)
    })
}

fn may_listen(spec: &JobSpec) -> Result<(), (String, Option<u16>)> {
    let Some((host, port)) = spec.listen.as_deref().and_then(|listen| listen.rsplit_once(':')) else {
        return Ok(());
    };
    let Ok(port) = port.parse::<u16>() else { return Ok(()) };
    let address = sys::net::own_address(host).map_err(|reason| (reason, None))?;
    let address = SocketAddr::new(address, port);
    // What is held by nobody any more is free in a moment: its process is
    // ending, or somebody else was looking, too.
    let outcome = sys::clock::wait_until(PATIENCE, || {
        let outcome = sys::net::try_listen(address);
        let taken = matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::AddrInUse);
        let holder = taken.then(|| sys::net::port_holder(port)).flatten();
        (!taken || holder.is_some()).then_some((outcome, holder))
    });
    match outcome {
        Some((Ok(()), _)) => Ok(()),
        Some((Err(error), None)) => Err((format!("cannot listen on {host}:{port}: {error}"), None)),
        taken => {
            let by = taken.and_then(|(_, holder)| holder).map_or_else(
                || "another process".to_owned(),
                |holder| format!("{} (process {})", holder.name, holder.pid),
            );
            Err((format!("port {port} is taken by {by}"), Some(port)))
        }
    }
}
