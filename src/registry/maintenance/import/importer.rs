//! An import under way.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::options::{Event, Options};
use crate::registry::metadata::postgres::import::Counts;
use crate::registry::metadata::{Files, MetadataError, Postgres};
use crate::registry::oci::{Digest, RepoName};
use crate::registry::storage::{Blobs, Storage};

/// An import under way.
pub struct Importer<'a> {
    pub(super) files: Files,
    pub(super) driver: Storage,
    pub(super) blobs: Blobs,
    pub(super) database: &'a Postgres,
    pub(super) options: Options,
    pub(super) stop: &'a CancellationToken,
    pub(super) report: &'a (dyn Fn(Event) + Sync),
    pub(super) counts: Mutex<Counts>,
    /// Blobs that were counted.
    pub(super) seen: Mutex<HashSet<Digest>>,
    /// What a dry run would bring in.
    pub(super) planned: Mutex<HashSet<(RepoName, Digest)>>,
    /// Media types that may be used, where others may not.
    pub(super) types: Option<HashSet<String>>,
    /// Whether rows may be written without triggers and foreign keys.
    pub(super) direct: bool,
    /// Whether an earlier run may have brought some of it.
    pub(super) again: bool,
}

impl<'a> Importer<'a> {
    /// Prepares an import from a driver's files.
    pub fn new(
        driver: Storage,
        database: &'a Postgres,
        options: Options,
        stop: &'a CancellationToken,
        report: &'a (dyn Fn(Event) + Sync),
    ) -> Self {
        Self {
            files: Files::new(driver.clone()),
            blobs: Blobs::new(driver.clone()),
            driver,
            database,
            options,
            stop,
            report,
            counts: Mutex::default(),
            seen: Mutex::default(),
            planned: Mutex::default(),
            types: None,
            direct: false,
            again: false,
        }
    }

    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn skip(&self, what: String, reason: impl Into<String>) {
        (self.report)(Event::Skipped {
            what,
            reason: reason.into(),
            partly: false,
        });
    }

    pub(super) fn check_stop(&self) -> Result<(), MetadataError> {
        if self.stop.is_cancelled() {
            return Err(MetadataError::Import(
                "interrupted; what was imported stays: run it again to go on".to_owned(),
            ));
        }
        Ok(())
    }
}
