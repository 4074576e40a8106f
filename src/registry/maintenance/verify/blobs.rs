//! Every blob, read and compared with its digest.

use super::finding::{Finding, Part};
use super::repair::Repair;
use crate::registry::storage::StorageError;
use crate::registry::storage::blobs::{Blobs, Shard};

/// Reads every blob of a shard.
pub async fn shard(repair: &Repair<'_>, shard: &Shard) -> Result<Part, StorageError> {
    let blobs = Blobs::new(repair.storage.clone());
    let mut part = Part::default();
    for digest in blobs.digests(shard).await? {
        // A directory alone is nothing.
        let Some(content) = blobs.open(&digest).await? else {
            continue;
        };
        part.blobs += 1;
        let computed = content
            .digest(digest.algorithm())
            .await
            .map_err(|source| StorageError::new("read", &digest, source))?;
        part.bytes += content.size;
        if computed == digest {
            part.valid.push(digest.clone());
            continue;
        }
        part.findings.push(Finding {
            problem: "corrupt-blob",
            repository: None,
            subject: digest.to_string(),
            detail: format!("{} bytes whose digest is {computed}", content.size),
            repaired: repair.quarantine(&digest).await?,
        });
    }
    Ok(part)
}
