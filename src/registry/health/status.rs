//! What is wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sys::clock::monotonic;

/// How long a trouble is told of after it was seen.
const TOLD: Duration = Duration::from_secs(20);

/// What keeps the registry from doing all that it is there for, although it
/// answers. Unlike a check that fails, it turns nothing off: pulls go on where
/// they can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The storage has no room left.
    NoSpace,
    /// Nothing may be written to the storage.
    ReadOnlyStorage,
    /// The storage fails, or does not answer.
    Storage,
    /// The database is not available.
    Database,
    /// Events are not taken by whom they are for.
    Notifications,
}

impl Trouble {
    /// Returns its name, for the debug listener.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "storage_space",
            Self::ReadOnlyStorage => "storage_readonly",
            Self::Storage => "storage",
            Self::Database => "database",
            Self::Notifications => "notifications",
        }
    }

    /// Says what it means, to anybody: without names of hosts and files.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoSpace => "no space left on the registry's storage: pushes fail, pulls go on",
            Self::ReadOnlyStorage => "the registry's storage is read-only: pushes fail, pulls go on",
            Self::Storage => "the registry's storage fails or does not answer",
            Self::Database => "the metadata database is not available",
            Self::Notifications => "notifications do not reach their endpoint",
        }
    }

    /// Says that it is over.
    pub fn over(self) -> &'static str {
        match self {
            Self::NoSpace => "there is room on the registry's storage again",
            Self::ReadOnlyStorage => "the registry's storage takes writes again",
            Self::Storage => "the registry's storage answers again",
            Self::Database => "the metadata database is available again",
            Self::Notifications => "notifications reach their endpoint again",
        }
    }
}

/// What is wrong: by check, and what was noticed without any.
#[derive(Debug, Default)]
pub struct Health {
    unhealthy: AtomicBool,
    failing: Mutex<BTreeMap<String, String>>,
    /// With the exact reason, and when it was seen last.
    troubles: Mutex<BTreeMap<Trouble, (String, Instant)>>,
}

impl Health {
    /// Says whether all checks are well.
    pub fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// Returns what is wrong, by check.
    pub fn failing(&self) -> BTreeMap<String, String> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what a check came to.
    pub fn set(&self, name: &str, failure: Option<String>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => drop(failing.remove(name)),
            Some(reason) => drop(failing.insert(name.to_owned(), reason)),
        }
        self.unhealthy.store(!failing.is_empty(), Ordering::Relaxed);
    }

    /// Notes what a request, or a look, met with.
    pub fn note(&self, trouble: Trouble, reason: String) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.insert(trouble, (reason, monotonic()));
    }

    /// Notes that what a look met with is over.
    pub fn end(&self, trouble: Trouble) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.remove(&trouble);
    }

    /// Returns what was met with lately, each with its exact reason.
    pub fn troubles(&self) -> Vec<(Trouble, String)> {
        let now = monotonic();
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.retain(|_, (_, seen)| now.saturating_duration_since(*seen) < TOLD);
        troubles
            .iter()
            .map(|(trouble, (reason, _))| (*trouble, reason.clone()))
            .collect()
    }
}
