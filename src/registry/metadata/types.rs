//! What operations on metadata return.

use std::borrow::Cow;

use bytes::Bytes;

use crate::registry::oci::manifest::Manifest;
use crate::registry::oci::media_type;

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
