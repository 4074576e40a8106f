//! A manifest's bytes with what they say.

use bytes::Bytes;

use super::digest::Digest;
use super::manifest::{Manifest, ManifestError};

/// A manifest that was understood, with the bytes that it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedManifest {
    /// The digest of the bytes.
    pub digest: Digest,
    /// The bytes, exactly as they came.
    pub content: Bytes,
    /// What they say.
    pub manifest: Manifest,
}

impl ParsedManifest {
    /// Understands stored bytes, whose digest is known.
    ///
    /// # Errors
    /// When they are no manifest that this registry takes.
    pub fn read(digest: Digest, content: Bytes) -> Result<Self, ManifestError> {
        let manifest = Manifest::parse(&content, None)?;
        Ok(Self {
            digest,
            content,
            manifest,
        })
    }
}
