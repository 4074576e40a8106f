//! Writing an object in parts, as the port has it.
//!
//! What was written counts once it is recorded. So whoever drops a writer
//! leaves what was there before, and going back needs no work.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;

use super::record::Record;
use super::store::Store;
use crate::registry::storage::writer::{Piece, Staged, Writer};
use crate::registry::storage::{Key, StorageError};

/// Bytes of a part: the least that every store takes (S3: 5 MiB).
const PART: usize = 5 << 20;

/// What this process is writing.
#[derive(Debug, Default)]
pub struct Writing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    keys: HashSet<Key>,
    /// How many parts were put for an id, also such as do not count.
    parts: HashMap<String, usize>,
}

impl Writing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes an object in parts.
pub struct PartWriter {
    store: Store,
    key: Key,
    writing: Arc<Writing>,
    id: Option<String>,
    /// Whether a record names the id.
    is_recorded: bool,
    parts: Vec<(String, u64)>,
    tail: BytesMut,
    size: u64,
}

impl PartWriter {
    /// Goes on where a record says; returns its note and size, too.
    ///
    /// # Errors
    /// When the store fails, or somebody else writes to it.
    pub async fn open(store: Store, key: Key, writing: Arc<Writing>) -> io::Result<(Self, Option<Bytes>)> {
        if !writing.state().keys.insert(key.clone()) {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another request is writing to it",
            ));
        }
        let mut writer = Self {
            store,
            key,
            writing,
            id: None,
            is_recorded: false,
            parts: Vec::new(),
            tail: BytesMut::new(),
            size: 0,
        };
        let Some(record) = Record::read(&writer.store, &writer.key).await? else {
            return Ok((writer, None));
        };
        writer.size = record.size();
        if record.is_whole() {
            // It was ended, and came to nothing: parts of it begin anew.
            let content = writer.store.get(&writer.key).await?;
            writer.tail = content.ok_or(io::ErrorKind::NotFound)?.into();
        } else {
            writer.id = record.id().cloned();
            writer.is_recorded = writer.id.is_some();
            writer.parts = record.parts().to_vec();
            writer.tail = record.tail.clone().into();
        }
        Ok((writer, record.note()))
    }

    /// Returns how many bytes have arrived.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn failed(&self, source: io::Error) -> StorageError {
        StorageError::new("append to", &self.key, source)
    }

    async fn put_part(&mut self) -> io::Result<()> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => self.store.begin(&self.key).await?,
        };
        self.id = Some(id.clone());
        let number = self.parts.len();
        let reached = {
            let mut state = self.writing.state();
            let reached = state.parts.entry(id.clone()).or_default();
            *reached = (*reached).max(number + 1);
            *reached
        };
        debug_assert!(reached > number);
        let content = self.tail.split().freeze();
        let size = content.len() as u64;
        let name = self.store.part(&self.key, &id, number, content).await?;
        self.parts.push((name, size));
        Ok(())
    }

    async fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        self.tail.extend_from_slice(piece);
        self.size += piece.len() as u64;
        if self.tail.len() >= PART {
            self.put_part().await?;
        }
        Ok(())
    }

    /// Makes an object of what is there, under its own name.
    async fn end(&mut self, note: Option<&Bytes>) -> io::Result<()> {
        if self.id.is_none() {
            let content = self.tail.split().freeze();
            self.store.put(&self.key, content).await?;
        } else {
            if !self.tail.is_empty() {
                self.put_part().await?;
            }
            let id = self.id.take().unwrap_or_default();
            // Some stores put together all parts that they were given, not
            // those that are named: what does not count is made empty.
            let reached = self.writing.state().parts.remove(&id).unwrap_or_default();
            for number in self.parts.len()..reached {
                self.store.part(&self.key, &id, number, Bytes::new()).await?;
            }
            let parts = self.parts.drain(..).map(|(name, _)| name).collect();
            self.store.complete(&self.key, &id, parts).await?;
        }
        Record::whole(self.size, note).write(&self.store, &self.key).await
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        self.writing.state().keys.remove(&self.key);
    }
}

impl Writer for PartWriter {
    fn write(&mut self, mut piece: Piece) -> BoxFuture<'_, Result<Piece, StorageError>> {
        Box::pin(async move {
            // Hashing is for threads that may take long.
            let hashing = crate::sys::task::blocking(move || {
                if let Some(hasher) = &mut piece.hasher {
                    hasher.update(&piece.bytes);
                }
                piece
            });
            let mut piece = hashing.await.map_err(|error| self.failed(io::Error::other(error)))?;
            let taken = self.take(&piece.bytes).await;
            taken.map_err(|source| self.failed(source))?;
            piece.bytes.clear();
            Ok(piece)
        })
    }

    fn pause(self: Box<Self>, note: Option<Bytes>) -> BoxFuture<'static, Result<(), StorageError>> {
        Box::pin(async move {
            let tail = Bytes::copy_from_slice(&self.tail);
            let record = Record::new(self.id.clone(), self.parts.clone(), tail, note.as_ref());
            let written = record.write(&self.store, &self.key).await;
            written.map_err(|source| self.failed(source))
        })
    }

    fn rollback(self: Box<Self>) -> BoxFuture<'static, Result<(), StorageError>> {
        Box::pin(async move {
            match self.id.as_ref().filter(|_| !self.is_recorded) {
                None => Ok(()),
                Some(id) => {
                    self.writing.state().parts.remove(id);
                    let aborted = self.store.abort(&self.key, id).await;
                    aborted.map_err(|source| self.failed(source))
                }
            }
        })
    }

    fn finish(mut self: Box<Self>, note: Option<Bytes>) -> BoxFuture<'static, Result<Staged, StorageError>> {
        Box::pin(async move {
            let ended = self.end(note.as_ref()).await;
            ended.map_err(|source| self.failed(source))?;
            Ok(Staged::new(self.key.clone(), self.size, ()))
        })
    }
}
