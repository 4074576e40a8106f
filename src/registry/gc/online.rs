//! Collection while the registry serves from a database: one agent for blobs
//! and one for manifests, each looking for what is due, resting while nothing
//! is, and resting longer the longer that goes on.

use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::registry::config::database::GcConfig;
use crate::registry::control;
use crate::registry::http::App;
use crate::registry::metadata::postgres::review::Outcome;
use crate::registry::metadata::{MetadataError, Postgres, Store};
use crate::registry::metrics::Reviewed;
use crate::registry::state::json;

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
    fn path(root: &Utf8Path) -> Utf8PathBuf {
        control::directory(root).join("online-gc.json")
    }

    /// Returns what is written down beside a storage.
    pub fn read(root: &Utf8Path) -> Self {
        json::read(&Self::path(root))
    }

    fn write(self, root: &Utf8Path) {
        json::write(&Self::path(root), &self);
    }
}

/// Starts the agents that the configuration asks for.
pub fn start(app: &Arc<App>, stop: &CancellationToken) {
    let Store::Database(postgres) = &app.metadata else {
        return;
    };
    if app.config.storage.readonly {
        return;
    }
    let gc = app.config.database.gc.clone();
    for (wanted, blobs) in [(gc.blobs, true), (gc.manifests, false)] {
        if wanted {
            let agent = Agent {
                app: Arc::clone(app),
                postgres: postgres.clone(),
                gc: gc.clone(),
                blobs,
            };
            // Waited for at the end: a review is not cut off.
            app.tasks.spawn(agent.run(stop.clone()));
        }
    }
}

struct Agent {
    app: Arc<App>,
    postgres: Postgres,
    gc: GcConfig,
    /// Whether it reviews blobs; else manifests.
    blobs: bool,
}

impl Agent {
    fn name(&self) -> &'static str {
        if self.blobs { "blob" } else { "manifest" }
    }

    fn interval(&self) -> Duration {
        let given = if self.blobs {
            self.gc.blobs_interval
        } else {
            self.gc.manifests_interval
        };
        given.max(Duration::from_millis(10))
    }

    async fn run(self, stop: CancellationToken) {
        let first = by_chance(JITTER.min(self.interval() * FIRST));
        self.app.logger.info(
            "starting online GC agent",
            vec![("worker", self.name().into()), ("jitter_s", first.as_secs_f64().into())],
        );
        let mut pause = first;
        let mut told = !self.blobs || self.gc.review_after.is_none();
        loop {
            // At once: what is pushed from now on waits as long as this says.
            if let Some(time) = self.gc.review_after.filter(|_| !told) {
                told = self.postgres.set_review_after(time).await.is_ok();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = crate::sys::task::sleep(pause) => {}
            }
            let found = self.burst(&stop).await;
            pause = if found { self.interval() } else { self.longer(pause) };
        }
    }

    /// Returns the pause after one in which nothing became due: half as long
    /// again, a third more or less.
    fn longer(&self, pause: Duration) -> Duration {
        if !self.gc.idle_backoff {
            return self.interval();
        }
        let grown = pause.max(self.interval()).mul_f64(1.5).min(self.gc.max_backoff);
        grown.mul_f64(2.0 / 3.0) + by_chance(grown.mul_f64(2.0 / 3.0))
    }

    /// Reviews what is due; says whether anything was.
    async fn burst(&self, stop: &CancellationToken) -> bool {
        let root = &self.app.config.storage.root;
        let mut found = false;
        while !stop.is_cancelled() {
            let mut removed = Totals::default();
            let mut more = true;
            for _ in 0..BURST {
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
                        self.app.logger.info(
                            "removed by online GC",
                            vec![
                                ("worker", self.name().into()),
                                ("what", what.into()),
                                ("event", event.into()),
                                ("bytes", bytes.into()),
                            ],
                        );
                    }
                    Err(error) => {
                        self.failed(error).await;
                        more = false;
                        break;
                    }
                }
            }
            if removed != Totals::default() {
                let _turn = TOTALS.lock().await;
                let mut totals = Totals::read(root);
                totals.blobs += removed.blobs;
                totals.manifests += removed.manifests;
                totals.bytes += removed.bytes;
                totals.write(root);
            }
            if !more {
                break;
            }
        }
        found
    }

    fn count(&self, outcome: &Result<Outcome, MetadataError>) {
        let text = |yes| if yes { "true" } else { "false" };
        let metrics = &self.app.metrics;
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
        let gc = &self.gc;
        if self.blobs {
            // Offline work on the storage, and pushes, pass here, too.
            let _passing = self.app.gate.pass().await;
            self.postgres
                .review_blob(gc.transaction_timeout, gc.storage_timeout)
                .await
        } else {
            self.postgres.review_manifest(gc.transaction_timeout).await
        }
    }

    async fn failed(&self, error: MetadataError) {
        let away = matches!(&error, MetadataError::Database(error) if error.is_unavailable());
        let text = match &error {
            MetadataError::Database(error) => error.in_full(),
            other => other.to_string(),
        };
        self.app.logger.error(
            "online GC review failed",
            vec![("worker", self.name().into()), ("error", text.into())],
        );
        // While the database is away, nothing can be put off.
        if !away && let Err(error) = self.postgres.postpone(self.blobs).await {
            self.app.logger.error(
                "cannot put off an online GC review",
                vec![("worker", self.name().into()), ("error", error.to_string().into())],
            );
        }
    }
}

/// Both agents add to the same numbers.
static TOTALS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Returns some time up to `most`.
fn by_chance(most: Duration) -> Duration {
    let mut chance = [0_u8; 4];
    // Without chance all the time is taken.
    let _ = crate::sys::random::fill(&mut chance);
    most.mul_f64(1.0 - f64::from(u32::from_le_bytes(chance)) / f64::from(u32::MAX))
}
