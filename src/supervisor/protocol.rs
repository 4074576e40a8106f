//! What clients and the daemon say: one JSON object a line, each way.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::sys::signal::StopSignal;

/// Version of these messages and of the daemon's store. One more with every change.
pub const VERSION: u32 = 3;

/// A job: everything needed to run a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Its name, a single path component.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: Utf8PathBuf,
    /// How it is stopped.
    pub stop: StopSpec,
    /// When it counts as ready.
    pub ready: Ready,
    /// Jobs that must be ready before it starts, and stop after it.
    pub depends_on: Vec<String>,
    /// Command that ends what may be left of it beside its own processes, run
    /// once these have ended: program and arguments, or nothing.
    #[serde(default)]
    pub remains: Vec<String>,
    /// `host:port` that it will listen on; checked before it starts.
    pub listen: Option<String>,
    /// Address for people.
    pub address: String,
    /// Changes when the job would run differently.
    pub fingerprint: String,
}

impl JobSpec {
    /// Returns its program.
    pub fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }
}

/// How a job is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopSpec {
    /// The signal that asks it to end.
    pub signal: StopSignal,
    /// Seconds that it may take before it is killed.
    pub grace_seconds: u64,
}

/// When a job counts as ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// As soon as it runs.
    Running,
    /// When a URL answers, whatever the status.
    Http(String),
    /// When a command succeeds: program and arguments.
    Succeeds(Vec<String>),
    /// When a unix socket takes connections.
    Socket(Utf8PathBuf),
}

/// A request with its sender's version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// Version of the protocol.
    pub version: u32,
    /// Build of the sender's binary.
    pub build: String,
    /// What is asked for.
    pub request: Request,
}

/// What a client asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How are the jobs?
    Status,
    /// Start jobs that do not run; answer when all are ready or one has failed.
    Start {
        /// The jobs.
        jobs: Vec<JobSpec>,
        /// Seconds to wait at most.
        wait_seconds: u64,
    },
    /// Stop jobs that run, start them all; answer as to `Start`. One request,
    /// so that a client that goes away leaves nothing stopped.
    Restart {
        /// The jobs.
        jobs: Vec<JobSpec>,
        /// Seconds to wait at most, once they have ended.
        wait_seconds: u64,
    },
    /// Stop jobs; answer when they have ended.
    Stop {
        /// Their names; nothing means all, and the daemon ends too.
        names: Option<Vec<String>>,
        /// No grace: kill at once.
        kill: bool,
    },
    /// End, and leave the jobs running for a successor.
    HandOver,
}

/// What the daemon answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// A job's state changed while the client waits.
    Progress(JobStatus),
    /// The request is done, as far as it goes.
    Done {
        /// All jobs.
        jobs: Vec<JobStatus>,
        /// Jobs that did not become what was asked for, and why.
        failures: Vec<Failure>,
    },
    /// The daemon is of another version and ends; ask its successor.
    Outdated,
    /// The request cannot be carried out.
    Refused(String),
}

/// A job that did not become what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The job.
    pub name: String,
    /// Why.
    pub reason: String,
    /// The port that another process holds, when that is why.
    pub port_taken: Option<u16>,
}

/// What is known of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: StateName,
    /// More about the state, for people.
    pub detail: String,
    /// Its leader's process id, while it runs.
    pub pid: Option<i32>,
    /// Seconds since it was started, while it runs.
    pub uptime_seconds: Option<u64>,
    /// How often it was restarted after it ended by itself.
    pub restarts: u32,
    /// Address for people.
    pub address: String,
    /// Fingerprint of the specification that it runs as.
    pub fingerprint: String,
    /// Its program.
    pub program: String,
    /// When what runs counts as ready.
    pub ready: Ready,
}

impl JobStatus {
    /// Returns the status of a job that does not run.
    pub fn down(spec: &JobSpec) -> Self {
        Self {
            name: spec.name.clone(),
            state: StateName::Down,
            detail: String::new(),
            pid: None,
            uptime_seconds: None,
            restarts: 0,
            address: spec.address.clone(),
            fingerprint: spec.fingerprint.clone(),
            program: spec.program().to_owned(),
            ready: spec.ready.clone(),
        }
    }
}

/// The name of a job's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// Does not run, and should not.
    Down,
    /// Waits for jobs that it depends on.
    Waiting,
    /// Runs, and is not ready yet.
    Starting,
    /// Runs and is ready.
    Ready,
    /// Was asked to end.
    Stopping,
    /// Ended by itself, and is started again shortly.
    Backoff,
    /// Ends again and again.
    CrashLoop,
    /// Cannot be started.
    Failed,
}

impl StateName {
    /// Says whether a process runs.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Ready | Self::Stopping)
    }

    /// Returns the name for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "up",
            Self::Stopping => "stopping",
            Self::Backoff => "restarting",
            Self::CrashLoop => "crash loop",
            Self::Failed => "failed",
        }
    }
}
