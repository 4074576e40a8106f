//! What an import is asked to do, and what it says.

use std::time::Duration;

/// Which steps are done, and how.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "any steps may be chosen")]
pub struct Options {
    /// Step one.
    pub manifests: bool,
    /// Step two.
    pub tags: bool,
    /// Step three.
    pub blobs: bool,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// Whether media types that nobody used before are added.
    pub new_media_types: bool,
    /// Whether what was done stays on record in the database.
    pub statistics: bool,
    /// Step one passes over repositories that it finished within this time.
    pub skip_recent: Option<Duration>,
}

/// What an import says while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step begins.
    Step(&'static str),
    /// So many parts of a step are done.
    Progress {
        /// Parts that are done.
        done: usize,
        /// All parts.
        total: usize,
    },
    /// Something is left out, or brought in without a part of it.
    Skipped {
        /// What: a repository and a tag or digest.
        what: String,
        /// Why, or which part.
        reason: String,
        /// Whether the rest of it is brought in.
        partly: bool,
    },
}
