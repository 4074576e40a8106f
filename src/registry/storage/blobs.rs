//! The content-addressed store that all repositories share.

use bytes::Bytes;

use super::dispatch::Storage;
use super::driver::{Stat, StorageError};
use super::layout;
use super::object::Object;
use crate::registry::oci::Digest;

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

    /// Returns size and age of a blob.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn stat(&self, digest: &Digest) -> Result<Option<Stat>, StorageError> {
        self.driver.stat(&layout::blob_data(digest)).await
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn open(&self, digest: &Digest) -> Result<Option<Object>, StorageError> {
        self.driver.open(&layout::blob_data(digest)).await
    }

    /// Reads a small blob whole.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn read(&self, digest: &Digest) -> Result<Option<Bytes>, StorageError> {
        self.driver.read(&layout::blob_data(digest)).await
    }
}
