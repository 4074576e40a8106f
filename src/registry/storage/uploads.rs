//! Uploads under way: bytes arrive in one piece or many, and become a blob
//! when their digest is right.
//!
//! The file's length is the truth about how much has arrived. The running
//! digest is kept in memory; after a restart it is computed again from the
//! file. One request at a time works on an upload.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::task::JoinHandle;

use super::driver::{Driver, StorageError};
use super::layout;
use super::upload_state::UploadState;
use crate::registry::oci::{Algorithm, Digest, Hasher, RepoName};

/// Bytes gathered before they are hashed and written.
const PIECE: usize = 1 << 20;

/// Why bytes were not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The client went away or sent a broken body.
    #[error("the request's body ended early: {0}")]
    Body(String),
    /// More or fewer bytes came than were announced.
    #[error("the body has {received} bytes, {announced} were announced")]
    Length {
        /// Bytes that came.
        received: u64,
        /// Bytes that were announced.
        announced: u64,
    },
    /// The content is not what the digest says.
    #[error("the content's digest is {computed}")]
    Digest {
        /// The digest of what came.
        computed: Digest,
    },
}

/// Progress of one upload, as far as memory goes.
#[derive(Default)]
pub struct Progress {
    /// Digest of the first `hashed` bytes.
    hasher: Option<Hasher>,
    hashed: u64,
    /// Whether the upload has become a blob, or was given up.
    ended: bool,
}

/// An upload that one request works on.
pub type Session = OwnedMutexGuard<Progress>;

/// How long a client may send nothing in the middle of a body.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many ended uploads are remembered, to tell them from such that have yet to begin.
const REMEMBERED: usize = 10_000;

/// Uploads of all repositories.
#[derive(Clone)]
pub struct Uploads<D> {
    driver: D,
    live: Arc<Mutex<HashMap<String, Arc<AsyncMutex<Progress>>>>>,
    ended: Arc<Mutex<VecDeque<String>>>,
}

impl<D: Driver> Uploads<D> {
    /// Makes the store on a driver.
    pub fn new(driver: D) -> Self {
        Self {
            driver,
            live: Arc::default(),
            ended: Arc::default(),
        }
    }

    /// Waits for its turn on an upload.
    pub async fn session(&self, id: &str) -> Session {
        loop {
            let progress = Arc::clone(self.live().entry(id.to_owned()).or_default());
            let session = progress.lock_owned().await;
            // It may have ended while this request waited; whoever comes later
            // has another lock then, and only one may be the upload's.
            if !session.ended {
                return session;
            }
        }
    }

    /// Says whether an upload has ended, as far as that is remembered.
    pub fn has_ended(&self, id: &str) -> bool {
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .any(|ended| ended == id)
    }

    /// Forgets the running digests of uploads that nobody works on. They are
    /// computed again should one go on.
    pub fn forget_idle(&self) {
        self.live().retain(|_, progress| Arc::strong_count(progress) > 1);
    }

    /// Returns how many bytes have arrived; nothing before the first.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn size(&self, name: &RepoName, id: &str) -> Result<Option<u64>, StorageError> {
        Ok(self
            .driver
            .stat(&layout::upload_data(name, id))
            .await?
            .map(|stat| stat.size))
    }

    /// Takes in a body after the `offset` bytes that are there. Returns the
    /// size afterwards.
    ///
    /// # Errors
    /// When the storage fails, the body breaks off, or it has not the
    /// `announced` length. What arrived before stays.
    pub async fn append<B>(
        &self,
        session: &mut Session,
        name: &RepoName,
        state: &UploadState,
        offset: u64,
        body: B,
        announced: Option<u64>,
    ) -> Result<u64, UploadError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let path = layout::upload_data(name, &state.id);
        if offset == 0 {
            // Not durable on purpose: losing an unfinished upload is legal.
            let mut file = self
                .driver
                .append(&layout::upload_started_at(name, &state.id), 0)
                .await?;
            let _ = file.write_all(state.started_at.to_string().as_bytes());
        }
        let file = self.driver.append(&path, offset).await?;
        let hasher = match session.hasher.take() {
            Some(hasher) if session.hashed == offset => Some(hasher),
            _ if offset == 0 => Some(Hasher::new(Algorithm::Sha256)),
            _ => None,
        };
        let mut sink = Sink {
            target: Some((file, hasher)),
            pending: None,
        };
        let received = sink.fill(body).await;
        let flushed = sink.settle().await;
        let written = |source| StorageError {
            action: "append to",
            path: path.clone(),
            source,
        };
        let (file, hasher) = flushed.map_err(written)?;
        let size = file.metadata().map_err(written)?.len();
        session.hasher = hasher;
        session.hashed = size;
        match received {
            Ok(received) if announced.is_none_or(|announced| announced == received) => Ok(size),
            Ok(received) => {
                // What cannot be placed must not stay: the client goes on from before it.
                self.driver.append(&path, offset).await?;
                session.hasher = None;
                Err(UploadError::Length {
                    received,
                    announced: announced.unwrap_or_default(),
                })
            }
            Err(FillError::Body(reason)) => Err(UploadError::Body(reason)),
            Err(FillError::Write(source)) => Err(written(source).into()),
        }
    }

    /// Turns an upload into a blob when its content has the digest. Otherwise
    /// the upload is removed.
    ///
    /// # Errors
    /// When the digest is wrong or the storage fails.
    pub async fn finish(
        &self,
        mut session: Session,
        name: &RepoName,
        id: &str,
        digest: &Digest,
    ) -> Result<(), UploadError> {
        let path = layout::upload_data(name, id);
        let computed = match (session.hasher.take(), self.driver.stat(&path).await?) {
            (Some(hasher), Some(stat)) if session.hashed == stat.size && hasher.algorithm() == digest.algorithm() => {
                hasher.finish()
            }
            (_, Some(_)) => self.hash_again(&path, digest.algorithm()).await?,
            (_, None) => {
                self.driver.append(&path, 0).await?;
                Digest::of(digest.algorithm(), b"")
            }
        };
        if computed != *digest {
            self.cancel(session, name, id).await?;
            return Err(UploadError::Digest { computed });
        }
        self.driver.commit(&path, &layout::blob_data(digest)).await?;
        self.cancel(session, name, id).await?;
        Ok(())
    }

    /// Removes an upload; says whether anything of it was there.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn cancel(&self, mut session: Session, name: &RepoName, id: &str) -> Result<bool, StorageError> {
        let removed = self.driver.remove(&layout::upload(name, id)).await?;
        session.ended = true;
        self.live().remove(id);
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= REMEMBERED {
            ended.pop_front();
        }
        ended.push_back(id.to_owned());
        Ok(removed)
    }

    async fn hash_again(&self, path: &str, algorithm: Algorithm) -> Result<Digest, StorageError> {
        let failed = |source| StorageError {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let content = self
            .driver
            .open(path)
            .await?
            .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let hashing = tokio::task::spawn_blocking(move || {
            let mut file = content.file;
            let mut hasher = Hasher::new(algorithm);
            let mut piece = vec![0; PIECE];
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(hasher.finish()),
                    read => hasher.update(&piece[..read]),
                }
            }
        });
        hashing
            .await
            .map_err(io::Error::other)
            .and_then(|outcome| outcome)
            .map_err(failed)
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<AsyncMutex<Progress>>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Target = (File, Option<Hasher>);

enum FillError {
    Body(String),
    Write(io::Error),
}

/// Hashes and writes on a thread of its own while the next bytes arrive.
struct Sink {
    target: Option<Target>,
    pending: Option<JoinHandle<(Target, io::Result<()>)>>,
}

impl Sink {
    async fn fill<B>(&mut self, mut body: B) -> Result<u64, FillError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut received = 0;
        let mut gathered = BytesMut::new();
        let outcome = loop {
            let Ok(frame) = tokio::time::timeout(PATIENCE, body.frame()).await else {
                break Err(FillError::Body("nothing came for a minute".to_owned()));
            };
            match frame {
                None => break Ok(()),
                Some(Err(error)) => break Err(FillError::Body(error.to_string())),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    received += data.len() as u64;
                    gathered.extend_from_slice(&data);
                    if gathered.len() >= PIECE {
                        self.write(std::mem::take(&mut gathered))
                            .await
                            .map_err(FillError::Write)?;
                        gathered.reserve(PIECE + (PIECE >> 2));
                    }
                }
            }
        };
        if !gathered.is_empty() {
            self.write(gathered).await.map_err(FillError::Write)?;
        }
        self.wait().await.map_err(FillError::Write)?;
        outcome.map(|()| received)
    }

    async fn write(&mut self, piece: BytesMut) -> io::Result<()> {
        self.wait().await?;
        let Some((mut file, mut hasher)) = self.target.take() else {
            return Err(io::Error::other("the upload's file is gone"));
        };
        self.pending = Some(tokio::task::spawn_blocking(move || {
            let written = file.write_all(&piece);
            match (&written, &mut hasher) {
                (Ok(()), Some(hasher)) => hasher.update(&piece),
                // What reached the file is unknown: the digest is computed again later.
                _ => hasher = None,
            }
            ((file, hasher), written)
        }));
        Ok(())
    }

    async fn wait(&mut self) -> io::Result<()> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let (target, written) = pending.await.map_err(io::Error::other)?;
        self.target = Some(target);
        written
    }

    async fn settle(mut self) -> io::Result<Target> {
        // A failed write was reported by `fill`.
        let _ = self.wait().await;
        self.target.ok_or_else(|| io::Error::other("the upload's file is gone"))
    }
}
