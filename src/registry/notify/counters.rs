//! What became of the events of an endpoint.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::registry::metrics::{EndpointLabel, Notifications, Sent};

/// Counts the events of one endpoint.
pub struct Counters {
    endpoint: String,
    metrics: Notifications,
    pending: AtomicI64,
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    /// Why the last event was not taken, when it was not.
    failing: Mutex<Option<String>>,
}

impl Counters {
    /// Begins to count.
    pub fn new(endpoint: &str, metrics: &Notifications) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            metrics: metrics.clone(),
            pending: AtomicI64::new(0),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failing: Mutex::default(),
        }
    }

    /// Counts events that wait; returns how many did before.
    pub fn wait(&self, more: i64) -> i64 {
        let before = self.pending.fetch_add(more, Ordering::Relaxed);
        let label = EndpointLabel {
            endpoint: self.endpoint.clone(),
        };
        self.metrics.pending.get_or_create(&label).set(before + more);
        before
    }

    /// Notes whether the endpoint takes events, and why not.
    pub fn set_failing(&self, reason: Option<&str>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        *failing = reason.map(|reason| format!("{}: {reason}", self.endpoint));
    }

    /// Returns why the endpoint does not take events, when it does not.
    pub fn failing(&self) -> Option<String> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts an event that came.
    pub fn came(&self) {
        self.count("Events");
    }

    /// Counts an event that was delivered.
    pub fn delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        self.count("Successes");
    }

    /// Counts an event that was given up.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.count("Failures");
    }

    /// Counts an event for which there was no room; returns how many those are.
    pub fn dropped(&self) -> u64 {
        self.count("Dropped");
        self.dropped.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn count(&self, kind: &'static str) {
        let labels = Sent {
            endpoint: self.endpoint.clone(),
            r#type: kind,
        };
        self.metrics.events.get_or_create(&labels).inc();
    }

    /// Returns all as `/debug/vars` has it.
    pub fn to_json(&self) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "pending": self.pending.load(Ordering::Relaxed),
            "successes": read(&self.delivered),
            "failures": read(&self.failed),
            "dropped": read(&self.dropped),
        })
    }
}
