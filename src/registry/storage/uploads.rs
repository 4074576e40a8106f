//! Uploads under way: bytes arrive in one piece or many, and become a blob
//! when their digest is right.
//!
//! The file's length is the truth about how much has arrived. The running
//! digest is kept in memory and, between requests, in a file that counts
//! until the machine restarts: after a power loss the bytes themselves are
//! read again. One request at a time works on an upload. A small blob that
//! comes in one request never becomes a file of its own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::task::JoinHandle;

use super::dispatch::Storage;
use super::driver::{Change, StorageError};
use super::drivers::filesystem::disk::{Appender, Behind};
use super::layout;
use super::upload_state::UploadState;
use crate::registry::oci::{Algorithm, Digest, Hasher, RepoName};

/// Bytes gathered before they are hashed and written.
const PIECE: usize = 512 << 10;
/// Up to this size hashing is quicker than handing it to another thread.
const QUICK: usize = 64 << 10;
/// From this size on, reading an upload again costs more than keeping its digest.
const WORTH_KEEPING: u64 = 4 << 20;

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
    /// All of a blob that came at once.
    whole: Option<Bytes>,
    /// Bytes that the disk is taking up.
    behind: Behind,
    /// Whether it never was a file.
    in_memory: bool,
    /// Whether the upload has become a blob, or was given up.
    ended: bool,
}

/// An upload that one request works on.
pub type Session = OwnedMutexGuard<Progress>;

/// A piece of a blob as it comes in.
pub struct Incoming<B> {
    /// The request's body.
    pub body: B,
    /// Bytes that the request announces.
    pub announced: Option<u64>,
    /// Where the upload stands.
    pub offset: u64,
    /// Algorithm of the digest to come.
    pub algorithm: Algorithm,
    /// Whether nothing is to follow.
    pub last: bool,
}

/// A blob that is all there, with the digest that was promised.
pub struct Finished {
    /// What makes it a blob.
    pub change: Change,
    /// Its size in bytes.
    pub size: u64,
}

/// How long a client may send nothing in the middle of a body.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many ended uploads are remembered, to tell them from such that have yet to begin.
const REMEMBERED: usize = 10_000;

/// Uploads of all repositories.
#[derive(Clone)]
pub struct Uploads {
    driver: Storage,
    live: Arc<Mutex<HashMap<String, Arc<AsyncMutex<Progress>>>>>,
    ended: Arc<Mutex<Ended>>,
}

#[derive(Default)]
struct Ended {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Uploads {
    /// Makes the store on a driver.
    pub fn new(driver: Storage) -> Self {
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
        self.ended().ids.contains(id)
    }

    /// Forgets the running digests of uploads that nobody works on.
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

    /// Takes in a body after the bytes that are there. Returns the size afterwards.
    ///
    /// # Errors
    /// When the storage fails, the body breaks off, or it has not the
    /// announced length. What arrived before stays.
    pub async fn append<B>(
        &self,
        session: &mut Session,
        name: &RepoName,
        state: &UploadState,
        mut incoming: Incoming<B>,
    ) -> Result<u64, UploadError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let Incoming {
            announced,
            offset,
            algorithm,
            last,
            ..
        } = incoming;
        let wrong_length = |received| UploadError::Length {
            received,
            announced: announced.unwrap_or_default(),
        };
        let mut gathered = buffer(announced);
        let mut whole = false;
        let mut broken = None;
        if offset == 0 {
            (whole, broken) = match gather(&mut incoming.body, &mut gathered).await {
                Ok(whole) => (whole, None),
                Err(reason) if last => return Err(UploadError::Body(reason)),
                Err(reason) => (true, Some(reason)),
            };
            let received = gathered.len() as u64;
            if whole && broken.is_none() && announced.is_some_and(|announced| announced != received) {
                return Err(wrong_length(received));
            }
            if whole && last {
                session.whole = Some(gathered.freeze());
                return Ok(received);
            }
            // Not durable on purpose: losing an unfinished upload is legal.
            let mut started = self
                .driver
                .append(&layout::upload_started_at(name, &state.id), 0)
                .await?;
            let _ = started.write_all(state.started_at.to_string().as_bytes());
        }
        let path = layout::upload_data(name, &state.id);
        let hasher = match session.hasher.take() {
            _ if offset == 0 => Some(Hasher::new(algorithm)),
            Some(hasher) if session.hashed == offset && hasher.algorithm() == algorithm => Some(hasher),
            _ => self.saved_digest(name, &state.id, algorithm, offset).await?,
        };
        let mut file = self.driver.append(&path, offset).await?;
        file.resume(std::mem::take(&mut session.behind));
        let mut sink = Sink {
            target: Some((file, hasher)),
            pending: None,
        };
        let received = sink.fill(gathered, (!whole).then_some(incoming.body)).await;
        let flushed = sink.settle().await;
        let written = |source| StorageError {
            action: "append to",
            path: path.clone(),
            source,
        };
        let (mut file, hasher) = flushed.map_err(written)?;
        session.behind = file.behind();
        let size = file.size().map_err(written)?;
        drop(file);
        session.hasher = hasher;
        session.hashed = size;
        if let Some(reason) = broken {
            return Err(UploadError::Body(reason));
        }
        match received {
            Ok(received) if announced.is_none_or(|announced| announced == received) => {
                if !last && size >= WORTH_KEEPING {
                    self.save_digest(session, name, &state.id).await;
                }
                Ok(size)
            }
            Ok(received) => {
                // What cannot be placed must not stay: the client goes on from before it.
                self.driver.append(&path, offset).await?;
                session.hasher = None;
                Err(wrong_length(received))
            }
            Err(FillError::Body(reason)) => Err(UploadError::Body(reason)),
            Err(FillError::Write(source)) => Err(written(source).into()),
        }
    }

    /// Waits for bytes that the disk takes up. An upload that it lost some of is over.
    async fn settle(&self, session: &mut Session, name: &RepoName, id: &str) -> Result<(), StorageError> {
        let Err(source) = std::mem::take(&mut session.behind).wait().await else {
            return Ok(());
        };
        self.end(session, name, id).await?;
        Err(StorageError {
            action: "write",
            path: layout::upload_data(name, id),
            source,
        })
    }

    /// Checks that an upload has the digest, and says what makes it a blob.
    /// With another digest the upload is removed.
    ///
    /// # Errors
    /// When the digest is wrong or the storage fails.
    pub async fn finish(
        &self,
        session: &mut Session,
        name: &RepoName,
        id: &str,
        digest: &Digest,
    ) -> Result<Finished, UploadError> {
        let path = layout::blob_data(digest);
        let data = layout::upload_data(name, id);
        let since = session.behind.since;
        self.settle(session, name, id).await?;
        let stat = match session.whole {
            Some(_) => None,
            None => self.driver.stat(&data).await?,
        };
        let (computed, change, size) = match stat {
            None => {
                let content = session.whole.take().unwrap_or_default();
                session.in_memory = true;
                let size = content.len() as u64;
                let computed = hash(digest.algorithm(), content.clone()).await;
                (computed, Change::Store { path, content }, size)
            }
            Some(stat) => {
                let computed = match session.hasher.take() {
                    Some(hasher) if session.hashed == stat.size && hasher.algorithm() == digest.algorithm() => {
                        hasher.finish()
                    }
                    _ => match self.saved_digest(name, id, digest.algorithm(), stat.size).await? {
                        Some(hasher) => hasher.finish(),
                        None => self.hash_again(&data, digest.algorithm()).await?,
                    },
                };
                (
                    computed,
                    Change::Adopt {
                        from: data,
                        since,
                        path,
                    },
                    stat.size,
                )
            }
        };
        if computed == *digest {
            Ok(Finished { change, size })
        } else {
            self.end(session, name, id).await?;
            Err(UploadError::Digest { computed })
        }
    }

    /// Removes what is left of an upload; says whether anything of it was there.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn end(&self, session: &mut Session, name: &RepoName, id: &str) -> Result<bool, StorageError> {
        let removed = if session.in_memory {
            false
        } else {
            self.driver
                .discard(&layout::upload(name, id), &layout::uploads(name.as_str()))
                .await?
        };
        session.ended = true;
        self.live().remove(id);
        let mut ended = self.ended();
        if ended.order.len() >= REMEMBERED
            && let Some(oldest) = ended.order.pop_front()
        {
            ended.ids.remove(&oldest);
        }
        ended.order.push_back(id.to_owned());
        ended.ids.insert(id.to_owned());
        Ok(removed)
    }

    /// Writes the running digest down, after those of before, for whoever goes on after a restart.
    async fn save_digest(&self, session: &Session, name: &RepoName, id: &str) {
        let Some(hasher) = &session.hasher else { return };
        let mut saved = format!("{} {} {}\n", *BOOT, hasher.algorithm().name(), session.hashed).into_bytes();
        saved.extend(hasher.save());
        let path = layout::upload_digest_state(name, id);
        // After those before: cutting a file that was just written waits for the disk.
        let end = self.driver.stat(&path).await.ok().flatten().map_or(0, |stat| stat.size);
        // Without it the bytes are read again, which only takes longer.
        if let Ok(mut file) = self.driver.append(&path, end).await {
            let _ = file.write_all(&saved);
        }
    }

    async fn saved_digest(
        &self,
        name: &RepoName,
        id: &str,
        algorithm: Algorithm,
        size: u64,
    ) -> Result<Option<Hasher>, StorageError> {
        if size < WORTH_KEEPING {
            return Ok(None);
        }
        let saved = self.driver.read(&layout::upload_digest_state(name, id)).await?;
        let expected = format!("{} {} {size}\n", *BOOT, algorithm.name());
        Ok(saved.and_then(|saved| {
            let mut starts = (0..saved.len()).rev();
            let start = starts.find(|start| saved[*start..].starts_with(expected.as_bytes()))?;
            Hasher::restore(algorithm, &saved[start + expected.len()..])
        }))
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
        content.digest(algorithm).await.map_err(failed)
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<AsyncMutex<Progress>>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names this boot: what was written since is still in the page cache.
static BOOT: LazyLock<String> = LazyLock::new(crate::sys::process::boot_id);

async fn hash(algorithm: Algorithm, content: Bytes) -> Digest {
    if content.len() <= QUICK {
        return Digest::of(algorithm, &content);
    }
    let other = content.clone();
    let hashing = tokio::task::spawn_blocking(move || Digest::of(algorithm, &other));
    hashing.await.unwrap_or_else(|_| Digest::of(algorithm, &content))
}

/// Makes a buffer for a piece, or for all of a body that is smaller.
fn buffer(announced: Option<u64>) -> BytesMut {
    let most = PIECE + (PIECE >> 2);
    let announced = announced.and_then(|announced| usize::try_from(announced).ok());
    BytesMut::with_capacity(announced.map_or(most, |announced| announced.min(most)))
}

/// Takes in up to one piece of a body; says whether that was all of it.
async fn gather<B>(body: &mut B, gathered: &mut BytesMut) -> Result<bool, String>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    while gathered.len() < PIECE {
        match next(body).await? {
            None => return Ok(true),
            Some(data) => gathered.extend_from_slice(&data),
        }
    }
    Ok(false)
}

/// Waits for the next bytes of a body, or its end.
async fn next<B>(body: &mut B) -> Result<Option<Bytes>, String>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame())
            .await
            .map_err(|_| "nothing came for a minute".to_owned())?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

type Target = (Appender, Option<Hasher>);

enum FillError {
    Body(String),
    Write(io::Error),
}

/// Hashes and writes on a thread of its own while the next bytes arrive.
struct Sink {
    target: Option<Target>,
    pending: Option<JoinHandle<(Target, BytesMut, io::Result<()>)>>,
}

impl Sink {
    /// Takes in what was gathered and what still comes; returns how much that was.
    async fn fill<B>(&mut self, mut gathered: BytesMut, mut body: Option<B>) -> Result<u64, FillError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut received = gathered.len() as u64;
        let mut broken = None;
        while let Some(rest) = &mut body {
            if gathered.len() >= PIECE {
                gathered = self.write(gathered).await.map_err(FillError::Write)?;
            }
            match next(rest).await {
                Ok(Some(data)) => {
                    received += data.len() as u64;
                    gathered.extend_from_slice(&data);
                }
                Ok(None) => break,
                Err(reason) => {
                    broken = Some(FillError::Body(reason));
                    break;
                }
            }
        }
        if !gathered.is_empty() {
            self.write(gathered).await.map_err(FillError::Write)?;
        }
        self.wait().await.map_err(FillError::Write)?;
        broken.map_or(Ok(received), Err)
    }

    /// Starts writing a piece once the one before is written; returns an
    /// empty buffer to gather the next in.
    async fn write(&mut self, piece: BytesMut) -> io::Result<BytesMut> {
        let empty = self.wait().await?;
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
            ((file, hasher), piece, written)
        }));
        Ok(empty)
    }

    /// Waits for the piece under way; returns its buffer, emptied.
    async fn wait(&mut self) -> io::Result<BytesMut> {
        let Some(pending) = self.pending.take() else {
            return Ok(buffer(None));
        };
        let (target, mut piece, written) = pending.await.map_err(io::Error::other)?;
        self.target = Some(target);
        piece.clear();
        written.map(|()| piece)
    }

    async fn settle(mut self) -> io::Result<Target> {
        // A failed write was reported by `fill`.
        let _ = self.wait().await;
        self.target.ok_or_else(|| io::Error::other("the upload's file is gone"))
    }
}
