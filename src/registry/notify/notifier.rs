//! Handing events to the endpoints' queues.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::counters::Counters;
use super::delivery::{Delivery, Queued};
use super::event::Event;
use crate::registry::config::Endpoint;
use crate::registry::metrics::Notifications;
use crate::sys::clock::monotonic;
use crate::sys::task;

/// How long undelivered events may hold up a stop; then they wait on disk.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a change waits for its event to be kept: a disk that hangs holds
/// it up anyway.
const KEEP_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is said that there is no room.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Hands events to the endpoints' queues.
pub struct Notifier {
    subscriptions: Vec<Subscription>,
    tasks: TaskTracker,
}

struct Subscription {
    endpoint: Endpoint,
    sender: Mutex<Option<mpsc::UnboundedSender<Queued>>>,
    counters: Arc<Counters>,
    /// When it was last said that there is no room.
    told: Mutex<Option<Instant>>,
}

impl Subscription {
    fn wants(&self, event: &Event) -> bool {
        let endpoint = &self.endpoint;
        !endpoint.ignored_media_types.contains(&event.media_type)
            && !endpoint.ignored_actions.iter().any(|action| action == event.action)
    }

    /// Queues an event; returns what tells that it is kept.
    fn send(&self, event: &Event) -> Option<oneshot::Receiver<()>> {
        let limit = i64::try_from(self.endpoint.queue_limit).unwrap_or(i64::MAX);
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, is_kept) = oneshot::channel();
        let queued = Queued {
            event: event.clone(),
            kept,
        };
        // The channel has no bound of its own: what waits is counted.
        let has_room = self.counters.wait(1) < limit;
        if has_room && sender.as_ref().is_some_and(|sender| sender.send(queued).is_ok()) {
            return Some(is_kept);
        }
        self.counters.wait(-1);
        let dropped = self.counters.dropped();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() > LOG_INTERVAL) {
            *told = Some(monotonic());
            let why = if has_room {
                "the server is stopping"
            } else {
                "the queue is full (queuesizelimit)"
            };
            tracing::error!(
                endpoint = %self.endpoint.name,
                waiting = limit,
                dropped,
                "a notification was dropped: {why}"
            );
        }
        None
    }
}

impl Notifier {
    /// Starts a delivery task per endpoint. Events that wait are kept in
    /// `directory`, where one is given.
    pub fn start(endpoints: &[Endpoint], directory: Option<&Utf8Path>, metrics: &Notifications) -> Self {
        let tasks = TaskTracker::new();
        let subscriptions = endpoints
            .iter()
            .map(|endpoint| {
                let (sender, receiver) = mpsc::unbounded_channel();
                let counters = Arc::new(Counters::new(&endpoint.name, metrics));
                let directory = directory.map(Utf8Path::to_owned);
                let delivery = Delivery::new(endpoint.clone(), Arc::clone(&counters), directory);
                tasks.spawn(delivery.run(receiver));
                Subscription {
                    endpoint: endpoint.clone(),
                    sender: Mutex::new(Some(sender)),
                    counters,
                    told: Mutex::default(),
                }
            })
            .collect();
        tasks.close();
        Self { subscriptions, tasks }
    }

    /// Queues an event for every endpoint that wants it.
    pub fn send(&self, event: &Event) {
        for subscription in self.subscriptions.iter().filter(|one| one.wants(event)) {
            subscription.send(event);
        }
    }

    /// Does so, and waits until the event would survive the end of this
    /// process: nobody hears of a change whose event may be lost.
    pub async fn send_kept(&self, event: &Event) {
        let wanting = self.subscriptions.iter().filter(|one| one.wants(event));
        let kept: Vec<_> = wanting.filter_map(|one| one.send(event)).collect();
        let _ = task::timeout(KEEP_TIMEOUT, futures_util::future::join_all(kept)).await;
    }

    /// Says whether anybody listens.
    pub fn is_idle(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// Returns which endpoints do not take events, each with the reason.
    pub fn failing(&self) -> Vec<String> {
        self.subscriptions
            .iter()
            .filter_map(|one| one.counters.failing())
            .collect()
    }

    /// Returns the counters by endpoint.
    pub fn counters(&self) -> BTreeMap<String, Value> {
        let all = self.subscriptions.iter();
        all.map(|one| (one.endpoint.name.clone(), one.counters.to_json()))
            .collect()
    }

    /// Takes no more events and waits a moment for those under way. What is
    /// not delivered then waits on disk.
    pub async fn drain(&self) {
        for one in &self.subscriptions {
            one.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        let _ = task::timeout(DRAIN_TIMEOUT, self.tasks.wait()).await;
    }
}
