//! Uploads that may never be finished.

use jiff::Timestamp;

use super::change::{Durability, Target};
use super::error::StorageError;
use super::layout;
use super::names::Names;
use super::uploads::Uploads;

impl Uploads {
    /// Returns the uploads of a repository, or of what has the place of one.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn ids(&self, group: &str) -> Result<Vec<String>, StorageError> {
        let ids = self.storage().list(&layout::uploads(group)).await?;
        Ok(ids.iter().flat_map(Names::iter).map(ToOwned::to_owned).collect())
    }

    /// Returns when an upload was begun, or last added to.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn last_touched(&self, group: &str, id: &str) -> Result<Option<Timestamp>, StorageError> {
        let (storage, started_at) = (self.storage(), layout::upload_started_at(group, id));
        let written = storage.get(&started_at).await?;
        let started = written.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse::<Timestamp>().ok());
        // A full disk may have left it without a time.
        let begun = storage.last_used(&started_at).await?;
        let started = started.or(begun.map(|used| used.at));
        // An upload that still grows is alive, whenever it was started.
        let data = storage.last_used(&layout::upload_data(group, id)).await?;
        Ok(started.max(data.map(|used| used.at)))
    }

    /// Removes an upload where no repository can be; says whether it was there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn discard(&self, group: &str, id: &str) -> Result<bool, StorageError> {
        let all = vec![Target::All(layout::upload(group, id))];
        Ok(self.storage().delete(all, Durability::Volatile).await? > 0)
    }
}
