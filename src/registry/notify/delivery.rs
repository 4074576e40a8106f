//! Delivering the events of one endpoint, one after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use camino::Utf8PathBuf;
use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;

use super::{Counters, EVENTS, Event};
use crate::registry::config::Endpoint;
use crate::registry::metrics::{Notifications, Sent};
use crate::registry::state::journal::Journal;
use crate::serve::Logger;

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The deliveries to one endpoint.
pub struct Delivery {
    pub endpoint: Endpoint,
    pub counters: Arc<Counters>,
    pub metrics: Notifications,
    pub logger: Logger,
    pub journal: Option<Journal>,
    /// Envelopes that wait, the oldest first.
    pub waiting: VecDeque<String>,
}

impl Delivery {
    /// Delivers until the channel is closed and nothing waits.
    pub async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>, directory: Option<Utf8PathBuf>) {
        if let Some(directory) = directory {
            let name = self.endpoint.name.clone();
            let opening = crate::sys::task::blocking(move || Journal::open(&directory, &name));
            match opening.await.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
                Ok((journal, waiting)) => {
                    self.counters.pending.fetch_add(waiting.len(), Ordering::Relaxed);
                    self.waiting = waiting.into();
                    self.journal = Some(journal);
                }
                Err(error) => self.logger.warn(
                    "notifications that wait will not survive a restart",
                    vec![("error", error.to_string().into())],
                ),
            }
        }
        let client = match client(&self.endpoint, &self.logger) {
            Ok(client) => client,
            Err(error) => {
                return self.logger.error(
                    "notifications cannot be sent",
                    vec![("error", error.to_string().into())],
                );
            }
        };
        let source = crate::sys::process::host_name();
        let mut open = true;
        while open || !self.waiting.is_empty() {
            let Some(oldest) = self.waiting.front().cloned() else {
                match events.recv().await {
                    Some(event) => self.add(&event, &source).await,
                    None => open = false,
                }
                continue;
            };
            let endpoint = self.endpoint.clone();
            let delivering = deliver(&client, &endpoint, oldest);
            tokio::pin!(delivering);
            let failure = loop {
                tokio::select! {
                    failure = &mut delivering => break failure,
                    event = events.recv(), if open => match event {
                        Some(event) => self.add(&event, &source).await,
                        None => open = false,
                    },
                }
            };
            self.settle(failure).await;
        }
    }

    async fn add(&mut self, event: &Event, source: &str) {
        self.count("Events");
        let envelope = event.envelope(source).to_string();
        let line = envelope.clone();
        self.note(move |journal| journal.add(&line)).await;
        self.waiting.push_back(envelope);
    }

    /// Counts the oldest event as delivered or given up.
    async fn settle(&mut self, failure: Option<String>) {
        let event = self.waiting.pop_front();
        self.counters.pending.fetch_sub(1, Ordering::Relaxed);
        let left = self.waiting.len();
        self.note(move |journal| journal.done(left)).await;
        let Some(reason) = failure else {
            self.counters.delivered.fetch_add(1, Ordering::Relaxed);
            return self.count("Successes");
        };
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        self.count("Failures");
        let event: serde_json::Value = event
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        self.logger.error(
            "error writing event",
            vec![
                ("endpoint", self.endpoint.name.as_str().into()),
                ("action", event["events"][0]["action"].clone()),
                ("error", reason.into()),
            ],
        );
    }

    fn count(&self, kind: &'static str) {
        let labels = Sent {
            endpoint: self.endpoint.name.clone(),
            r#type: kind,
        };
        self.metrics.get_or_create(&labels).inc();
    }

    /// Writes to the journal, on a thread that may wait for the disk.
    async fn note(&mut self, work: impl FnOnce(&mut Journal) -> std::io::Result<()> + Send + 'static) {
        let Some(mut journal) = self.journal.take() else { return };
        let writing = crate::sys::task::blocking(move || {
            let outcome = work(&mut journal);
            (journal, outcome)
        });
        if let Ok((journal, outcome)) = writing.await {
            if let Err(error) = outcome {
                self.logger.warn(
                    "a notification that waits cannot be kept on disk",
                    vec![("error", error.to_string().into())],
                );
            }
            self.journal = Some(journal);
        }
    }
}

/// Sends an envelope until it is taken, refused for good, or given up;
/// returns why it was not taken.
async fn deliver(client: &Client, endpoint: &Endpoint, body: String) -> Option<String> {
    let mut pause = endpoint.backoff;
    let mut tries = 0;
    loop {
        let reason = match client.post(&endpoint.url).body(body.clone()).send().await {
            Ok(answer) if answer.status().is_success() || answer.status().is_redirection() => return None,
            // The request itself is wrong: it would be so the next time.
            Ok(answer) if answer.status().is_client_error() && !matches!(answer.status().as_u16(), 408 | 429) => {
                return Some(answer.status().to_string());
            }
            Ok(answer) => answer.status().to_string(),
            Err(error) => error.without_url().to_string(),
        };
        tries += 1;
        if tries > endpoint.max_retries {
            return Some(reason);
        }
        crate::sys::task::sleep(pause).await;
        pause = pause.mul_f32(1.5).min(LONGEST_PAUSE);
    }
}

fn client(endpoint: &Endpoint, logger: &Logger) -> reqwest::Result<Client> {
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
    let builder = Client::builder();
    // A proxy is no way to this machine itself.
    let builder = if local { builder.no_proxy() } else { builder };
    builder.timeout(endpoint.timeout).default_headers(headers).build()
}
