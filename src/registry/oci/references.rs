//! What must be in a repository before a manifest may be.

use super::digest::Digest;
use super::manifest::{Kind, Manifest};

/// Which entries of an index must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Platforms {
    /// All.
    #[default]
    All,
    /// None: indexes may be sparse, and images lack layers.
    None,
    /// Those for these platforms, each as `(os, architecture)`.
    Listed(Vec<(String, String)>),
}

/// What may be under a digest that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A blob of the size that is named.
    Blob,
    /// A manifest, or a blob: build caches are indexes of blobs.
    Either,
}

/// Something that a manifest needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as it is named.
    pub size: u64,
    /// What it may be.
    pub holds: Holds,
}

/// Returns what a manifest needs, each once, in the order in which it is named.
pub fn required(manifest: &Manifest, platforms: &Platforms) -> Vec<Required> {
    let (descriptors, holds) = match &manifest.kind {
        Kind::Image { config, layers } => {
            // A layer with URLs may be fetched from elsewhere. Who permits sparse
            // indexes permits images without some of their layers, too.
            let layers = layers.iter().filter(|layer| layer.urls.is_empty());
            let layers = layers.filter(|_| *platforms != Platforms::None);
            (std::iter::once(config).chain(layers).collect::<Vec<_>>(), Holds::Blob)
        }
        Kind::Index { manifests } => {
            let entries = manifests.iter().filter(|entry| match platforms {
                Platforms::All => true,
                Platforms::None => false,
                Platforms::Listed(listed) => entry
                    .platform
                    .as_ref()
                    .is_some_and(|platform| listed.contains(platform)),
            });
            (entries.collect(), Holds::Either)
        }
    };
    let mut seen = std::collections::HashSet::new();
    descriptors
        .into_iter()
        .filter(|descriptor| seen.insert((&descriptor.digest, descriptor.size)))
        .map(|descriptor| Required {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            holds,
        })
        .collect()
}
