//! Events, and their delivery to endpoints.
//!
//! Handlers hand an event to a bounded queue per endpoint and go on: nothing
//! here ever blocks a push. Delivery is retried with growing pauses, but not
//! after an answer that says the request itself is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::config::Endpoint;
use crate::serve::Logger;
use crate::sys::clock::Clock;

/// Media type of an envelope.
pub const EVENTS: &str = "application/vnd.docker.distribution.events.v1+json";
/// Events that wait for one endpoint at most; more are dropped and counted.
const QUEUE: usize = 3000;
/// How long undelivered events may hold up a stop.
const DRAIN: Duration = Duration::from_secs(5);

/// What happened to what.
#[derive(Clone, Debug)]
pub struct Event {
    /// `push`, `pull`, `mount` or `delete`.
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
    /// Who did it.
    pub actor: String,
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
        let [addr, host, method, useragent] = &self.request;
        json!({"events": [{
            "id": crate::serve::log::instance_id(),
            "timestamp": Clock::System.now().to_string(),
            "action": self.action,
            "target": target,
            "request": {"id": self.request_id, "addr": addr, "host": host, "method": method, "useragent": useragent},
            "actor": {"name": self.actor},
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
    sender: std::sync::Mutex<Option<mpsc::Sender<Event>>>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Notifier {
    /// Starts a delivery task per endpoint.
    pub fn start(endpoints: &[Endpoint], logger: &Logger) -> Self {
        let tasks = TaskTracker::new();
        let sinks = endpoints
            .iter()
            .map(|endpoint| {
                let (sender, receiver) = mpsc::channel(QUEUE);
                let counters = Arc::<Counters>::default();
                tasks.spawn(deliver_all(
                    endpoint.clone(),
                    receiver,
                    Arc::clone(&counters),
                    logger.clone(),
                ));
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
            if sender
                .as_ref()
                .is_none_or(|sender| sender.try_send(event.clone()).is_err())
            {
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
                let value = json!({"successes": read(&counters.delivered), "failures": read(&counters.failed), "dropped": read(&counters.dropped)});
                (sink.endpoint.name.clone(), value)
            })
            .collect()
    }

    /// Takes no more events and waits a moment for those under way.
    pub async fn drain(&self) {
        for sink in &self.sinks {
            sink.sender
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take();
        }
        let _ = tokio::time::timeout(DRAIN, self.tasks.wait()).await;
    }
}

async fn deliver_all(endpoint: Endpoint, mut events: mpsc::Receiver<Event>, counters: Arc<Counters>, logger: Logger) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    for (name, value) in &endpoint.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        } else {
            logger.warn(
                "a header of the notification endpoint is not valid and is left out",
                vec![("endpoint", endpoint.name.as_str().into())],
            );
        }
    }
    let local = url::Url::parse(&endpoint.url)
        .is_ok_and(|url| url.host_str().is_some_and(crate::sys::net::is_loopback_literal));
    let builder = reqwest::Client::builder();
    // A proxy is no way to this machine itself.
    let builder = if local { builder.no_proxy() } else { builder };
    let client = match builder.timeout(endpoint.timeout).default_headers(headers).build() {
        Ok(client) => client,
        Err(error) => {
            return logger.error(
                "notifications cannot be sent",
                vec![("error", error.to_string().into())],
            );
        }
    };
    while let Some(event) = events.recv().await {
        let body = event.envelope(&crate::sys::process::host_name()).to_string();
        let mut pause = endpoint.backoff;
        let mut tries = 0;
        let failure = loop {
            let reason = match client.post(&endpoint.url).body(body.clone()).send().await {
                Ok(answer) if answer.status().is_success() || answer.status().is_redirection() => break None,
                // The request itself is wrong: it would be so the next time.
                Ok(answer) if answer.status().is_client_error() && !matches!(answer.status().as_u16(), 408 | 429) => {
                    break Some(answer.status().to_string());
                }
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.without_url().to_string(),
            };
            tries += 1;
            if tries > endpoint.max_retries {
                break Some(reason);
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f32(1.5).min(Duration::from_mins(1));
        };
        match failure {
            None => drop(counters.delivered.fetch_add(1, Ordering::Relaxed)),
            Some(reason) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
                logger.error(
                    "error writing event",
                    vec![
                        ("endpoint", endpoint.name.as_str().into()),
                        ("action", event.action.into()),
                        ("error", reason.into()),
                    ],
                );
            }
        }
    }
}
