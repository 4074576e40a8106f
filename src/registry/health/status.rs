//! What is wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is wrong, by check.
#[derive(Debug, Default)]
pub struct Health {
    unhealthy: AtomicBool,
    failing: Mutex<BTreeMap<String, String>>,
}

impl Health {
    /// Says whether all is well.
    pub fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// Returns what is wrong.
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
}
