//! What is known of an unfinished object between requests: an object beside
//! it, written anew whenever somebody leaves it.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::registry::storage::Key;

/// What whoever goes on needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    head: Head,
    /// Bytes after the parts, too few for one more.
    pub tail: Bytes,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    /// Its id at the store, once there is a part.
    id: Option<String>,
    /// Names and sizes of its parts.
    parts: Vec<(String, u64)>,
    /// Whether all of it is an object already, under its own name.
    whole: Option<u64>,
    /// What was noted of it, in base64.
    note: Option<String>,
}

impl Record {
    /// Makes a record of parts and what comes after them.
    pub fn new(id: Option<String>, parts: Vec<(String, u64)>, tail: Bytes, note: Option<&Bytes>) -> Self {
        let note = note.map(|note| BASE64.encode(note));
        let head = Head {
            id,
            parts,
            whole: None,
            note,
        };
        Self { head, tail }
    }

    /// Makes a record of an object that is all there.
    pub fn whole(size: u64, note: Option<&Bytes>) -> Self {
        let head = Head {
            whole: Some(size),
            note: note.map(|note| BASE64.encode(note)),
            ..Head::default()
        };
        Self {
            head,
            tail: Bytes::new(),
        }
    }

    /// Returns its id at the store, once there is a part.
    pub fn id(&self) -> Option<&String> {
        self.head.id.as_ref()
    }

    /// Returns names and sizes of its parts.
    pub fn parts(&self) -> &[(String, u64)] {
        &self.head.parts
    }

    /// Says whether all of it is an object already.
    pub fn is_whole(&self) -> bool {
        self.head.whole.is_some()
    }

    /// Returns how many bytes have arrived.
    pub fn size(&self) -> u64 {
        let parts = self.head.parts.iter().map(|(_, size)| size).sum::<u64>();
        self.head.whole.unwrap_or(parts + self.tail.len() as u64)
    }

    /// Returns what was noted.
    pub fn note(&self) -> Option<Bytes> {
        let note = self.head.note.as_ref()?;
        BASE64.decode(note.as_bytes()).ok().map(Bytes::from)
    }

    /// Reads the record of an object; nothing when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is garbled.
    pub async fn read(store: &Store, key: &Key) -> io::Result<Option<Self>> {
        let Some(mut content) = store.get(&record_of(key)).await? else {
            return Ok(None);
        };
        let line = content.iter().position(|byte| *byte == b'\n');
        let line = line.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let head = serde_json::from_slice(&content.split_to(line + 1)).map_err(io::Error::other)?;
        Ok(Some(Self { head, tail: content }))
    }

    /// Writes it beside an object.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn write(&self, store: &Store, key: &Key) -> io::Result<()> {
        let head = serde_json::to_vec(&self.head).map_err(io::Error::other)?;
        let mut content = BytesMut::with_capacity(head.len() + 1 + self.tail.len());
        content.put_slice(&head);
        content.put_u8(b'\n');
        content.put_slice(&self.tail);
        store.put(&record_of(key), content.freeze()).await
    }
}

/// Returns the name of an object's record.
pub fn record_of(key: &Key) -> Key {
    key.beside(SUFFIX)
}

/// Returns what a record is of.
pub fn recorded_by(key: &Key) -> Option<Key> {
    key.without(SUFFIX)
}

const SUFFIX: &str = ".parts";
