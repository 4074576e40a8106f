//! Checking a store: every digest, link and reference; and mending what can
//! be mended.
//!
//! Nothing that might still be of use is destroyed: content that is not what
//! its digest says moves to `.kdk/quarantine`, so that the next push brings
//! it whole.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::SignedDuration;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::blobs;
use super::finding::{Findings, Part};
use super::repair::Repair;
use super::repository::Repository;
use crate::registry::maintenance::error::CollectError;
use crate::registry::maintenance::workers::WorkerPool;
use crate::registry::oci::RepoName;
use crate::registry::oci::references::Platforms;
use crate::registry::storage::{Blobs, Storage, marks, tree};
use crate::sys::clock::Clock;

/// What is younger may belong to a push under way.
const LEFTOVER_AGE: SignedDuration = SignedDuration::from_hours(1);

/// Checks a store: its blobs and, where `in_files` says that its metadata are
/// there, its links; `platforms` says which entries indexes need. `progress`
/// hears items done and their number.
///
/// # Errors
/// When the storage fails or the work is interrupted.
pub fn verify(
    driver: &Storage,
    handle: &Handle,
    stop: &CancellationToken,
    repair: bool,
    in_files: bool,
    platforms: &Platforms,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Findings, CollectError> {
    if repair && in_files && handle.block_on(marks::is_database_in_use(driver))? {
        return Err(CollectError::Database);
    }
    let mending = Repair {
        storage: driver,
        is_on: repair,
    };
    let pool = WorkerPool::new(handle, stop);
    let shards = handle.block_on(Blobs::new(driver.clone()).shards())?;
    let names: Vec<RepoName> = if in_files {
        let found = handle.block_on(tree::holding(driver, "_manifests"))?;
        found.iter().filter_map(|name| name.parse().ok()).collect()
    } else {
        Vec::new()
    };
    let total = shards.len() + names.len();
    let done = AtomicUsize::new(0);
    let told = || progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
    let mut all = Findings {
        repositories: names.len(),
        ..Findings::default()
    };
    let mut valid = HashSet::new();
    let parts: Vec<Part> = pool.each(&shards, async |shard| {
        let part = blobs::shard(&mending, shard).await?;
        told();
        Ok::<_, CollectError>(part)
    })?;
    for mut part in parts {
        all.blobs += part.blobs;
        all.bytes += part.bytes;
        all.findings.append(&mut part.findings);
        valid.extend(part.valid);
    }
    let parts: Vec<Part> = pool.each(&names, async |name| {
        let part = Repository::new(&mending, name, platforms, &valid).check().await?;
        told();
        Ok::<_, CollectError>(part)
    })?;
    for mut part in parts {
        all.manifests += part.manifests;
        all.findings.append(&mut part.findings);
    }
    if repair {
        // What pushes that were killed left is none of the images'.
        let before = Clock::System.now() - LEFTOVER_AGE;
        handle.block_on(driver.tidy(&tree::everything(), before))?;
        handle.block_on(driver.flush())?;
    }
    all.findings.sort_unstable();
    Ok(all)
}
