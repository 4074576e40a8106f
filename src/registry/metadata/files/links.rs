//! The links of a repository as they are, with their damage: for whoever
//! checks, collects or imports.

use bytes::Bytes;
use jiff::Timestamp;

use crate::registry::oci::{Algorithm, Digest, RepoName, Tag};
use crate::registry::storage::{Change, Key, Prefix, Storage, StorageError, Target, layout};

/// What a link is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It names the digest that its path says.
    Valid,
    /// It names something else, or nothing.
    Corrupt,
    /// It is not there; a deletion leaves its directory.
    Missing,
}

/// A link whose path says what it should name.
#[derive(Clone, Debug)]
pub struct Link {
    key: Key,
    digest: Digest,
}

impl Link {
    /// The link that makes a manifest part of a repository.
    pub fn revision(name: &RepoName, digest: &Digest) -> Self {
        Self {
            key: layout::revision_link(name, digest),
            digest: digest.clone(),
        }
    }

    /// The link that makes a blob part of a repository.
    pub fn layer(name: &RepoName, digest: &Digest) -> Self {
        Self {
            key: layout::layer_link(name, digest),
            digest: digest.clone(),
        }
    }

    /// The link that records that a tag once stood for a manifest.
    pub fn history(name: &RepoName, tag: &Tag, digest: &Digest) -> Self {
        Self {
            key: layout::tag_index_link(name, tag, digest),
            digest: digest.clone(),
        }
    }

    /// Returns its key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns it as what is removed.
    pub fn target(&self) -> Target {
        Target::Object(self.key.clone())
    }

    /// Returns the change that makes it what it should be.
    pub fn put(&self) -> Change {
        Change::PutVerified {
            key: self.key.clone(),
            content: Bytes::from(self.digest.to_string()),
        }
    }

    /// Looks at it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn state(&self, storage: &Storage) -> Result<State, StorageError> {
        state(storage, &self.key, &self.digest).await
    }

    /// Says whether it is empty: a push that was killed in between leaves as
    /// much, and it reads as absent.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub async fn is_empty(&self, storage: &Storage) -> Result<bool, StorageError> {
        Ok(storage.head(&self.key).await? == Some(0))
    }

    /// Says whether it was used at or after a time.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub async fn is_used_since(&self, storage: &Storage, time: Timestamp) -> Result<bool, StorageError> {
        Ok(storage.last_used(&self.key).await?.is_some_and(|used| used.at >= time))
    }
}

async fn state(storage: &Storage, key: &Key, digest: &Digest) -> Result<State, StorageError> {
    let named = digest.to_string();
    let is_valid = |text: &Bytes| text.trim_ascii() == named.as_bytes();
    let mut found = storage.get(key).await?;
    if found.as_ref().is_some_and(|text| !is_valid(text)) {
        // A push may be writing it: reading again waits for that.
        found = storage.get(key).await?;
    }
    Ok(match found {
        None => State::Missing,
        Some(text) if is_valid(&text) => State::Valid,
        Some(_) => State::Corrupt,
    })
}

/// What a tag is found to stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Current {
    /// This manifest.
    Names(Digest),
    /// Nobody knows.
    Corrupt,
    /// Nothing: it is no tag.
    Missing,
}

/// Looks at what a tag stands for.
///
/// # Errors
/// When it cannot be read.
pub async fn current(storage: &Storage, name: &RepoName, tag: &Tag) -> Result<Current, StorageError> {
    let Some(text) = storage.get(&current_key(name, tag)).await? else {
        return Ok(Current::Missing);
    };
    let digest = std::str::from_utf8(&text).ok();
    let digest = digest.and_then(|text| text.trim().parse().ok());
    Ok(digest.map_or(Current::Corrupt, Current::Names))
}

/// Returns the key of what a tag stands for.
pub fn current_key(name: &RepoName, tag: &Tag) -> Key {
    layout::tag_current_link(name, tag)
}

/// Returns what a tag stands for as what is removed.
pub fn current_target(name: &RepoName, tag: &Tag) -> Target {
    Target::Object(current_key(name, tag))
}

/// Returns a tag, with its history, as what is removed.
pub fn tag(name: &RepoName, tag: &Tag) -> Target {
    Target::All(layout::tag(name, tag))
}

/// Says whether a manifest that a tag names has no link of its own.
///
/// # Errors
/// When the links cannot be read.
pub async fn is_own_link_lost(
    storage: &Storage,
    name: &RepoName,
    tag: &Tag,
    digest: &Digest,
) -> Result<bool, StorageError> {
    // One that was pushed a moment ago has its link.
    if Link::revision(name, digest).state(storage).await? == State::Valid {
        return Ok(false);
    }
    // Of one that was deleted a moment ago the tag went first.
    Ok(state(storage, &current_key(name, tag), digest).await? == State::Valid)
}

/// Returns what has the place of a tag in a repository, whether that can be one or not.
///
/// # Errors
/// When it cannot be listed.
pub async fn tag_names(storage: &Storage, name: &RepoName) -> Result<Vec<String>, StorageError> {
    let names = storage.list(&layout::tags(name)).await?;
    Ok(names.iter().flat_map(|names| names.iter()).cloned().collect())
}

/// Returns where tags of a repository lie.
pub fn tags_prefix(name: &RepoName) -> Prefix {
    layout::tags(name)
}

/// Returns the manifests that have a place in a repository.
///
/// # Errors
/// When they cannot be listed.
pub async fn revisions(storage: &Storage, name: &RepoName) -> Result<Vec<Digest>, StorageError> {
    digests_below(storage, &layout::revisions(name)).await
}

/// Returns the blobs that have a place in a repository.
///
/// # Errors
/// When they cannot be listed.
pub async fn layers(storage: &Storage, name: &RepoName) -> Result<Vec<Digest>, StorageError> {
    digests_below(storage, &layout::layers(name)).await
}

/// Returns the manifests that a tag once stood for.
///
/// # Errors
/// When they cannot be listed.
pub async fn history(storage: &Storage, name: &RepoName, tag: &Tag) -> Result<Vec<Digest>, StorageError> {
    digests_below(storage, &layout::tag_index(name, tag)).await
}

/// Returns the digests that directories below `top` are named after.
async fn digests_below(storage: &Storage, top: &Prefix) -> Result<Vec<Digest>, StorageError> {
    let mut found = Vec::new();
    for algorithm in Algorithm::ALL {
        let names = storage.list(&top.below(algorithm.name())).await?;
        let names = names.iter().flat_map(|names| names.iter());
        found.extend(names.filter_map(|hex| format!("{}:{hex}", algorithm.name()).parse::<Digest>().ok()));
    }
    Ok(found)
}
