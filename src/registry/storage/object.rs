//! A stored object, open for reading: any number of ranges of one content.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::registry::oci::{Algorithm, Digest, Hasher};
use crate::sys::task;

/// How long a read may take to begin, or to go on. The drivers' own attempts
/// are shorter; only a disk that hangs takes longer.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// What a driver gives to be read.
pub trait Source: Send + Sync + 'static {
    /// Reads a range, piece by piece. It lies within the object.
    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>>;

    /// Says whether reading happens on the thread that polls.
    fn is_bulk(&self) -> bool;
}

/// A stored object, open for reading. What is read is what was there when it
/// was opened: files stay open, and a store refuses what has changed since.
#[derive(Clone)]
pub struct Object {
    /// Its size in bytes.
    pub size: u64,
    source: Arc<dyn Source>,
}

impl fmt::Debug for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Object")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Object {
    /// Makes an object of what a driver opened.
    pub fn new(size: u64, source: Arc<dyn Source>) -> Self {
        Self { size, source }
    }

    /// Reads a range that lies within the object. A piece that does not come
    /// within a minute ends it with an error.
    pub fn read(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        let pieces = Arc::clone(&self.source).read(range);
        if self.source.is_bulk() {
            return pieces;
        }
        let next = |pieces: Option<BoxStream<'static, io::Result<Bytes>>>| async {
            let mut pieces = pieces?;
            match task::timeout(PATIENCE, pieces.next()).await {
                Ok(piece) => Some((piece?, Some(pieces))),
                Err(late) => Some((Err(late.into()), None)),
            }
        };
        stream::unfold(Some(pieces), next).boxed()
    }

    /// Reads all of it, and returns its digest. Hashing does not hold up the
    /// threads that serve.
    ///
    /// # Errors
    /// When it cannot be read to its end.
    pub async fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        let mut hasher = Hasher::new(algorithm);
        let mut pieces = self.read(0..self.size);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            hasher = if self.source.is_bulk() {
                hasher.update(&piece);
                hasher
            } else {
                let hashing = task::blocking(move || {
                    hasher.update(&piece);
                    hasher
                });
                hashing.await.map_err(io::Error::other)?
            };
        }
        Ok(hasher.finish())
    }
}
