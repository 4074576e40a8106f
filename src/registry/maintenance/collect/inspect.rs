//! Which blobs nothing refers to.

use std::collections::HashSet;

use super::mark::Rule;
use crate::registry::maintenance::error::CollectError;
use crate::registry::oci::Digest;
use crate::registry::storage::Storage;
use crate::registry::storage::blobs::{Blobs, Shard};

/// Finds the blobs in a directory that are not alive, and counts those that are too young to go.
pub async fn inspect(
    driver: &Storage,
    shard: &Shard,
    alive: &HashSet<Digest>,
    rule: Rule,
) -> Result<(Vec<(Digest, u64)>, usize), CollectError> {
    let mut found = Vec::new();
    let mut young = 0;
    let blobs = Blobs::new(driver.clone());
    for digest in blobs.digests(shard).await? {
        if alive.contains(&digest) {
            continue;
        }
        match blobs.last_used(&digest).await? {
            Some(used) if used.at >= rule.cutoff => young += 1,
            Some(used) => found.push((digest, used.size)),
            // A name that a push under way takes, or one that was killed left.
            None => {}
        }
    }
    Ok((found, young))
}
