//! A collection from its beginning to its end.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Gate;
use super::mark::{self, Key, Marked, Rule, key};
use super::sweep::Sweep;
use crate::registry::oci::{Digest, RepoName};
use crate::registry::storage::blobs::{Blobs, Shard};
use crate::registry::storage::{Storage, StorageError, layout, tree};
use crate::sys::clock::Clock;
use crate::sys::failpoint;

/// What a collection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Whether manifests without a tag go too.
    pub delete_untagged: bool,
    /// Whether it is only said what would go.
    pub dry_run: bool,
    /// Age from which content may go: a push may be under way.
    pub grace: Duration,
    /// Whether everything that is marked is told.
    pub verbose: bool,
    /// How many blobs may go although no repository has a manifest.
    #[serde(default)]
    pub all_blobs: Option<usize>,
}

/// What a collection tells while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A stage begins.
    Stage {
        /// Its name: `mark`, `inspect`, `sweep`.
        name: String,
    },
    /// So much of the stage is done.
    Progress {
        /// Items done.
        done: usize,
        /// Items of the stage.
        total: usize,
    },
    /// A repository was marked.
    Repository {
        /// Its name.
        name: String,
        /// Live manifests and what they name.
        manifests: Vec<(String, Vec<String>)>,
    },
    /// Something is not as it should be.
    Warning {
        /// What.
        message: String,
    },
    /// The marking is complete.
    Marked {
        /// Blobs that are alive.
        blobs_marked: usize,
        /// Blobs that go.
        blobs_to_delete: usize,
        /// Manifests that go.
        manifests_to_delete: usize,
        /// Bytes that this frees.
        storage_use_estimate_bytes: u64,
        /// Blobs without a reference that are too young.
        blobs_kept_young: usize,
    },
    /// A manifest goes.
    Manifest {
        /// Its repository.
        repository: String,
        /// Its digest.
        digest: String,
    },
    /// A blob goes.
    Blob {
        /// Its digest.
        digest: String,
        /// Its size in bytes.
        size: u64,
    },
    /// The collection is over.
    Finished(Summary),
    /// The collection failed.
    Failed {
        /// Why.
        message: String,
    },
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Repositories that were marked.
    pub repositories: usize,
    /// Blobs that are alive.
    pub blobs_marked: usize,
    /// Blobs that nothing refers to.
    pub blobs_to_delete: usize,
    /// Manifests that nothing keeps.
    pub manifests_to_delete: usize,
    /// Manifests that were removed.
    pub manifests_deleted: usize,
    /// Blobs that were removed.
    pub blobs_deleted: usize,
    /// Links that were removed.
    pub links_deleted: usize,
    /// Bytes that were freed.
    pub bytes_freed: u64,
    /// Blobs without a reference that are too young.
    pub blobs_kept_young: usize,
    /// Manifests without a tag that are too young.
    pub manifests_kept_young: usize,
    /// How many things were not as they should be.
    pub warnings: usize,
}

/// Why a collection did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The storage failed. What cannot be read may be alive.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It was interrupted.
    #[error("interrupted; what was removed had no references, run it again to go on")]
    Interrupted,
    /// The metadata are elsewhere: nothing here tells what is alive.
    #[error(
        "the metadata of this storage are in a database, as docker/registry/lockfiles/database-in-use says; nothing was touched"
    )]
    Database,
    /// Another one runs.
    #[error("a garbage collection of this storage is running already")]
    Busy,
    /// What is damaged may have named anything.
    #[error(
        "nothing was removed: what these named cannot be read any more, and might be alive\n{}\nrestore them or push them again; or let kdk registry verify --repair take them out, with what only they named",
        list(.0)
    )]
    Damaged(Vec<String>),
    /// There are blobs, and nothing that could name one.
    #[error(
        "nothing was removed: this storage has {0} blobs that could go, and no repository that names any. Is it the right storage, and are its metadata not in a database? If all of them may go: --all-blobs {0}"
    )]
    NoManifests(usize),
}

/// Damaged things that one message names.
const SHOWN: usize = 20;

fn list(damaged: &[String]) -> String {
    let mut lines: Vec<String> = damaged.iter().take(SHOWN).map(|what| format!("  {what}")).collect();
    if damaged.len() > SHOWN {
        lines.push(format!("  and {} more", damaged.len() - SHOWN));
    }
    lines.join("\n")
}

/// Several threads that share work.
#[derive(Clone)]
pub struct Crew<'a> {
    handle: &'a Handle,
    stop: &'a CancellationToken,
    hands: usize,
}

impl<'a> Crew<'a> {
    /// Makes a crew of as many threads as do any good.
    pub fn new(handle: &'a Handle, stop: &'a CancellationToken) -> Self {
        let hands = std::thread::available_parallelism()
            .map_or(2, std::num::NonZero::get)
            .clamp(2, 8);
        Self { handle, stop, hands }
    }

    /// Returns the same crew with many hands, for work that waits more than it does.
    #[must_use]
    pub fn waiting(&self) -> Self {
        Self {
            hands: 16,
            ..self.clone()
        }
    }

    /// Returns the same crew with one hand, for work that must go in order.
    #[must_use]
    pub fn in_order(&self) -> Self {
        Self {
            hands: 1,
            ..self.clone()
        }
    }

    /// Runs `work` for every item; returns what it returned, in no order.
    ///
    /// # Errors
    /// The first that `work` returned, or that it was interrupted.
    pub fn each<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl AsyncFn(&T) -> Result<R, CollectError> + Sync,
    ) -> Result<Vec<R>, CollectError> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let results = Mutex::new(Vec::with_capacity(items.len()));
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..self.hands.min(items.len()) {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    while !failed.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(number) else { break };
                        let outcome = if self.stop.is_cancelled() {
                            Err(CollectError::Interrupted)
                        } else {
                            self.handle.block_on(work(item))
                        };
                        match outcome {
                            Ok(result) => mine.push(result),
                            Err(error) => {
                                failed.store(true, Ordering::Relaxed);
                                failure
                                    .lock()
                                    .unwrap_or_else(PoisonError::into_inner)
                                    .get_or_insert(error);
                            }
                        }
                    }
                    results.lock().unwrap_or_else(PoisonError::into_inner).append(&mut mine);
                });
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// Where a collection works, and whom it tells.
pub struct Site<'a> {
    /// The storage; its calls run on the caller's thread.
    pub driver: &'a Storage,
    /// The gate of the server that uses the storage meanwhile.
    pub gate: Option<&'a Gate>,
    /// Runs the storage's calls.
    pub handle: &'a Handle,
    /// Ends the collection early.
    pub stop: &'a CancellationToken,
    /// Hears what happens.
    pub report: &'a (dyn Fn(Event) + Sync),
}

/// Collects garbage. Runs on the caller's thread and some of its own.
///
/// # Errors
/// When the storage fails, it is interrupted, or another one runs.
pub fn collect(site: &Site<'_>, options: Options) -> Result<Summary, CollectError> {
    let Site {
        driver, handle, report, ..
    } = site;
    let _watch = match site.gate {
        Some(gate) => Some(gate.watch().ok_or(CollectError::Busy)?),
        None => None,
    };
    if handle.block_on(driver.head(&layout::database_in_use()))?.is_some() {
        return Err(CollectError::Database);
    }
    let crew = Crew::new(handle, site.stop);
    let rule = Rule {
        delete_untagged: options.delete_untagged,
        cutoff: cutoff(options.grace),
    };
    report(Event::Stage { name: "mark".into() });
    failpoint::pass("collect:mark");
    let mut damaged = Vec::new();
    let mut names: Vec<RepoName> = Vec::new();
    for name in handle.block_on(tree::holding(driver, "_manifests"))? {
        match name.parse() {
            Ok(name) => names.push(name),
            Err(_) => damaged.push(format!(
                "the directory {name} holds manifests under a name that no repository has"
            )),
        }
    }
    let done = AtomicUsize::new(0);
    let found: Vec<Found> = crew.each(&names, async |name| {
        let marked = mark::repository(driver, name, rule).await?;
        if options.verbose {
            report(told(name, &marked));
        }
        for message in &marked.warnings {
            report(Event::Warning {
                message: message.clone(),
            });
        }
        progress(*report, &done, 1, names.len());
        Ok(Found::of(marked))
    })?;
    let mut summary = Summary {
        repositories: names.len(),
        ..Summary::default()
    };
    let mut alive = HashSet::new();
    let mut dead = Vec::new();
    for mut part in found {
        alive.extend(part.keys);
        dead.append(&mut part.dead);
        damaged.append(&mut part.damaged);
        summary.warnings += part.warnings;
        summary.manifests_kept_young += part.young;
    }
    if !damaged.is_empty() {
        damaged.sort();
        return Err(CollectError::Damaged(damaged));
    }
    report(Event::Stage { name: "inspect".into() });
    failpoint::pass("collect:inspect");
    let shards = handle.block_on(Blobs::new((*driver).clone()).shards())?;
    let inspected: Vec<(Vec<(Digest, u64)>, usize)> =
        crew.each(&shards, async |shard| inspect(driver, shard, &alive, rule).await)?;
    let mut blobs = Vec::new();
    for (mut some, young) in inspected {
        blobs.append(&mut some);
        summary.blobs_kept_young += young;
    }
    // Young ones are of a first push under way.
    if names.is_empty() && !blobs.is_empty() && options.all_blobs != Some(blobs.len()) {
        return Err(CollectError::NoManifests(blobs.len()));
    }
    // Stable: within a repository the order matters.
    dead.sort_by(|a, b| a.name.cmp(&b.name));
    blobs.sort_unstable();
    summary.blobs_marked = alive.len();
    summary.blobs_to_delete = blobs.len();
    summary.manifests_to_delete = dead.len();
    report(Event::Marked {
        blobs_marked: alive.len(),
        blobs_to_delete: blobs.len(),
        manifests_to_delete: dead.len(),
        storage_use_estimate_bytes: blobs.iter().map(|(_, size)| size).sum(),
        blobs_kept_young: summary.blobs_kept_young,
    });
    if options.verbose || options.dry_run {
        for dead in &dead {
            report(Event::Manifest {
                repository: dead.name.to_string(),
                digest: dead.digest.to_string(),
            });
        }
        for (digest, size) in &blobs {
            report(Event::Blob {
                digest: digest.to_string(),
                size: *size,
            });
        }
    }
    if options.dry_run {
        return Ok(summary);
    }
    if site.gate.is_none() {
        handle.block_on(driver.tidy(&layout::registry(), rule.cutoff))?;
    }
    if dead.is_empty() && blobs.is_empty() {
        return Ok(summary);
    }
    report(Event::Stage { name: "sweep".into() });
    failpoint::pass("collect:sweep");
    Sweep::new(site, &crew, rule.cutoff).run(&names, &dead, &blobs, &mut summary)?;
    Ok(summary)
}

/// What is kept of a repository's marking.
struct Found {
    keys: Vec<Key>,
    dead: Vec<mark::Dead>,
    young: usize,
    warnings: usize,
    damaged: Vec<String>,
}

impl Found {
    fn of(marked: Marked) -> Self {
        let keys = marked
            .live
            .iter()
            .flat_map(|(digest, references)| std::iter::once(digest).chain(references))
            .map(key)
            .collect();
        Self {
            keys,
            dead: marked.dead,
            young: marked.young,
            warnings: marked.warnings.len(),
            damaged: marked.damaged,
        }
    }
}

fn told(name: &RepoName, marked: &Marked) -> Event {
    Event::Repository {
        name: name.to_string(),
        manifests: marked
            .live
            .iter()
            .map(|(digest, references)| (digest.to_string(), references.iter().map(ToString::to_string).collect()))
            .collect(),
    }
}

/// Tells of more items done, not too often. Whoever listens may be slow: not
/// to be called while the gate is closed.
pub fn progress(report: &(dyn Fn(Event) + Sync), done: &AtomicUsize, more: usize, total: usize) {
    let before = done.fetch_add(more, Ordering::Relaxed);
    let (now, step) = (before + more, 1 + total / 100);
    if now == total || now / step > before / step {
        report(Event::Progress { done: now, total });
    }
}

fn cutoff(grace: Duration) -> Timestamp {
    let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
    // Without grace even what is made in this moment may go.
    let now = Clock::System.now() + SignedDuration::from_secs(i64::from(grace.is_zero()));
    now.checked_sub(grace).unwrap_or(Timestamp::MIN)
}

/// Finds the blobs in a directory that are not alive, and counts those that are too young to go.
async fn inspect(
    driver: &Storage,
    shard: &Shard,
    alive: &HashSet<Key>,
    rule: Rule,
) -> Result<(Vec<(Digest, u64)>, usize), CollectError> {
    let mut found = Vec::new();
    let mut young = 0;
    for digest in Blobs::new(driver.clone()).digests(shard).await? {
        if alive.contains(&key(&digest)) {
            continue;
        }
        match driver.last_used(&layout::blob_data(&digest)).await? {
            Some(used) if used.at >= rule.cutoff => young += 1,
            Some(used) => found.push((digest, used.size)),
            // A name that a push under way takes, or one that was killed left.
            None => {}
        }
    }
    Ok((found, young))
}
