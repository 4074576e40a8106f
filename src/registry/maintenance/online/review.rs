//! Reviewing a blob: its row first, then its data.

use std::io;
use std::time::Duration;

use jiff::SignedDuration;

use crate::registry::metadata::postgres::review::{BlobReview, Outcome};
use crate::registry::metadata::{MetadataError, Postgres};
use crate::registry::storage::{Blobs, Storage, StorageError};
use crate::sys::clock::Clock;
use crate::sys::task;

/// How long what is out of sight may take to go.
const PURGE_DEADLINE: SignedDuration = SignedDuration::from_mins(10);

/// Reviews the blob that waits longest for it; `storage_limit` is how long the
/// storage may take to say how large it is.
///
/// # Errors
/// Those of the database and the storage; the review is put off.
pub async fn review_blob(
    postgres: &Postgres,
    storage: &Storage,
    limit: Duration,
    storage_limit: Duration,
) -> Result<Outcome, MetadataError> {
    let mut client = postgres.database().client().await?;
    let Some(review) = postgres.next_blob(&mut client, limit).await? else {
        return Ok(Outcome::Nothing);
    };
    let key = review.key().to_vec();
    let outcome = decide(review, storage, storage_limit).await;
    if let Err(error) = &outcome {
        postgres.postpone_blob(&client, &key, error).await;
    }
    outcome
}

async fn decide(review: BlobReview<'_>, storage: &Storage, storage_limit: Duration) -> Result<Outcome, MetadataError> {
    let Some(digest) = review.unneeded().await? else {
        review.keep().await?;
        return Ok(Outcome::Kept);
    };
    // Before its data: what something refers to all the same cannot be deleted.
    review.remove().await?;
    let blobs = Blobs::new(storage.clone());
    let size = task::timeout(storage_limit, blobs.head(&digest)).await;
    let size = size.map_err(|_| StorageError::new("stat", &digest, io::ErrorKind::TimedOut.into()))?;
    let bytes = size?.unwrap_or_default();
    let event = review.event().to_owned();
    // Out of sight only. Whoever ended this session meanwhile has freed the
    // row, and another may have pushed the blob: then the commit fails, and
    // what was moved comes back.
    let aside = blobs.set_aside(&digest).await?;
    if let Err(error) = review.commit().await {
        storage.restore(&aside).await?;
        return Err(error);
    }
    storage.purge(&aside, Clock::System.now() + PURGE_DEADLINE).await?;
    Ok(Outcome::Removed {
        what: digest.to_string(),
        event,
        bytes,
    })
}
