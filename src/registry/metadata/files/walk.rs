//! What a repository's directories hold, with their damage: for whoever
//! collects, checks or imports.
//!
//! A name that is none may be what is left of one. What lies under it and
//! names something is found here too, so that nobody takes for absent what is
//! only damaged.

use jiff::Timestamp;

use super::links::{self, Found, Link, State};
use crate::registry::oci::{Algorithm, Digest, RepoName, Tag};
use crate::registry::storage::{Key, Names, Prefix, Storage, StorageError, Target, layout};

/// What lies where digests are expected.
#[derive(Debug, Default)]
pub struct Entries {
    /// Digests that directories are named after.
    pub digests: Vec<Digest>,
    /// Links in directories with other names, and what they name.
    pub strange: Vec<(Key, Found)>,
}

/// Returns the manifests that have a place in a repository.
///
/// # Errors
/// When they cannot be listed.
pub async fn revisions(storage: &Storage, name: &RepoName) -> Result<Entries, StorageError> {
    below(storage, &layout::revisions(name)).await
}

/// Returns the blobs that have a place in a repository.
///
/// # Errors
/// When they cannot be listed.
pub async fn layers(storage: &Storage, name: &RepoName) -> Result<Entries, StorageError> {
    below(storage, &layout::layers(name)).await
}

async fn below(storage: &Storage, top: &Prefix) -> Result<Entries, StorageError> {
    let mut found = Entries::default();
    let algorithms = storage.list(top).await?;
    for algorithm in algorithms.iter().flat_map(Names::iter) {
        let is_known = Algorithm::ALL.iter().any(|known| known.name() == algorithm);
        let place = top.below(algorithm);
        let names = storage.list(&place).await?;
        for hex in names.iter().flat_map(Names::iter) {
            match format!("{algorithm}:{hex}").parse() {
                Ok(digest) if is_known => found.digests.push(digest),
                _ => {
                    let key = layout::link_in(&place.below(hex));
                    match links::read(storage, &key).await? {
                        Found::Nothing => {}
                        named => found.strange.push((key, named)),
                    }
                }
            }
        }
    }
    Ok(found)
}

/// What has the place of a tag in a repository, whether its name can be one or not.
#[derive(Clone, Debug)]
pub struct TagPlace {
    /// Its name.
    pub text: String,
    /// Where all tags of the repository have theirs.
    top: Prefix,
}

/// Returns what has the place of a tag in a repository.
///
/// # Errors
/// When it cannot be listed.
pub async fn tags(storage: &Storage, name: &RepoName) -> Result<Vec<TagPlace>, StorageError> {
    let top = layout::tags(name);
    let names = storage.list(&top).await?;
    let place = |text: &str| TagPlace {
        text: text.to_owned(),
        top: top.clone(),
    };
    Ok(names.iter().flat_map(Names::iter).map(place).collect())
}

impl TagPlace {
    fn place(&self) -> Prefix {
        self.top.below(&self.text)
    }

    /// Returns the tag, if its name can be one.
    pub fn tag(&self) -> Option<Tag> {
        self.text.parse().ok()
    }

    /// Returns it, with its history, as what is removed.
    pub fn target(&self) -> Target {
        Target::All(self.place())
    }

    /// Returns the key of what it stands for.
    pub fn key(&self) -> Key {
        layout::tag_current_link_in(&self.place())
    }

    /// Looks at what it stands for.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn current(&self, storage: &Storage) -> Result<Found, StorageError> {
        links::read(storage, &self.key()).await
    }

    /// Returns the manifests that it once stood for.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn history(&self, storage: &Storage) -> Result<Entries, StorageError> {
        below(storage, &layout::tag_index_in(&self.place())).await
    }

    /// Says whether its history has a manifest.
    ///
    /// # Errors
    /// When that cannot be looked at.
    pub async fn once_was(&self, storage: &Storage, digest: &Digest) -> Result<bool, StorageError> {
        let key = layout::tag_index_link_in(&self.place(), digest);
        Ok(storage.head(&key).await?.is_some())
    }

    /// Says whether it was put at or after a time, to stand for a manifest.
    ///
    /// # Errors
    /// When that cannot be looked at.
    pub async fn was_since(&self, storage: &Storage, digest: &Digest, time: Timestamp) -> Result<bool, StorageError> {
        let key = layout::tag_index_link_in(&self.place(), digest);
        Ok(storage.last_used(&key).await?.is_some_and(|used| used.at >= time))
    }

    /// Says whether the manifest that it stands for has no link of its own.
    ///
    /// # Errors
    /// When the links cannot be read.
    pub async fn is_own_link_lost(
        &self,
        storage: &Storage,
        name: &RepoName,
        digest: &Digest,
    ) -> Result<bool, StorageError> {
        // One that was pushed a moment ago has its link.
        if Link::revision(name, digest).state(storage).await? == State::Valid {
            return Ok(false);
        }
        // Of one that was deleted a moment ago the tag went first.
        Ok(self.current(storage).await? == Found::Names(digest.clone()))
    }
}
