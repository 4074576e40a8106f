//! Events, and their delivery to endpoints.
//!
//! Handlers hand an event to a bounded queue per endpoint and go on: nothing
//! here ever blocks a push. Delivery is retried with growing pauses, but not
//! after an answer that says the request itself is wrong.

mod delivery;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use camino::Utf8Path;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::auth::Actor;
use super::config::Endpoint;
use super::metrics::Notifications;
use crate::serve::Logger;
use crate::sys::clock::Clock;
use delivery::Delivery;

/// Media type of an envelope.
pub const EVENTS: &str = "application/vnd.docker.distribution.events.v1+json";
/// How long undelivered events may hold up a stop; then they wait on disk.
const DRAIN: Duration = Duration::from_secs(1);

/// What happened to what.
#[derive(Clone, Debug)]
pub struct Event {
    /// `push`, `pull`, `mount`, `delete` or `rename`.
    pub action: &'static str,
    /// The repository.
    pub repository: String,
    /// Media type of the content; empty where it is not known.
    pub media_type: String,
    /// Digest of the content; empty for a deleted tag.
    pub digest: String,
    /// Size of the content in bytes.
    pub size: Option<u64>,
    /// The tag by which it was named.
    pub tag: Option<String>,
    /// The repository that it was mounted from.
    pub from_repository: Option<String>,
    /// What a manifest refers to, where that is asked for.
    pub references: Vec<Value>,
    /// How a repository was renamed: what of its path changed, from what, to what.
    pub rename: Option<[String; 3]>,
    /// Who did it.
    pub actor: Actor,
    /// Where the content is.
    pub url: String,
    /// Id of the request.
    pub request_id: String,
    /// Address, host, method and user agent of the request.
    pub request: [String; 4],
}

impl Event {
    fn envelope(&self, source: &str) -> Value {
        let mut target = serde_json::Map::new();
        let mut put = |key: &str, value: Value| {
            if !(value.is_null() || value.as_str() == Some("")) {
                target.insert(key.to_owned(), value);
            }
        };
        put("mediaType", self.media_type.as_str().into());
        put("digest", self.digest.as_str().into());
        put("size", self.size.into());
        put("length", self.size.into());
        put("repository", self.repository.as_str().into());
        put("fromRepository", self.from_repository.clone().into());
        put("url", self.url.as_str().into());
        put("tag", self.tag.clone().into());
        if !self.references.is_empty() {
            put("references", self.references.clone().into());
        }
        if let Some([kind, from, to]) = &self.rename {
            put("rename", json!({"type": kind, "from": from, "to": to}));
        }
        let mut actor = json!({"name": self.actor.name});
        for (key, value) in [("user_type", &self.actor.user_type), ("user", &self.actor.user)] {
            if let Some(value) = value {
                actor[key] = value.as_str().into();
            }
        }
        let [addr, host, method, useragent] = &self.request;
        json!({"events": [{
            "id": crate::serve::log::instance_id(),
            "timestamp": Clock::System.now().to_string(),
            "action": self.action,
            "target": target,
            "request": {"id": self.request_id, "addr": addr, "host": host, "method": method, "useragent": useragent},
            "actor": actor,
            "source": {"addr": source, "instanceID": ""},
        }]})
    }
}

/// Hands events to the endpoints' queues.
pub struct Notifier {
    sinks: Vec<Sink>,
    tasks: TaskTracker,
}

struct Sink {
    endpoint: Endpoint,
    sender: std::sync::Mutex<Option<mpsc::UnboundedSender<Event>>>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    pending: AtomicUsize,
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Notifier {
    /// Starts a delivery task per endpoint. Events that wait are kept in
    /// `directory`, where one is given.
    pub fn start(
        endpoints: &[Endpoint],
        directory: Option<&Utf8Path>,
        metrics: &Notifications,
        logger: &Logger,
    ) -> Self {
        let tasks = TaskTracker::new();
        let sinks = endpoints
            .iter()
            .map(|endpoint| {
                let (sender, receiver) = mpsc::unbounded_channel();
                let counters = Arc::<Counters>::default();
                let delivery = Delivery {
                    endpoint: endpoint.clone(),
                    counters: Arc::clone(&counters),
                    metrics: metrics.clone(),
                    logger: logger.clone(),
                    journal: None,
                    waiting: VecDeque::new(),
                };
                tasks.spawn(delivery.run(receiver, directory.map(Utf8Path::to_owned)));
                Sink {
                    endpoint: endpoint.clone(),
                    sender: std::sync::Mutex::new(Some(sender)),
                    counters,
                }
            })
            .collect();
        tasks.close();
        Self { sinks, tasks }
    }

    /// Queues an event for every endpoint that wants it.
    pub fn send(&self, event: &Event) {
        for sink in &self.sinks {
            let ignored = sink.endpoint.ignored_media_types.contains(&event.media_type)
                || sink
                    .endpoint
                    .ignored_actions
                    .iter()
                    .any(|action| action == event.action);
            if ignored {
                continue;
            }
            let sender = sink.sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // The channel has no bound of its own: what waits is counted.
            let room = sink.counters.pending.fetch_add(1, Ordering::Relaxed) < sink.endpoint.queue_limit;
            let sent = room && sender.as_ref().is_some_and(|sender| sender.send(event.clone()).is_ok());
            if !sent {
                sink.counters.pending.fetch_sub(1, Ordering::Relaxed);
                sink.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Says whether anybody listens.
    pub fn is_idle(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Returns the counters by endpoint.
    pub fn counters(&self) -> BTreeMap<String, Value> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.sinks
            .iter()
            .map(|sink| {
                let counters = &sink.counters;
                let value = json!({
                    "pending": counters.pending.load(Ordering::Relaxed),
                    "successes": read(&counters.delivered),
                    "failures": read(&counters.failed),
                    "dropped": read(&counters.dropped),
                });
                (sink.endpoint.name.clone(), value)
            })
            .collect()
    }

    /// Takes no more events and waits a moment for those under way. What is
    /// not delivered then waits on disk.
    pub async fn drain(&self) {
        for sink in &self.sinks {
            sink.sender
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take();
        }
        let _ = crate::sys::task::timeout(DRAIN, self.tasks.wait()).await;
    }
}
