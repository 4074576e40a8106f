//! What operations on metadata take and return.

use std::borrow::Cow;

use bytes::Bytes;

use crate::registry::oci::manifest::Manifest;
use crate::registry::oci::references::Required;
use crate::registry::oci::{Digest, ParsedManifest, Tag, media_type};

/// One page of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The names, sorted bytewise.
    pub names: Vec<String>,
    /// Whether more follow.
    pub more: bool,
}

/// A manifest as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its bytes, exactly as they were pushed.
    pub content: Bytes,
    /// Its media type.
    pub media_type: Cow<'static, str>,
}

impl Stored {
    /// Understands stored bytes as far as possible.
    pub fn new(content: Bytes) -> Self {
        let media_type = match Manifest::parse(&content, None) {
            Ok(manifest) => media_type::shared(manifest.media_type),
            Err(_) => media_type::shared(media_type::of_unknown(&content)),
        };
        Self { content, media_type }
    }

    /// Returns what it says; nothing for a kind that this registry does not know.
    pub fn manifest(&self) -> Option<Manifest> {
        Manifest::parse(&self.content, None).ok()
    }
}

/// A manifest that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct PutManifest<'a> {
    /// The manifest.
    pub manifest: &'a ParsedManifest,
    /// What must be there.
    pub required: &'a [Required],
    /// The tags that are to stand for it.
    pub tags: &'a [(Tag, Moves)],
}

impl<'a> PutManifest<'a> {
    /// Returns what a collection has to leave: the manifest, and all that it names.
    pub(super) fn relied_on(&self) -> impl Iterator<Item = &'a Digest> + use<'a> {
        [&self.manifest.digest]
            .into_iter()
            .chain(self.manifest.manifest.references())
    }
}

/// Whether a tag may leave the manifest that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moves {
    /// It may.
    Allowed,
    /// It is immutable.
    Refused,
}

/// Says which tags keep a manifest from being deleted; nothing where none do.
pub type IsProtected<'a> = Option<&'a (dyn Fn(&str) -> bool + Send + Sync)>;

/// What came of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, and with it, in files, these tags.
    Yes(Vec<Tag>),
    /// It was not there.
    Absent,
    /// This tag keeps it.
    Protected(String),
}

/// What is known of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRecord {
    /// Its size in bytes.
    pub size: u64,
    /// What its content is stored under, where that is another algorithm's
    /// digest: Go registries store all under SHA-256.
    pub alias_of: Option<Digest>,
}
