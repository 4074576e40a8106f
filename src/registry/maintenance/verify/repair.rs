//! What is mended, where that is asked for.

use bytes::Bytes;

use crate::registry::metadata::files::links::Link;
use crate::registry::metadata::files::walk::TagPlace;
use crate::registry::oci::Digest;
use crate::registry::storage::{Blobs, Change, Durability, Expected, Storage, StorageError, Target};

/// Mends, or only would.
pub struct Repair<'a> {
    /// The storage.
    pub storage: &'a Storage,
    /// Whether anything is changed.
    pub is_on: bool,
}

impl Repair<'_> {
    /// Removes something; says what was done.
    pub async fn discard(&self, target: Target) -> Result<Option<&'static str>, StorageError> {
        if !self.is_on {
            return Ok(None);
        }
        self.storage.delete(vec![target], Durability::Volatile).await?;
        Ok(Some("removed"))
    }

    /// Makes a link what it should be; says what was done.
    pub async fn link(&self, link: &Link) -> Result<Option<&'static str>, StorageError> {
        if !self.is_on {
            return Ok(None);
        }
        self.storage.commit(vec![link.put()], Durability::Durable).await?;
        Ok(Some("linked"))
    }

    /// Lets a tag stand for what it stood for; says what was done.
    pub async fn tag(&self, place: &TagPlace, digest: &Digest) -> Result<Option<&'static str>, StorageError> {
        if !self.is_on {
            return Ok(None);
        }
        let change = Change::Update {
            key: place.key(),
            content: Bytes::from(digest.to_string()),
            expected: Expected::Anything,
        };
        self.storage.commit(vec![change], Durability::Durable).await?;
        Ok(Some("restored"))
    }

    /// Moves a blob out of the layout; says what was done.
    pub async fn quarantine(&self, digest: &Digest) -> Result<Option<&'static str>, StorageError> {
        if !self.is_on {
            return Ok(None);
        }
        Blobs::new(self.storage.clone()).quarantine(digest).await?;
        Ok(Some("moved to .kdk/quarantine; push it again"))
    }
}
