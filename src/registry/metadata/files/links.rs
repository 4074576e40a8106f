//! A link as it is, with its damage: for whoever collects, checks or imports.

use bytes::Bytes;
use jiff::Timestamp;

use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::{Change, Key, Storage, StorageError, Target, layout};

/// What a link is found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It names the digest that its path says.
    Valid,
    /// A layer's: it names the same content under another algorithm's digest,
    /// as the Go registries write it.
    Alias(Digest),
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
    /// Whether it may name another algorithm's digest.
    may_alias: bool,
}

impl Link {
    /// The link that makes a manifest part of a repository.
    pub fn revision(name: &RepoName, digest: &Digest) -> Self {
        Self {
            key: layout::revision_link(name, digest),
            digest: digest.clone(),
            may_alias: false,
        }
    }

    /// The link that makes a blob part of a repository.
    pub fn layer(name: &RepoName, digest: &Digest) -> Self {
        Self {
            key: layout::layer_link(name, digest),
            digest: digest.clone(),
            may_alias: true,
        }
    }

    /// The link that records that a tag once stood for a manifest.
    pub fn history(name: &RepoName, tag: &Tag, digest: &Digest) -> Self {
        Self {
            key: layout::tag_index_link(name, tag, digest),
            digest: digest.clone(),
            may_alias: false,
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
        let judge = |found: &Found| match found {
            Found::Nothing => State::Missing,
            Found::Names(named) if *named == self.digest => State::Valid,
            Found::Names(named) if self.may_alias && named.algorithm() != self.digest.algorithm() => {
                State::Alias(named.clone())
            }
            Found::Names(_) | Found::Garbled => State::Corrupt,
        };
        let state = judge(&read(storage, &self.key).await?);
        if state != State::Corrupt {
            return Ok(state);
        }
        // A push may be writing it: reading again waits for that.
        Ok(judge(&read(storage, &self.key).await?))
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

/// What is found at a link's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A digest.
    Names(Digest),
    /// Something else, or no bytes at all: nobody knows what it named.
    Garbled,
    /// No link.
    Nothing,
}

/// Reads a link.
///
/// # Errors
/// When it cannot be read.
pub async fn read(storage: &Storage, key: &Key) -> Result<Found, StorageError> {
    let Some(text) = storage.get(key).await? else {
        return Ok(Found::Nothing);
    };
    let digest = std::str::from_utf8(&text).ok();
    let digest = digest.and_then(|text| text.trim().parse().ok());
    Ok(digest.map_or(Found::Garbled, Found::Names))
}
