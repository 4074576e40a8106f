//! A manifest as rows hold it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::client::encode;
use crate::registry::oci::manifest::{Descriptor, Kind, Manifest};
use crate::registry::oci::{Digest, ParsedManifest, media_type};

/// Largest configuration that is kept with its manifest, in bytes (GitLab's limit).
pub const LARGEST_CONFIGURATION: u64 = 256_000;
/// Type of a blob of which nothing else is known.
const BLOB_TYPE: &str = "application/octet-stream";

/// A manifest as rows hold it.
#[derive(Debug)]
pub struct ManifestRow {
    digest: Digest,
    pub(super) content: Bytes,
    pub(super) manifest: Manifest,
    pub(super) artifact_type: Option<String>,
    pub(super) configuration: Option<Bytes>,
    /// Sizes of blobs for which it names others.
    sizes: HashMap<Digest, u64>,
    /// What it may not do without, where that is not all.
    required: Option<HashSet<Digest>>,
}

impl ManifestRow {
    /// Makes one of a manifest and its configuration, where that can be had. It
    /// is kept as long as it has at most [`LARGEST_CONFIGURATION`] bytes.
    pub fn new(parsed: ParsedManifest, configuration: Option<Bytes>) -> Self {
        let ParsedManifest {
            digest,
            content,
            manifest,
        } = parsed;
        let attached = manifest.subject.is_some();
        let artifact_type = manifest.artifact_type.clone().or_else(|| match &manifest.kind {
            Kind::Image { config, .. } if attached => Some(config_type(config).to_owned()),
            // What is attached is told by its having a type, see REFERRERS.
            Kind::Index { .. } if attached => Some(manifest.media_type.clone()),
            _ => None,
        });
        Self {
            digest,
            configuration: configuration.filter(|bytes| bytes.len() as u64 <= LARGEST_CONFIGURATION),
            artifact_type,
            manifest,
            content,
            sizes: HashMap::new(),
            required: None,
        }
    }

    /// Returns the configuration's descriptor.
    pub(super) fn config(&self) -> Option<&Descriptor> {
        match &self.manifest.kind {
            Kind::Image { config, .. } => Some(config),
            Kind::Index { .. } => None,
        }
    }

    /// Returns the blobs, or the entries of an index.
    pub(super) fn entries(&self) -> &[Descriptor] {
        match &self.manifest.kind {
            Kind::Image { layers, .. } => layers,
            Kind::Index { manifests } => manifests,
        }
    }

    /// Returns the manifest's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns all that it names: configuration and layers, or an index's entries.
    pub fn blobs_or_entries(&self) -> impl Iterator<Item = &Descriptor> {
        self.config().into_iter().chain(self.entries())
    }

    /// Returns the configuration as rows hold it. GitLab's registry writes
    /// JSON's null for one that is too large, and expects nothing else.
    pub(super) fn kept_configuration(&self) -> Option<&[u8]> {
        self.config().map(|_| self.configuration.as_deref().unwrap_or(b"null"))
    }

    /// Says whether it is an index.
    pub fn is_index(&self) -> bool {
        self.config().is_none()
    }

    /// Says whether it is an image that is attached to nothing.
    pub(super) fn is_plain(&self) -> bool {
        !self.is_index() && self.manifest.subject.is_none()
    }

    /// Says whether some of its layers may not be distributed, by their types.
    pub(super) fn has_foreign_layers(&self) -> bool {
        !self.is_index()
            && self
                .entries()
                .iter()
                .any(|entry| media_type::is_foreign(&entry.media_type))
    }

    /// Notes the sizes that blobs really have.
    pub fn note_sizes(&mut self, stored: impl Fn(&Digest) -> Option<u64>) {
        let wrong = |part: &Descriptor| {
            let size = stored(&part.digest).filter(|size| *size != part.size)?;
            Some((part.digest.clone(), size))
        };
        self.sizes = self.blobs_or_entries().filter_map(wrong).collect();
    }

    /// Notes what must be there.
    pub fn note_required<'a>(&mut self, required: impl Iterator<Item = &'a Digest>) {
        self.required = Some(required.cloned().collect());
    }

    /// Says whether it may not do without something that it names.
    pub(super) fn requires(&self, part: &Descriptor) -> bool {
        self.required
            .as_ref()
            .is_none_or(|required| required.contains(&part.digest))
    }

    /// Returns the size of something that it names, in bytes.
    pub(super) fn size_of(&self, part: &Descriptor) -> u64 {
        self.sizes.get(&part.digest).copied().unwrap_or(part.size)
    }

    /// Returns all media types that its rows name.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        [self.manifest.media_type.as_str()]
            .into_iter()
            .chain(self.artifact_type.as_deref())
            .chain(self.config().map(config_type))
            .chain(self.entries().iter().map(entry_type))
    }

    /// Returns what it names and is not to be fetched from elsewhere.
    pub(super) fn named(&self) -> Vec<Vec<u8>> {
        let own = self.config().into_iter();
        own.chain(self.entries().iter().filter(|entry| entry.urls.is_empty()))
            .map(|descriptor| encode(&descriptor.digest))
            .collect()
    }

    /// Returns the size of all it stands for, in bytes. An index counts for
    /// nothing, but for a build cache, whose entries are blobs.
    pub(super) fn total_size(&self, is_cache: bool) -> i64 {
        if self.is_index() && !is_cache {
            return 0;
        }
        let parts = self.config().into_iter().chain(self.entries());
        let sum = parts.fold(self.content.len() as u64, |sum, part| sum.saturating_add(part.size));
        i64::try_from(sum).unwrap_or(i64::MAX)
    }
}

/// A configuration without a type is one all the same.
pub(super) fn config_type(config: &Descriptor) -> &str {
    if config.media_type.is_empty() {
        BLOB_TYPE
    } else {
        &config.media_type
    }
}

pub(super) fn entry_type(entry: &Descriptor) -> &str {
    if entry.media_type.is_empty() {
        BLOB_TYPE
    } else {
        &entry.media_type
    }
}
