//! Purging of uploads that were never finished.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::registry::config::UploadPurging;
use crate::registry::oci::RepoName;
use crate::registry::storage::{Storage, StorageError, Uploads, tree};
use crate::sys::clock::Clock;

/// Longest pause before the first round: servers started together should not purge together.
const JITTER: Duration = Duration::from_hours(1);

/// Removes uploads that were never finished.
pub struct PurgeUploads {
    /// Where they lie.
    pub storage: Storage,
    /// Who works on them.
    pub uploads: Uploads,
    /// How old they may become, and how often it is looked.
    pub config: UploadPurging,
}

impl PurgeUploads {
    /// Goes round until `stop`.
    pub fn run(self, stop: CancellationToken) -> impl Future<Output = ()> + Send {
        let most = u64::try_from(self.config.interval.min(JITTER).as_millis()).unwrap_or(u64::MAX);
        let first = crate::sys::random::below(most);
        tracing::info!("Starting upload purge in {}m{}s", first / 60_000, first / 1000 % 60);
        self.go_round(Duration::from_millis(first), stop)
    }

    async fn go_round(self, first: Duration, stop: CancellationToken) {
        let mut pause = first;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = crate::sys::task::sleep(pause) => {}
            }
            match self.round().await {
                Ok(count) => tracing::info!(uploads = count, "upload purge complete"),
                Err(error) => tracing::error!(error = %error, "upload purge failed"),
            }
            self.uploads.forget_idle();
            pause = self.config.interval;
        }
    }

    async fn round(&self) -> Result<usize, StorageError> {
        let now = Clock::System.now();
        let mut count = 0;
        for name in tree::holding(&self.storage, "_uploads").await? {
            let ids = match self.uploads.ids(&name).await {
                Ok(ids) => ids,
                // It must not keep the others.
                Err(error) => {
                    tracing::error!(repository = %name, error = %error, "cannot list the uploads of a repository");
                    continue;
                }
            };
            for id in ids {
                match self.purge(&name, &id, now).await {
                    Ok(purged) => count += usize::from(purged),
                    // One that cannot be removed must not keep the others.
                    Err(error) => {
                        tracing::error!(repository = %name, id = %id, error = %error, "cannot purge an upload");
                    }
                }
            }
        }
        if !self.config.dry_run {
            let age = jiff::SignedDuration::try_from(self.config.age).unwrap_or(jiff::SignedDuration::MAX);
            let before = now.checked_sub(age).unwrap_or(Timestamp::MIN);
            self.storage.tidy(&tree::everything(), before).await?;
        }
        Ok(count)
    }

    async fn purge(&self, group: &str, id: &str, now: Timestamp) -> Result<bool, StorageError> {
        if !self.is_old(group, id, now).await? {
            return Ok(false);
        }
        tracing::info!(repository = %group, id = %id, dry_run = self.config.dry_run, "purging upload");
        if self.config.dry_run {
            return Ok(true);
        }
        let Ok(name) = group.parse::<RepoName>() else {
            return self.uploads.discard(group, id).await;
        };
        let mut session = self.uploads.session(id).await;
        // A piece may have come while this waited for its turn.
        if !self.is_old(group, id, now).await? {
            return Ok(false);
        }
        self.uploads.end(&mut session, &name, id).await
    }

    /// Says whether an upload was begun, and last added to, long enough ago.
    async fn is_old(&self, group: &str, id: &str, now: Timestamp) -> Result<bool, StorageError> {
        let Some(touched) = self.uploads.last_touched(group, id).await? else {
            return Ok(false);
        };
        let limit = jiff::SignedDuration::try_from(self.config.age).unwrap_or(jiff::SignedDuration::MAX);
        Ok(now.duration_since(touched) >= limit)
    }
}
