//! The content-addressed store that all repositories share.

use bytes::Bytes;

use super::change::{Aside, Durability, Target};
use super::dispatch::Storage;
use super::driver::LastUsed;
use super::error::StorageError;
use super::key::Prefix;
use super::layout;
use super::names::Names;
use super::object::Object;
use crate::registry::oci::{Algorithm, Digest};

/// A part of the blobs of an algorithm.
pub type Shard = (Algorithm, Prefix);

/// Blobs by digest, whichever repositories they belong to.
#[derive(Clone, Debug)]
pub struct Blobs {
    driver: Storage,
}

impl Blobs {
    /// Makes the store on a driver.
    pub fn new(driver: Storage) -> Self {
        Self { driver }
    }

    /// Returns the size of a blob in bytes.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn head(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        self.driver.head(&layout::blob_data(digest)).await
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn open(&self, digest: &Digest) -> Result<Option<Object>, StorageError> {
        self.driver.open(&layout::blob_data(digest)).await
    }

    /// Returns the parts that blobs are spread over.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn shards(&self) -> Result<Vec<Shard>, StorageError> {
        let mut found = Vec::new();
        for algorithm in Algorithm::ALL {
            let top = layout::blobs_of(algorithm);
            let names = self.driver.list(&top).await?;
            let names = names.iter().flat_map(Names::iter);
            found.extend(names.map(|name| (algorithm, top.below(name))));
        }
        Ok(found)
    }

    /// Returns the digests that a part has names for; the data of one may be
    /// missing, when it is on its way or was.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn digests(&self, (algorithm, prefix): &Shard) -> Result<Vec<Digest>, StorageError> {
        let names = self.driver.list(prefix).await?;
        let names = names.iter().flat_map(Names::iter);
        Ok(names
            .filter_map(|hex| format!("{}:{hex}", algorithm.name()).parse().ok())
            .collect())
    }

    /// Returns when a blob was last used, and its size.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn last_used(&self, digest: &Digest) -> Result<Option<LastUsed>, StorageError> {
        self.driver.last_used(&layout::blob_data(digest)).await
    }

    /// Removes a blob; says whether it was there.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn remove(&self, digest: &Digest, durability: Durability) -> Result<bool, StorageError> {
        let target = vec![Target::Object(layout::blob_data(digest))];
        Ok(self.driver.delete(target, durability).await? > 0)
    }

    /// Moves a blob out of sight: the first step of its deletion.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn set_aside(&self, digest: &Digest) -> Result<Aside, StorageError> {
        self.driver.set_aside(vec![layout::blob_data(digest)]).await
    }

    /// Moves a blob out of the layout, where it is kept under its digest.
    ///
    /// # Errors
    /// Those of the storage; then it is where it was.
    pub async fn quarantine(&self, digest: &Digest) -> Result<(), StorageError> {
        let aside = self.set_aside(digest).await?;
        if let Err(error) = self.driver.quarantine(&aside, &digest.to_string()).await {
            self.driver.restore(&aside).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Reads a small blob whole.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn read(&self, digest: &Digest) -> Result<Option<Bytes>, StorageError> {
        self.driver.get(&layout::blob_data(digest)).await
    }
}
