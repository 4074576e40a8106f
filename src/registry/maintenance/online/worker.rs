//! The workers: one for blobs and one for manifests, each looking for what is due, resting while nothing
//! is, and resting longer the longer that goes on.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::review::review_blob;
use crate::registry::config::database::GcConfig;
use crate::registry::metadata::postgres::review::Outcome;
use crate::registry::metadata::{MetadataError, Postgres};
use crate::registry::metrics::{Metrics, Reviewed};
use crate::registry::state::{StateDir, json};
use crate::registry::storage::Storage;

/// Longest pause before the first look: servers started together should not look together.
const JITTER: Duration = Duration::from_mins(1);
/// The first look comes after as many intervals at most.
const FIRST: u32 = 12;
/// Reviews between two looks at whether to stop.
const BURST: usize = 100;

/// What was removed from a storage so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Blobs.
    pub blobs: u64,
    /// Manifests.
    pub manifests: u64,
    /// Bytes of the blobs.
    pub bytes: u64,
}

impl Totals {
    /// Returns what is written down.
    pub fn read(state: &StateDir) -> Self {
        json::read(&state.collected())
    }
}

/// Collects garbage while the registry serves from a database.
#[derive(Clone)]
pub struct OnlineCollection {
    /// The database.
    pub postgres: Postgres,
    /// When to look, and how long a review may take.
    pub config: GcConfig,
    /// Where the data of blobs are.
    pub storage: Storage,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where it is written down what was removed.
    pub totals: Utf8PathBuf,
}

impl OnlineCollection {
    /// Starts the workers that the configuration asks for, among tasks that are
    /// waited for at the end: a review is not cut off.
    pub fn start(self, tasks: &TaskTracker, stop: &CancellationToken) {
        for (wanted, blobs) in [(self.config.blobs, true), (self.config.manifests, false)] {
            if wanted {
                let worker = Worker {
                    shared: self.clone(),
                    blobs,
                };
                tasks.spawn(worker.run(stop.clone()));
            }
        }
    }
}

struct Worker {
    shared: OnlineCollection,
    /// Whether it reviews blobs; else manifests.
    blobs: bool,
}

impl Worker {
    fn name(&self) -> &'static str {
        if self.blobs { "blob" } else { "manifest" }
    }

    fn interval(&self) -> Duration {
        let given = if self.blobs {
            self.shared.config.blobs_interval
        } else {
            self.shared.config.manifests_interval
        };
        given.max(Duration::from_millis(1))
    }

    async fn run(self, stop: CancellationToken) {
        let first = jitter(JITTER.min(self.interval() * FIRST));
        tracing::info!(worker = %self.name(), jitter_s = first.as_secs_f64(), "starting online GC agent");
        let mut pause = first;
        let mut review_delay_set = !self.blobs || self.shared.config.review_after.is_none();
        loop {
            // At once: what is pushed from now on waits as long as this says.
            if let Some(time) = self.shared.config.review_after.filter(|_| !review_delay_set) {
                review_delay_set = self.shared.postgres.set_review_after(time).await.is_ok();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = crate::sys::task::sleep(pause) => {}
            }
            let found = self.run_batch(&stop).await;
            pause = if found {
                self.interval()
            } else {
                self.next_backoff(pause)
            };
        }
    }

    /// Returns the pause after one in which nothing became due: half as long
    /// again, a third more or less.
    fn next_backoff(&self, pause: Duration) -> Duration {
        if !self.shared.config.idle_backoff {
            return self.interval();
        }
        let grown = pause
            .max(self.interval())
            .mul_f64(1.5)
            .min(self.shared.config.max_backoff);
        grown.mul_f64(2.0 / 3.0) + jitter(grown.mul_f64(2.0 / 3.0))
    }

    /// Reviews what is due; says whether anything was.
    async fn run_batch(&self, stop: &CancellationToken) -> bool {
        let mut found = false;
        while !stop.is_cancelled() {
            let mut removed = Totals::default();
            let mut more = true;
            for _ in 0..BURST {
                if stop.is_cancelled() {
                    more = false;
                    break;
                }
                let outcome = self.review().await;
                self.count(&outcome);
                match outcome {
                    Ok(Outcome::Nothing) => {
                        more = false;
                        break;
                    }
                    Ok(Outcome::Kept) => found = true,
                    Ok(Outcome::Removed { what, event, bytes }) => {
                        found = true;
                        removed.bytes += bytes;
                        if self.blobs {
                            removed.blobs += 1;
                        } else {
                            removed.manifests += 1;
                        }
                        tracing::info!(worker = %self.name(), what = %what, event = %event, bytes = bytes, "removed by online GC");
                    }
                    Err(error) => {
                        let text = match &error {
                            MetadataError::Database(error) => error.in_full(),
                            other => other.to_string(),
                        };
                        tracing::error!(worker = %self.name(), error = %text, "online GC review failed");
                        more = false;
                        break;
                    }
                }
            }
            if removed != Totals::default() {
                let _turn = TOTALS.lock().await;
                let mut totals: Totals = json::read(&self.shared.totals);
                totals.blobs += removed.blobs;
                totals.manifests += removed.manifests;
                totals.bytes += removed.bytes;
                json::write(&self.shared.totals, &totals);
            }
            if !more {
                break;
            }
        }
        found
    }

    fn count(&self, outcome: &Result<Outcome, MetadataError>) {
        let text = |yes| if yes { "true" } else { "false" };
        let metrics = &self.shared.metrics;
        let reviewed = Reviewed {
            worker: self.name(),
            noop: text(matches!(outcome, Ok(Outcome::Nothing))),
            dangling: text(matches!(outcome, Ok(Outcome::Removed { .. }))),
            error: text(outcome.is_err()),
        };
        metrics.reviews.get_or_create(&reviewed).inc();
        if let Ok(Outcome::Removed { bytes, .. }) = outcome {
            metrics.collected.inc_by(*bytes);
        }
    }

    async fn review(&self) -> Result<Outcome, MetadataError> {
        let gc = &self.shared.config;
        if self.blobs {
            let OnlineCollection { postgres, storage, .. } = &self.shared;
            review_blob(postgres, storage, gc.transaction_timeout, gc.storage_timeout).await
        } else {
            self.shared.postgres.review_manifest(gc.transaction_timeout).await
        }
    }
}

/// Both workers add to the same numbers.
static TOTALS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Returns some time up to `most`.
fn jitter(most: Duration) -> Duration {
    let mut chance = [0_u8; 4];
    // Without chance all the time is taken.
    let _ = crate::sys::random::fill(&mut chance);
    most.mul_f64(1.0 - f64::from(u32::from_le_bytes(chance)) / f64::from(u32::MAX))
}
