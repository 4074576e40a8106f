//! Writing to a file that grows, as the port has it.

use std::io;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::blocking::blocking;
use super::growing::Growing;
use crate::registry::storage::writer::{Piece, Staged, Writer};
use crate::registry::storage::{Key, StorageError};

/// Writes to a file that grows. Each piece is hashed and written on one thread.
pub struct FileWriter {
    /// The file; nothing while a piece is written, and after that was cut off.
    growing: Option<Growing>,
    key: Key,
    /// What was noted when it was opened.
    note: Option<Bytes>,
    inline: bool,
}

impl FileWriter {
    /// Makes a writer of an open file and what was noted of it.
    pub fn new(growing: Growing, key: Key, note: Option<Bytes>, inline: bool) -> Self {
        Self {
            growing: Some(growing),
            key,
            note,
            inline,
        }
    }

    fn failed(&self, source: io::Error) -> StorageError {
        StorageError::new("append to", &self.key, source)
    }

    fn growing(&mut self) -> io::Result<Growing> {
        self.growing
            .take()
            .ok_or_else(|| io::Error::other("a piece of it was cut off"))
    }
}

impl Writer for FileWriter {
    fn write(&mut self, mut piece: Piece) -> BoxFuture<'_, Result<Piece, StorageError>> {
        Box::pin(async move {
            let mut growing = self.growing().map_err(|source| self.failed(source))?;
            let work = move || {
                let written = growing.write(&piece.bytes).map(|()| {
                    if let Some(hasher) = &mut piece.hasher {
                        hasher.update(&piece.bytes);
                    }
                    piece.bytes.clear();
                    piece
                });
                Ok((growing, written))
            };
            let (growing, written) = blocking(self.inline, work)
                .await
                .map_err(|source| self.failed(source))?;
            self.growing = Some(growing);
            written.map_err(|source| self.failed(source))
        })
    }

    fn pause(mut self: Box<Self>, note: Option<Bytes>) -> BoxFuture<'static, Result<(), StorageError>> {
        Box::pin(async move {
            let paused = match self.growing() {
                Ok(mut growing) => blocking(self.inline, move || growing.note(note, true)).await,
                Err(error) => Err(error),
            };
            paused.map_err(|source| self.failed(source))
        })
    }

    fn rollback(mut self: Box<Self>) -> BoxFuture<'static, Result<(), StorageError>> {
        Box::pin(async move {
            let note = self.note.take();
            let cut = match self.growing() {
                Ok(mut growing) => blocking(self.inline, move || growing.rollback(note)).await,
                Err(error) => Err(error),
            };
            cut.map_err(|source| self.failed(source))
        })
    }

    fn finish(mut self: Box<Self>, note: Option<Bytes>) -> BoxFuture<'static, Result<Staged, StorageError>> {
        Box::pin(async move {
            let finished = async {
                let mut growing = self.growing()?;
                growing.settle().await?;
                // It is to become something else in a moment.
                growing.note(note, false)?;
                Ok(growing)
            };
            let growing = finished.await.map_err(|source| self.failed(source))?;
            let (key, size) = (self.key.clone(), growing.size());
            Ok(Staged::new(key, size, growing))
        })
    }
}
