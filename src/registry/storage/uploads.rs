//! Uploads under way: bytes arrive in one piece or many, and become a blob
//! when their digest is right.
//!
//! The storage knows how much has arrived. The running digest goes with it as
//! a note, which counts while the bytes are those of then; else they are read
//! again. One request at a time works on an upload. A small blob that comes in
//! one request never becomes an object of its own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::change::{Change, Durability, Target};
use super::dispatch::Storage;
use super::error::StorageError;
use super::key::Key;
use super::layout;
use super::upload_state::UploadState;
use super::writer::{Piece, Writer};
use crate::registry::oci::{Algorithm, Digest, Hasher, RepoName};

/// Bytes gathered before they are hashed and written.
const PIECE: usize = 512 << 10;
/// Up to this size hashing is quicker than handing it to another thread.
const QUICK: usize = 64 << 10;

/// Why bytes were not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another request has added to it meanwhile.
    #[error("{size} bytes have arrived")]
    Offset {
        /// Bytes that are there.
        size: u64,
    },
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
    /// All of a blob that came at once.
    whole: Option<Bytes>,
    /// All of a blob, open to be finished.
    open: Option<Open>,
    /// Whether it never was an object of its own.
    in_memory: bool,
    /// Whether the upload has become a blob, or was given up.
    ended: bool,
}

struct Open {
    writer: Box<dyn Writer>,
    /// Digest of all that is there.
    hasher: Option<Hasher>,
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
#[derive(Debug)]
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
        self.driver.unfinished(&layout::upload_data(name.as_str(), id)).await
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
            let started = Change::PutVerified {
                key: layout::upload_started_at(name.as_str(), &state.id),
                content: Bytes::from(state.started_at.to_string()),
            };
            self.driver.commit(vec![started], Durability::Volatile).await?;
        }
        let resumed = self
            .driver
            .resume(&layout::upload_data(name.as_str(), &state.id))
            .await?;
        let (mut writer, size) = (resumed.writer, resumed.size);
        if size != offset {
            writer.rollback().await?;
            return Err(UploadError::Offset { size });
        }
        let hasher = match resumed.note {
            _ if offset == 0 => Some(Hasher::new(algorithm)),
            note => note.and_then(|note| noted(&note, algorithm)),
        };
        let body = (!whole).then_some(incoming.body);
        let taken = fill(
            writer.as_mut(),
            Piece {
                bytes: gathered,
                hasher,
            },
            body,
        )
        .await?;
        let note = taken.hasher.as_ref().map(note_of);
        if let Some(reason) = broken.or(taken.broken) {
            writer.pause(note).await?;
            return Err(UploadError::Body(reason));
        }
        if announced.is_some_and(|announced| announced != taken.received) {
            // What cannot be placed must not stay: the client goes on from before it.
            writer.rollback().await?;
            return Err(wrong_length(taken.received));
        }
        if last {
            session.open = Some(Open {
                writer,
                hasher: taken.hasher,
            });
        } else {
            writer.pause(note).await?;
        }
        Ok(offset + taken.received)
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
        let (computed, finished) = match self.opened(session, name, id, digest.algorithm()).await? {
            None => {
                let content = session.whole.take().unwrap_or_default();
                session.in_memory = true;
                let size = content.len() as u64;
                let computed = hash(digest.algorithm(), content.clone()).await;
                let key = layout::blob_data(digest);
                let change = Change::Put { key, content };
                (computed, Finished { change, size })
            }
            Some(Open { writer, hasher }) => {
                let staged = match writer.finish(hasher.as_ref().map(note_of)).await {
                    Ok(staged) => staged,
                    Err(error) => {
                        // Some of it was lost: it cannot become what it was to be.
                        self.end(session, name, id).await?;
                        return Err(error.into());
                    }
                };
                let computed = match hasher {
                    Some(hasher) => hasher.finish(),
                    None => self.hash_again(&staged.key, digest.algorithm()).await?,
                };
                let size = staged.size;
                let key = layout::blob_data(digest);
                let change = Change::Promote { staged, key };
                (computed, Finished { change, size })
            }
        };
        if computed == *digest {
            Ok(finished)
        } else {
            drop(finished);
            self.end(session, name, id).await?;
            Err(UploadError::Digest { computed })
        }
    }

    /// Returns an upload, open to be finished; nothing when it is no object of its own.
    async fn opened(
        &self,
        session: &mut Session,
        name: &RepoName,
        id: &str,
        algorithm: Algorithm,
    ) -> Result<Option<Open>, StorageError> {
        let open = session.open.take();
        if open.is_some() || session.whole.is_some() {
            return Ok(open);
        }
        let key = layout::upload_data(name.as_str(), id);
        if self.driver.unfinished(&key).await?.is_none() {
            return Ok(None);
        }
        let resumed = self.driver.resume(&key).await?;
        Ok(Some(Open {
            writer: resumed.writer,
            hasher: resumed.note.and_then(|note| noted(&note, algorithm)),
        }))
    }

    /// Removes what is left of an upload; says whether anything of it was there.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn end(&self, session: &mut Session, name: &RepoName, id: &str) -> Result<bool, StorageError> {
        let removed = if session.in_memory {
            false
        } else {
            let all = Target::All(layout::upload(name.as_str(), id));
            self.driver.delete(vec![all], Durability::Volatile).await? > 0
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

    async fn hash_again(&self, key: &Key, algorithm: Algorithm) -> Result<Digest, StorageError> {
        let failed = |source| StorageError::new("read", key, source);
        let content = self.driver.open(key).await?;
        let content = content.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        content.digest(algorithm).await.map_err(failed)
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<AsyncMutex<Progress>>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a running digest down.
fn note_of(hasher: &Hasher) -> Bytes {
    let mut note = format!("{} ", hasher.algorithm().name()).into_bytes();
    note.extend(hasher.save());
    Bytes::from(note)
}

/// Reads a running digest that was written down; nothing when it is of another algorithm.
fn noted(note: &[u8], algorithm: Algorithm) -> Option<Hasher> {
    let saved = note.strip_prefix(algorithm.name().as_bytes())?.strip_prefix(b" ")?;
    Hasher::restore(algorithm, saved)
}

async fn hash(algorithm: Algorithm, content: Bytes) -> Digest {
    if content.len() <= QUICK {
        return Digest::of(algorithm, &content);
    }
    let other = content.clone();
    let hashing = crate::sys::task::blocking(move || Digest::of(algorithm, &other));
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
        let frame = crate::sys::task::timeout(PATIENCE, body.frame())
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

/// What was taken in.
struct Taken {
    /// Bytes that came.
    received: u64,
    /// Digest of all that is there.
    hasher: Option<Hasher>,
    /// Why it ended early.
    broken: Option<String>,
}

/// Takes in what was gathered and what still comes: one piece is hashed and
/// written while the next arrives.
async fn fill<B>(writer: &mut dyn Writer, mut piece: Piece, mut body: Option<B>) -> Result<Taken, StorageError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut received = 0;
    let mut broken = None;
    let (mut next, room) = (BytesMut::new(), piece.bytes.capacity());
    while !piece.bytes.is_empty() || body.is_some() {
        received += piece.bytes.len() as u64;
        let write = async {
            if piece.bytes.is_empty() {
                return Ok(piece);
            }
            writer.write(piece).await
        };
        let gathering = async {
            match &mut body {
                None => Ok(Ok(true)),
                Some(body) => {
                    next.reserve(room);
                    Ok(gather(body, &mut next).await)
                }
            }
        };
        let (written, gathered) = try_join(write, gathering).await?;
        piece = written;
        // Its buffer is empty again.
        std::mem::swap(&mut piece.bytes, &mut next);
        match gathered {
            Ok(false) => {}
            Ok(true) => body = None,
            Err(reason) => {
                body = None;
                broken = Some(reason);
            }
        }
    }
    Ok(Taken {
        received,
        hasher: piece.hasher,
        broken,
    })
}
