//! Why a collection or a check ends early.

use super::workers::Interrupted;
use crate::registry::storage::StorageError;

/// Why a collection did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The storage failed. What cannot be read may be alive.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It was interrupted.
    #[error("interrupted; what was removed had no references, run it again to go on")]
    Interrupted,
    /// The metadata are elsewhere: nothing here tells what is alive.
    #[error(
        "the metadata of this storage are in a database, as docker/registry/lockfiles/database-in-use says; nothing was touched"
    )]
    Database,
    /// Another one runs.
    #[error("a garbage collection of this storage is running already")]
    Busy,
    /// What is damaged may have named anything.
    #[error(
        "nothing was removed: the following cannot be read, so what they refer to may still be in use\n{}\nrestore them, push them again, or delete them: DELETE /v2/NAME/manifests/TAG or DIGEST; kdk registry verify --repair fixes what can be recovered",
        list(.0)
    )]
    Damaged(Vec<String>),
    /// There are blobs, and nothing that could name one.
    #[error(
        "nothing was removed: this storage has {0} blobs that could go, and no repository with a manifest. Check that it is the right storage, and that its metadata are not in a database; to remove all of them anyway: --all-blobs {0}"
    )]
    NoManifests(usize),
}

/// Damaged things that one message names.
const SHOWN: usize = 20;

fn list(damaged: &[String]) -> String {
    let mut lines: Vec<String> = damaged.iter().take(SHOWN).map(|what| format!("  {what}")).collect();
    if damaged.len() > SHOWN {
        lines.push(format!("  and {} more", damaged.len() - SHOWN));
    }
    lines.join("\n")
}

impl From<Interrupted> for CollectError {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}
