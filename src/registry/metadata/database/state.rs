//! What the operations work with.

use crate::registry::metadata::postgres::Postgres;
use crate::registry::storage::{Blobs, Storage};

/// Metadata in a database.
#[derive(Clone, Debug)]
pub struct InDatabase {
    pub(super) rows: Postgres,
    pub(super) storage: Storage,
    pub(super) blobs: Blobs,
}

impl InDatabase {
    /// Makes it of rows, and the storage that holds the data of blobs.
    pub fn new(rows: Postgres, storage: Storage) -> Self {
        Self {
            rows,
            blobs: Blobs::new(storage.clone()),
            storage,
        }
    }

    /// Returns the rows.
    pub fn rows(&self) -> &Postgres {
        &self.rows
    }
}
