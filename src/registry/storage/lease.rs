//! Who may write to a storage.
//!
//! A storage of files has one writer at a time: a server, or offline work.
//! It holds the storage's lease, and others find there who it is. Whoever
//! only reads needs none.

use std::fmt;
use std::io;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

/// What the holder of a lease does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// It serves.
    Serve,
    /// It ends what it has begun to serve, and takes nothing new.
    Drain,
    /// It collects garbage.
    Collect,
    /// It mends what a check found.
    Repair,
    /// It imports metadata into a database.
    Import,
    /// It changes what the storage says of itself.
    Mark,
}

impl Work {
    /// Says whether it comes to an end by itself.
    pub fn ends(self) -> bool {
        self != Self::Serve
    }
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// What it does.
    pub work: Work,
    /// The address that it serves on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The socket on which it takes requests from this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Utf8PathBuf>,
}

impl Holder {
    /// Describes this process.
    pub fn own(work: Work) -> Self {
        Self {
            pid: std::process::id(),
            work,
            address: None,
            socket: None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.work {
            Work::Serve => "a registry",
            Work::Drain => "a registry that is stopping",
            Work::Collect => "a garbage collection",
            Work::Repair => "a repair",
            Work::Import => "an import",
            Work::Mark => "a command",
        };
        write!(formatter, "{what} (pid {}", self.pid)?;
        if let Some(address) = &self.address {
            write!(formatter, ", {address}")?;
        }
        formatter.write_str(")")
    }
}

/// Why a lease cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another process has it; nothing where it cannot be told which.
    #[error("{} writes to this storage", holder(.0.as_ref()))]
    Held(Option<Holder>),
    /// Nobody of this user can have it: what would say so cannot be written.
    #[error(transparent)]
    Unwritable(io::Error),
    /// The system refused something else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Names a holder as far as it is known.
pub fn holder(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), ToString::to_string)
}
