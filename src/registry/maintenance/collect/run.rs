//! A collection from its beginning to its end.

use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

use super::collection::Collection;
use super::inspect::inspect;
use super::mark::{self, Marked, Rule, UnreferencedManifest};
use super::sweep::Sweep;
use crate::registry::maintenance::error::CollectError;
use crate::registry::maintenance::events::{Event, Options, Summary};
use crate::registry::maintenance::grace::cutoff;
use crate::registry::maintenance::progress::progress;
use crate::registry::maintenance::workers::WorkerPool;
use crate::registry::oci::{Digest, RepoName};
use crate::registry::storage::{Blobs, marks, tree};
use crate::sys::failpoint;

/// Collects garbage. Runs on the caller's thread and some of its own.
///
/// # Errors
/// When the storage fails, it is interrupted, or another one runs.
pub fn collect(collection: &Collection<'_>, options: Options) -> Result<Summary, CollectError> {
    let Collection {
        driver, handle, report, ..
    } = collection;
    let _collecting = match collection.barrier {
        Some(barrier) => Some(barrier.begin().ok_or(CollectError::Busy)?),
        None => None,
    };
    if let Some(barrier) = collection.barrier {
        // Pushes that looked at what there is before all was protected are
        // done now, and seen by the marking.
        drop(handle.block_on(barrier.close()));
    }
    if handle.block_on(marks::is_database_in_use(driver))? {
        return Err(CollectError::Database);
    }
    let pool = WorkerPool::new(handle, collection.stop);
    let rule = Rule {
        delete_untagged: options.delete_untagged,
        cutoff: cutoff(options.grace),
    };
    let mut summary = Summary::default();
    report(Event::Stage { name: "mark".into() });
    failpoint::pass("collect:mark");
    let (names, marked) = mark_all(collection, &pool, options, rule, &mut summary)?;
    report(Event::Stage { name: "inspect".into() });
    failpoint::pass("collect:inspect");
    let blobs = inspect_all(collection, &pool, &marked.alive, rule, &mut summary)?;
    // Young ones are of a first push under way.
    if names.is_empty() && !blobs.is_empty() && options.all_blobs != Some(blobs.len()) {
        return Err(CollectError::NoManifests(blobs.len()));
    }
    let dead = marked.dead;
    summary.blobs_marked = marked.alive.len();
    summary.blobs_to_delete = blobs.len();
    summary.manifests_to_delete = dead.len();
    tell(*report, options, &summary, &dead, &blobs);
    if options.dry_run {
        return Ok(summary);
    }
    if !(dead.is_empty() && blobs.is_empty()) {
        report(Event::Stage { name: "sweep".into() });
        failpoint::pass("collect:sweep");
        Sweep::new(collection, &pool, rule.cutoff).run(&dead, &blobs, &mut summary)?;
    }
    Ok(summary)
}

/// What the marking of all repositories came to.
struct MarkResult {
    alive: HashSet<Digest>,
    dead: Vec<UnreferencedManifest>,
}

/// Marks every repository; returns their names, too.
fn mark_all(
    collection: &Collection<'_>,
    pool: &WorkerPool<'_>,
    options: Options,
    rule: Rule,
    summary: &mut Summary,
) -> Result<(Vec<RepoName>, MarkResult), CollectError> {
    let Collection {
        driver, handle, report, ..
    } = collection;
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
    // In one set at once: many repositories name the same.
    let alive = Mutex::new(HashSet::new());
    let found: Vec<Found> = pool.each(&names, async |name| {
        let mut marked = mark::repository(driver, name, rule).await?;
        if options.verbose {
            report(repository_event(name, &marked));
        }
        for message in &marked.warnings {
            report(Event::Warning {
                message: message.clone(),
            });
        }
        progress(*report, &done, 1, names.len());
        alive
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(names_of(std::mem::take(&mut marked.live)));
        Ok::<_, CollectError>(Found::of(marked))
    })?;
    summary.repositories = names.len();
    let mut all = MarkResult {
        alive: alive.into_inner().unwrap_or_else(PoisonError::into_inner),
        dead: Vec::new(),
    };
    for mut part in found {
        all.dead.append(&mut part.dead);
        damaged.append(&mut part.damaged);
        summary.warnings += part.warnings;
        summary.manifests_kept_young += part.young;
    }
    if !damaged.is_empty() {
        damaged.sort();
        return Err(CollectError::Damaged(damaged));
    }
    // Stable: within a repository the order matters.
    all.dead.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((names, all))
}

/// Finds the blobs that nothing refers to, with their sizes.
fn inspect_all(
    collection: &Collection<'_>,
    pool: &WorkerPool<'_>,
    alive: &HashSet<Digest>,
    rule: Rule,
    summary: &mut Summary,
) -> Result<Vec<(Digest, u64)>, CollectError> {
    let driver = collection.driver;
    let shards = collection.handle.block_on(Blobs::new(driver.clone()).shards())?;
    let inspected = pool.each(&shards, async |shard| inspect(driver, shard, alive, rule).await)?;
    let mut blobs = Vec::new();
    for (mut some, young) in inspected {
        blobs.append(&mut some);
        summary.blobs_kept_young += young;
    }
    blobs.sort_unstable();
    Ok(blobs)
}

/// Tells what goes.
fn tell(
    report: &(dyn Fn(Event) + Sync),
    options: Options,
    summary: &Summary,
    dead: &[UnreferencedManifest],
    blobs: &[(Digest, u64)],
) {
    report(Event::Marked {
        blobs_marked: summary.blobs_marked,
        blobs_to_delete: summary.blobs_to_delete,
        manifests_to_delete: summary.manifests_to_delete,
        storage_use_estimate_bytes: blobs.iter().map(|(_, size)| size).sum(),
        blobs_kept_young: summary.blobs_kept_young,
    });
    if !(options.verbose || options.dry_run) {
        return;
    }
    for dead in dead {
        report(Event::Manifest {
            repository: dead.name.to_string(),
            digest: dead.digest.to_string(),
        });
    }
    for (digest, size) in blobs {
        report(Event::Blob {
            digest: digest.to_string(),
            size: *size,
        });
    }
}

/// Returns what is alive of a repository, and what that names.
fn names_of(live: Vec<(Digest, Vec<Digest>)>) -> impl Iterator<Item = Digest> {
    live.into_iter()
        .flat_map(|(digest, references)| std::iter::once(digest).chain(references))
}

/// What is kept of a repository's marking.
struct Found {
    dead: Vec<UnreferencedManifest>,
    young: usize,
    warnings: usize,
    damaged: Vec<String>,
}

impl Found {
    fn of(marked: Marked) -> Self {
        Self {
            dead: marked.dead,
            young: marked.young,
            warnings: marked.warnings.len(),
            damaged: marked.damaged,
        }
    }
}

fn repository_event(name: &RepoName, marked: &Marked) -> Event {
    Event::Repository {
        name: name.to_string(),
        manifests: marked
            .live
            .iter()
            .map(|(digest, references)| (digest.to_string(), references.iter().map(ToString::to_string).collect()))
            .collect(),
    }
}
