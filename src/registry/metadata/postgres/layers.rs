//! Layers of manifests, as columns.

use std::collections::HashSet;

use super::client::encode;
use super::manifest_row::ManifestRow;
use super::repository::Repository;
use crate::registry::oci::manifest::Descriptor;
use crate::registry::oci::media_type;

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
    pub(super) fn add(
        &mut self,
        at: Repository,
        manifest: i64,
        row: &ManifestRow,
        layer: &Descriptor,
        type_id: Option<i16>,
    ) {
        let size = row.size_of(layer);
        self.namespace.push(at.namespace);
        self.repository.push(at.id);
        self.manifest.push(manifest);
        self.digest.push(encode(&layer.digest));
        self.media_type.push(type_id);
        self.size.push(i64::try_from(size).unwrap_or(i64::MAX));
        self.optional
            .push(!layer.urls.is_empty() || media_type::is_foreign(&layer.media_type) || !row.requires(layer));
    }

    /// Says whether some of them may be elsewhere.
    pub(super) fn has_optional(&self) -> bool {
        self.optional.iter().any(|optional| *optional)
    }

    /// Drops those that may be elsewhere and are no part of their repository.
    pub(super) fn keep(&mut self, known: &HashSet<(i64, Vec<u8>)>) {
        let places = self.repository.iter().zip(&self.digest);
        let kept: Vec<bool> = places
            .zip(&self.optional)
            .map(|((repository, digest), optional)| !optional || known.contains(&(*repository, digest.clone())))
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
