//! A blob that is all there, and has yet to be named.

use bytes::Bytes;

use super::change::Change;
use super::layout;
use super::writer::Staged;
use crate::registry::oci::Digest;

/// A blob that is all there, with the digest that was promised, and that no
/// reader finds yet.
#[derive(Debug)]
pub struct StagedBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// It never was an object of its own.
    Bytes(Bytes),
    /// A writer finished it.
    Staged(Staged),
}

impl StagedBlob {
    /// Makes one of bytes, whose digest the caller has checked.
    pub fn of_bytes(digest: Digest, content: Bytes) -> Self {
        Self {
            digest,
            size: content.len() as u64,
            content: Content::Bytes(content),
        }
    }

    /// Makes one of what was written, whose digest the caller has checked.
    pub fn of_staged(digest: Digest, staged: Staged) -> Self {
        Self {
            digest,
            size: staged.size,
            content: Content::Staged(staged),
        }
    }

    /// Returns what makes it a blob.
    pub fn into_change(self) -> Change {
        let key = layout::blob_data(&self.digest);
        match self.content {
            Content::Bytes(content) => Change::Put { key, content },
            Content::Staged(staged) => Change::Promote { staged, key },
        }
    }
}
