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

use bytes::Bytes;
use futures_util::stream::Stream;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::change::{Change, Durability, Target};
use super::dispatch::Storage;
use super::error::StorageError;
use super::key::Key;
use super::layout;
use super::receive::{buffer, fill, gather};
use super::staged_blob::StagedBlob;
use super::upload_state::UploadState;
use super::writer::{Piece, Resumed, Writer};
use crate::registry::oci::{Algorithm, Digest, Hasher, RepoName};

/// Up to this size hashing is quicker than handing it to another thread.
const QUICK: usize = 64 << 10;

/// Why bytes were not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another request has added to it meanwhile, or ended it: then nothing is there.
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
    /// What comes, or why nothing more does.
    pub body: B,
    /// Bytes that the request announces.
    pub announced: Option<u64>,
    /// Where the upload stands.
    pub offset: u64,
    /// Algorithm of the digest to come.
    pub algorithm: Algorithm,
    /// Whether nothing is to follow.
    pub last: bool,
    /// Whether it is an object of its own already, if an empty one.
    pub begun: bool,
}

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

    /// Returns where they lie.
    pub(super) fn storage(&self) -> &Storage {
        &self.driver
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

    /// Forgets the locks of uploads that nobody works on.
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
        B: Stream<Item = Result<Bytes, String>> + Unpin,
    {
        let Incoming {
            announced,
            offset,
            algorithm,
            last,
            begun,
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
                session.in_memory = !begun;
                return Ok(received);
            }
            // From here on it is an object of its own, whatever it was before.
            session.in_memory = false;
            session.whole = None;
            // Not durable on purpose: losing an unfinished upload is legal.
            let started = Change::PutVerified {
                key: layout::upload_started_at(name.as_str(), &state.id),
                content: Bytes::from(state.started_at.to_string()),
            };
            self.driver.commit(vec![started], Durability::Volatile).await?;
        }
        let resumed = self.resume(&layout::upload_data(name.as_str(), &state.id)).await?;
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
        let first = Piece {
            bytes: gathered,
            hasher,
        };
        let taken = match fill(writer.as_mut(), first, body).await {
            Ok(taken) => taken,
            Err(error) => {
                // What nobody was told to be there gives its room back at once;
                // the first error counts.
                let _ = writer.rollback().await;
                return Err(error.into());
            }
        };
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

    /// Checks that an upload has the digest, and returns the blob to be.
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
    ) -> Result<StagedBlob, UploadError> {
        let (computed, staged) = match self.opened(session, name, id, digest.algorithm()).await? {
            None => {
                session.in_memory |= session.whole.is_none();
                let content = session.whole.take().unwrap_or_default();
                let computed = hash(digest.algorithm(), content.clone()).await;
                (computed, StagedBlob::of_bytes(digest.clone(), content))
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
                (computed, StagedBlob::of_staged(digest.clone(), staged))
            }
        };
        if computed == *digest {
            Ok(staged)
        } else {
            drop(staged);
            self.end(session, name, id).await?;
            Err(UploadError::Digest { computed })
        }
    }

    /// Goes on with an upload that somebody else may end.
    async fn resume(&self, key: &Key) -> Result<Resumed, UploadError> {
        self.driver
            .resume(key)
            .await
            .map_err(|error| match error.source.kind() {
                io::ErrorKind::NotFound => UploadError::Offset { size: 0 },
                _ => error.into(),
            })
    }

    /// Returns an upload, open to be finished; nothing when it is no object of its own.
    async fn opened(
        &self,
        session: &mut Session,
        name: &RepoName,
        id: &str,
        algorithm: Algorithm,
    ) -> Result<Option<Open>, UploadError> {
        let open = session.open.take();
        if open.is_some() || session.whole.is_some() {
            return Ok(open);
        }
        let key = layout::upload_data(name.as_str(), id);
        let Some(size) = self.driver.unfinished(&key).await? else {
            return Ok(None);
        };
        let resumed = self.resume(&key).await?;
        if resumed.size != size {
            let size = resumed.size;
            resumed.writer.rollback().await?;
            return Err(UploadError::Offset { size });
        }
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
