//! What a collection is asked to do, and what it tells.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a collection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Whether manifests without a tag go too.
    pub delete_untagged: bool,
    /// Whether it is only said what would go.
    pub dry_run: bool,
    /// Age from which content may go: a push may be under way.
    pub grace: Duration,
    /// Whether everything that is marked is told.
    pub verbose: bool,
    /// How many blobs may go although no repository has a manifest.
    #[serde(default)]
    pub all_blobs: Option<usize>,
}

/// What a collection tells while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A stage begins.
    Stage {
        /// Its name: `mark`, `inspect`, `sweep`.
        name: String,
    },
    /// So much of the stage is done.
    Progress {
        /// Items done.
        done: usize,
        /// Items of the stage.
        total: usize,
    },
    /// A repository was marked.
    Repository {
        /// Its name.
        name: String,
        /// Live manifests and what they name.
        manifests: Vec<(String, Vec<String>)>,
    },
    /// Something is not as it should be.
    Warning {
        /// What.
        message: String,
    },
    /// The marking is complete.
    Marked {
        /// Blobs that are alive.
        blobs_marked: usize,
        /// Blobs that go.
        blobs_to_delete: usize,
        /// Manifests that go.
        manifests_to_delete: usize,
        /// Bytes that this frees.
        storage_use_estimate_bytes: u64,
        /// Blobs without a reference that are too young.
        blobs_kept_young: usize,
    },
    /// A manifest goes.
    Manifest {
        /// Its repository.
        repository: String,
        /// Its digest.
        digest: String,
    },
    /// A blob goes.
    Blob {
        /// Its digest.
        digest: String,
        /// Its size in bytes.
        size: u64,
    },
    /// The collection is over.
    Finished(Summary),
    /// The collection failed.
    Failed {
        /// Why.
        message: String,
    },
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Repositories that were marked.
    pub repositories: usize,
    /// Blobs that are alive.
    pub blobs_marked: usize,
    /// Blobs that nothing refers to.
    pub blobs_to_delete: usize,
    /// Manifests that nothing keeps.
    pub manifests_to_delete: usize,
    /// Manifests that were removed.
    pub manifests_deleted: usize,
    /// Blobs that were removed.
    pub blobs_deleted: usize,
    /// Links that were removed.
    pub links_deleted: usize,
    /// Bytes that were freed.
    pub bytes_freed: u64,
    /// Blobs without a reference that are too young.
    pub blobs_kept_young: usize,
    /// Manifests without a tag that are too young.
    pub manifests_kept_young: usize,
    /// How many things were not as they should be.
    pub warnings: usize,
}
