//! What a commit consists of, and what a deletion is about.

use bytes::Bytes;
use jiff::Timestamp;

use super::key::{Key, Prefix};
use super::writer::Staged;
use crate::sys::clock::Clock;

/// One part of a change.
#[derive(Debug)]
pub enum Change {
    /// A small object that proves itself: readers check it against its own
    /// name, so that it may be seen before it is durable. Links and manifests.
    PutVerified {
        /// Its name.
        key: Key,
        /// Its content.
        content: Bytes,
    },
    /// An object that is whole whenever it is there; it replaces what is.
    Put {
        /// Its name.
        key: Key,
        /// Its content.
        content: Bytes,
    },
    /// The same, from what a writer finished, whose own name is gone afterwards.
    Promote {
        /// What was written.
        staged: Staged,
        /// Its name to be.
        key: Key,
    },
    /// An object that is there, and is used from now on: that protects it
    /// from a garbage collection for its grace.
    Touch {
        /// Its name.
        key: Key,
    },
    /// An object that changes: readers see the old content, until everything
    /// else of the change is durable, and then the new.
    Update {
        /// Its name.
        key: Key,
        /// Its content.
        content: Bytes,
        /// What must be there before.
        expected: Expected,
    },
}

impl Change {
    /// Returns the name of what it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::PutVerified { key, .. }
            | Self::Put { key, .. }
            | Self::Promote { key, .. }
            | Self::Touch { key }
            | Self::Update { key, .. } => key,
        }
    }

    /// Returns how many bytes the object will have; nothing where it stays as it is.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::PutVerified { content, .. } | Self::Put { content, .. } | Self::Update { content, .. } => {
                Some(content.len() as u64)
            }
            Self::Promote { staged, .. } => Some(staged.size),
            Self::Touch { .. } => None,
        }
    }
}

/// What must be there for an object to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there.
    Anything,
    /// Nothing.
    Absent,
    /// This.
    Content(Bytes),
}

impl Expected {
    /// Says whether it is what is there.
    pub fn is(&self, there: Option<&[u8]>) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => there.is_none(),
            Self::Content(content) => there == Some(content),
        }
    }
}

/// What is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An object.
    Object(Key),
    /// All objects below a prefix, also unfinished ones.
    All(Prefix),
}

impl Target {
    /// Returns the name of what it is about.
    pub fn name(&self) -> &str {
        match self {
            Self::Object(key) => key.as_str(),
            Self::All(prefix) => prefix.as_str(),
        }
    }
}

/// Objects that are out of sight, or noted to go: the first step of a
/// deletion. Until the second, it can be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// What tells it from others.
    pub(super) id: String,
    /// When it was set aside.
    pub(super) at: Timestamp,
    /// The objects' names.
    pub(super) keys: Vec<Key>,
}

impl Aside {
    /// Sets objects aside from this moment on.
    pub(super) fn now(keys: Vec<Key>) -> Self {
        Self {
            id: format!("{:016x}", crate::sys::random::below(u64::MAX)),
            at: Clock::System.now(),
            keys,
        }
    }

    /// Says whether it is too late for the second step.
    pub(super) fn is_over(deadline: Timestamp) -> bool {
        Clock::System.now() > deadline
    }
}

/// What a change outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power loss.
    Durable,
    /// The end of this process; a power loss only after `flush`.
    Volatile,
}
