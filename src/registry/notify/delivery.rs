//! Delivering the events of one endpoint, one after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, redirect};
use tokio::sync::{mpsc, oneshot};

use super::counters::Counters;
use super::event::{EVENTS, Event};
use crate::registry::config::Endpoint;
use crate::registry::state::journal::Journal;
use crate::sys::clock::monotonic;
use crate::sys::task;

/// Longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// How often it is said that an endpoint does not answer.
const LOG_INTERVAL: Duration = Duration::from_mins(5);

/// An event on its way into a queue.
pub struct Queued {
    /// The event.
    pub event: Event,
    /// Hears that it is kept, or cannot be.
    pub kept: oneshot::Sender<()>,
}

/// The deliveries to one endpoint.
pub struct Delivery {
    endpoint: Endpoint,
    counters: Arc<Counters>,
    journal: Option<Journal>,
    /// Where the journal is, where there is to be one.
    directory: Option<Utf8PathBuf>,
    /// Envelopes that wait, the oldest first, and whether they are in the journal.
    waiting: VecDeque<(String, bool)>,
}

impl Delivery {
    /// Makes the deliveries to an endpoint.
    pub fn new(endpoint: Endpoint, counters: Arc<Counters>, directory: Option<Utf8PathBuf>) -> Self {
        Self {
            endpoint,
            counters,
            journal: None,
            directory,
            waiting: VecDeque::new(),
        }
    }

    /// Delivers until the channel is closed and nothing waits.
    pub async fn run(mut self, mut events: mpsc::UnboundedReceiver<Queued>) {
        self.open_journal().await;
        let client = match client(&self.endpoint) {
            Ok(client) => client,
            Err(error) => return tracing::error!(error = %error, "notifications cannot be sent"),
        };
        let mut sender = Sender::new(client, self.endpoint.clone(), Arc::clone(&self.counters));
        let source = crate::sys::process::host_name();
        let mut open = true;
        while open || !self.waiting.is_empty() {
            let Some((oldest, _)) = self.waiting.front().cloned() else {
                match events.recv().await {
                    Some(queued) => self.add(queued, &source).await,
                    None => open = false,
                }
                continue;
            };
            let delivering = sender.deliver(oldest);
            tokio::pin!(delivering);
            let failure = loop {
                tokio::select! {
                    failure = &mut delivering => break failure,
                    event = events.recv(), if open => match event {
                        Some(queued) => self.add(queued, &source).await,
                        None => open = false,
                    },
                }
            };
            self.record_outcome(failure).await;
        }
    }

    async fn open_journal(&mut self) {
        let Some(directory) = self.directory.clone() else {
            return;
        };
        let name = self.endpoint.name.clone();
        let opening = task::blocking(move || Journal::open(&directory, &name));
        match opening.await.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
            Ok((journal, waiting)) => {
                self.counters.wait(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
                self.waiting = waiting.into_iter().map(|event| (event, true)).collect();
                self.journal = Some(journal);
            }
            Err(error) => tracing::warn!(
                endpoint = %self.endpoint.name,
                error = %error,
                "notifications that wait will not survive a restart"
            ),
        }
    }

    async fn add(&mut self, queued: Queued, source: &str) {
        self.counters.came();
        let envelope = queued.event.envelope(source).to_string();
        let line = envelope.clone();
        let is_kept = self.journal(move |journal| journal.add(&line)).await;
        // Nobody waits for that of a pull.
        let _ = queued.kept.send(());
        self.waiting.push_back((envelope, is_kept));
    }

    /// Counts the oldest event as delivered or given up.
    async fn record_outcome(&mut self, failure: Option<String>) {
        let event = self.waiting.pop_front();
        self.counters.wait(-1);
        if event.as_ref().is_some_and(|(_, is_kept)| *is_kept) {
            let left = self.waiting.iter().filter(|(_, is_kept)| *is_kept).count();
            self.journal(move |journal| journal.done(left)).await;
        }
        let Some(reason) = failure else {
            return self.counters.delivered();
        };
        self.counters.failed();
        let event: serde_json::Value = event
            .and_then(|(text, _)| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        tracing::error!(
            endpoint = %self.endpoint.name,
            action = event["events"][0]["action"].as_str().unwrap_or_default(),
            error = %reason,
            "error writing event"
        );
    }

    /// Writes to the journal, on a thread that may wait for the disk; says
    /// whether that succeeded.
    async fn journal(&mut self, work: impl FnOnce(&mut Journal) -> std::io::Result<()> + Send + 'static) -> bool {
        let Some(mut journal) = self.journal.take() else {
            return false;
        };
        let writing = task::blocking(move || {
            let outcome = work(&mut journal);
            (journal, outcome)
        });
        let Ok((journal, outcome)) = writing.await else {
            return false;
        };
        self.journal = Some(journal);
        if let Err(error) = &outcome {
            tracing::warn!(error = %error, "a notification that waits cannot be kept on disk");
        }
        outcome.is_ok()
    }
}

/// Sends envelopes, and says how the endpoint is.
struct Sender {
    client: Client,
    endpoint: Endpoint,
    counters: Arc<Counters>,
    /// When it was last said that it does not answer, while it does not.
    failing: Option<Instant>,
    /// Whether it was said that it answers with a redirection.
    has_redirected: bool,
}

impl Sender {
    fn new(client: Client, endpoint: Endpoint, counters: Arc<Counters>) -> Self {
        Self {
            client,
            endpoint,
            counters,
            failing: None,
            has_redirected: false,
        }
    }

    /// Sends an envelope until it is taken, refused for good, or given up;
    /// returns why it was not taken.
    async fn deliver(&mut self, body: String) -> Option<String> {
        let mut pause = self.endpoint.backoff;
        let mut tries = 0;
        loop {
            let sent = self.client.post(&self.endpoint.url).body(body.clone()).send().await;
            let reason = match sent.map(|answer| answer.status()) {
                Ok(status) if status.is_success() => {
                    self.recovered();
                    return None;
                }
                // As GitLab's registry takes it: sending again would change nothing.
                Ok(status) if status.is_redirection() => {
                    self.recovered();
                    self.redirected(status);
                    return None;
                }
                // The request itself is wrong: it would be so the next time.
                Ok(status) if status.is_client_error() && !matches!(status.as_u16(), 408 | 429) => {
                    self.recovered();
                    return Some(status.to_string());
                }
                Ok(status) => status.to_string(),
                Err(error) => in_full(&error.without_url()),
            };
            self.failed(&reason);
            tries += 1;
            if tries > self.endpoint.max_retries {
                return Some(reason);
            }
            task::sleep(pause).await;
            pause = pause.mul_f32(1.5).min(MAX_PAUSE);
        }
    }

    fn failed(&mut self, reason: &str) {
        self.counters.set_failing(Some(reason));
        if self.failing.is_none_or(|told| told.elapsed() > LOG_INTERVAL) {
            self.failing = Some(monotonic());
            tracing::warn!(
                endpoint = %self.endpoint.name,
                url = %self.endpoint.shown_url(),
                error = %reason,
                "the notification endpoint does not take events; it is tried again"
            );
        }
    }

    fn recovered(&mut self) {
        self.counters.set_failing(None);
        if self.failing.take().is_some() {
            tracing::info!(endpoint = %self.endpoint.name, "the notification endpoint answers again");
        }
    }

    fn redirected(&mut self, status: StatusCode) {
        if !std::mem::replace(&mut self.has_redirected, true) {
            tracing::warn!(
                endpoint = %self.endpoint.name,
                url = %self.endpoint.shown_url(),
                status = status.as_u16(),
                "the notification endpoint answers with a redirection, which is not followed; events count as delivered: correct notifications.endpoints.url"
            );
        }
    }
}

fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn client(endpoint: &Endpoint) -> reqwest::Result<Client> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    for (name, value) in &endpoint.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        } else {
            tracing::warn!(endpoint = %endpoint.name, "a header of the notification endpoint is not valid and is left out");
        }
    }
    let local = url::Url::parse(&endpoint.url)
        .is_ok_and(|url| url.host_str().is_some_and(crate::sys::net::is_loopback_literal));
    let builder = Client::builder().redirect(redirect::Policy::none());
    // A proxy is no way to this machine itself.
    let builder = if local { builder.no_proxy() } else { builder };
    builder.timeout(endpoint.timeout).default_headers(headers).build()
}
