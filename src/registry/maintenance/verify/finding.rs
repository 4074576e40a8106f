//! What a check finds.

use serde::Serialize;

use crate::registry::oci::Digest;

/// What is wrong with one thing in a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The kind of problem: `corrupt-blob`, `broken-link`, `dangling-tag`,
    /// `missing-blob`, `missing-layer-link`, `missing-manifest`, `leftover`;
    /// with a database `wrong-size` and `corrupt-manifest`.
    pub problem: &'static str,
    /// The repository, where it concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// What it is about: a digest, a tag or a path.
    pub subject: String,
    /// What exactly is wrong.
    pub detail: String,
    /// What was done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<&'static str>,
}

/// All that was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Blobs whose content was read.
    pub blobs: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// Repositories that were looked through.
    pub repositories: usize,
    /// Manifests that were checked.
    pub manifests: usize,
    /// Whether the metadata are in a database, and were checked there.
    pub in_database: bool,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What one part of the work found.
#[derive(Default)]
pub struct Part {
    /// Blobs that were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Manifests that were checked.
    pub manifests: usize,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Blobs that are what their digest says.
    pub valid: Vec<Digest>,
}
