//! Supervision of services: a daemon per root, its client, its protocol.
//!
//! The daemon never hears of `kdk.yml`: clients send whole job
//! specifications. It may be killed at any moment; the jobs go on, and the
//! next daemon takes them over ([`job`] says how it knows them).

pub mod client;
pub mod daemon;
pub mod job;
pub mod log;
pub mod probe;
pub mod protocol;
pub mod state;
pub mod store;
pub mod tail;

use camino::Utf8PathBuf;

/// Where a daemon keeps its things.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Directory for locks, pids and state; private.
    pub state: Utf8PathBuf,
    /// The socket that clients connect to.
    pub socket: Utf8PathBuf,
    /// Directory of the logs.
    pub logs: Utf8PathBuf,
}

impl Paths {
    /// Directory of the jobs' pid files and pipes.
    pub fn jobs(&self) -> Utf8PathBuf {
        self.state.join("jobs")
    }

    /// The pipe that a job writes to.
    pub fn pipe(&self, name: &str) -> Utf8PathBuf {
        self.jobs().join(format!("{name}.pipe"))
    }

    /// File whose lock makes a daemon the only one.
    pub fn lock(&self) -> Utf8PathBuf {
        self.state.join("supervisor.lock")
    }

    /// What survives the daemon.
    pub fn store(&self) -> Utf8PathBuf {
        self.state.join("supervisor.json")
    }

    /// The daemon's own log.
    pub fn daemon_log(&self) -> Utf8PathBuf {
        self.logs.join("kdk/supervisor.log")
    }

    /// What bounds the logs.
    pub fn log_limits(&self) -> Utf8PathBuf {
        self.state.join("logs.json")
    }

    /// A service's current log.
    pub fn log(&self, name: &str) -> Utf8PathBuf {
        self.logs.join(name).join("current")
    }
}
