//! Layers of manifests, as columns.

use std::collections::HashSet;

use super::client::encode;
use super::repository::Repository;
use crate::registry::oci::manifest::Descriptor;

/// Columns of layers.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) namespace: Vec<i64>,
    pub(super) repository: Vec<i64>,
    pub(super) manifest: Vec<i64>,
    pub(super) digest: Vec<Vec<u8>>,
    pub(super) media_type: Vec<Option<i16>>,
    pub(super) size: Vec<i64>,
    optional: Vec<bool>,
}

impl Layers {
    /// Adds a layer of a manifest.
    pub(super) fn add(&mut self, at: Repository, manifest: i64, layer: &Descriptor, media_type: Option<i16>) {
        self.namespace.push(at.namespace);
        self.repository.push(at.id);
        self.manifest.push(manifest);
        self.digest.push(encode(&layer.digest));
        self.media_type.push(media_type);
        self.size.push(i64::try_from(layer.size).unwrap_or(i64::MAX));
        self.optional.push(!layer.urls.is_empty());
    }

    /// Says whether some of them may be elsewhere.
    pub(super) fn has_optional(&self) -> bool {
        self.optional.iter().any(|optional| *optional)
    }

    /// Drops those that may be elsewhere and are not known.
    pub(super) fn keep(&mut self, known: &HashSet<Vec<u8>>) {
        let kept: Vec<bool> = self
            .digest
            .iter()
            .zip(&self.optional)
            .map(|(digest, optional)| !optional || known.contains(digest))
            .collect();
        filter(&mut self.namespace, &kept);
        filter(&mut self.repository, &kept);
        filter(&mut self.manifest, &kept);
        filter(&mut self.digest, &kept);
        filter(&mut self.media_type, &kept);
        filter(&mut self.size, &kept);
        filter(&mut self.optional, &kept);
    }
}

fn filter<T>(column: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    column.retain(|_| kept.next().copied().unwrap_or(true));
}
