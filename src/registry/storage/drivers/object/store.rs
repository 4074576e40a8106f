//! The few things that an object store can do.
//!
//! Every one passes here, so that a test can refuse it. In debug builds the
//! real server's are failpoints, too (`object:put` and so on, see
//! `sys::failpoint`).

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{CopyMode, CopyOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode};

use crate::registry::storage::error::Conflict;
use crate::registry::storage::{Key, Prefix};

/// Sees operations before they happen.
pub trait Observer: Debug + Send + Sync {
    /// Is told of an operation and what it is about.
    ///
    /// # Errors
    /// With the error that the operation is to fail with.
    fn before(&self, operation: &'static str, key: &str) -> io::Result<()>;
}

/// What is asked of a store: objects, and parts of them.
trait Objects: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Objects for T {}

/// An object store, under the eyes of an observer where there is one.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn Objects>,
    observer: Option<Arc<dyn Observer>>,
}

/// What a store tells of an object.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its size in bytes.
    pub size: u64,
    /// When it was written.
    pub written: Timestamp,
    /// What tells its content from another of the same name.
    tag: Option<String>,
}

impl Store {
    /// Makes a store that lasts as long as this process.
    pub fn in_memory() -> Self {
        Self {
            objects: Arc::new(InMemory::new()),
            observer: None,
        }
    }

    /// Returns the store, observed.
    #[must_use]
    pub fn observed(self, observer: Arc<dyn Observer>) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    fn tell(&self, operation: &'static str, key: &str) -> io::Result<()> {
        #[cfg(debug_assertions)]
        crate::sys::failpoint::reach(&format!("object:{operation}"))?;
        self.observer
            .as_ref()
            .map_or(Ok(()), |observer| observer.before(operation, key))
    }

    /// Reads an object whole; nothing when it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, key: &Key) -> io::Result<Option<Bytes>> {
        self.tell("get", key.as_str())?;
        let read = async { self.objects.get(&path(key)).await?.bytes().await };
        absent_is_none(read.await)
    }

    /// Returns what is known of an object; nothing when it does not exist.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn head(&self, key: &Key) -> io::Result<Option<Known>> {
        self.tell("head", key.as_str())?;
        let found = absent_is_none(self.objects.head(&path(key)).await)?;
        let Some(found) = found else { return Ok(None) };
        let written = Timestamp::from_microsecond(found.last_modified.timestamp_micros());
        Ok(Some(Known {
            size: found.size,
            written: written.map_err(io::Error::other)?,
            tag: found.e_tag,
        }))
    }

    /// Reads a range of what is known of.
    pub fn read(&self, key: &Key, known: &Known, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        if range.is_empty() {
            return stream::empty().boxed();
        }
        let (store, key) = (self.clone(), key.clone());
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: known.tag.clone(),
            ..GetOptions::default()
        };
        let reading = async move {
            store.tell("read", key.as_str())?;
            let found = store.objects.get_opts(&path(&key), options).await;
            Ok::<_, io::Error>(found.map_err(failed)?.into_stream().map_err(failed))
        };
        stream::once(reading).try_flatten().boxed()
    }

    /// Returns the names of the next part after a prefix, sorted bytewise.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn names(&self, prefix: &Prefix) -> io::Result<Vec<String>> {
        self.tell("list", prefix.as_str())?;
        let found = self
            .objects
            .list_with_delimiter(Some(&Path::from(prefix.as_str())))
            .await;
        let found = found.map_err(failed)?;
        let paths = found
            .common_prefixes
            .iter()
            .chain(found.objects.iter().map(|object| &object.location));
        let mut names: Vec<String> = paths
            .filter_map(|path| path.filename().map(ToOwned::to_owned))
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Returns all objects below a prefix.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn below(&self, prefix: &Prefix) -> io::Result<Vec<Key>> {
        self.tell("list", prefix.as_str())?;
        let top = Path::from(prefix.as_str());
        let found = self
            .objects
            .list(Some(&top))
            .map_ok(|object| key_of(prefix, &top, &object.location));
        found.try_collect().await.map_err(failed)
    }

    /// Writes an object; says whether there was none before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn create(&self, key: &Key, content: Bytes) -> io::Result<bool> {
        self.tell("put", key.as_str())?;
        let create = PutMode::Create.into();
        match self.objects.put_opts(&path(key), content.into(), create).await {
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            other => other.map(|_| true).map_err(failed),
        }
    }

    /// Writes an object, whatever is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn put(&self, key: &Key, content: Bytes) -> io::Result<()> {
        self.tell("put", key.as_str())?;
        self.objects
            .put(&path(key), content.into())
            .await
            .map(drop)
            .map_err(failed)
    }

    /// Gives an object's content another name, too; says whether there was
    /// nothing under it before.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub async fn copy(&self, from: &Key, to: &Key) -> io::Result<bool> {
        self.tell("copy", to.as_str())?;
        let create = CopyOptions::default().with_mode(CopyMode::Create);
        match self.objects.copy_opts(&path(from), &path(to), create).await {
            Err(object_store::Error::AlreadyExists { .. }) => {}
            other => return other.map(|()| true).map_err(failed),
        }
        self.tell("copy", to.as_str())?;
        let copied = self.objects.copy(&path(from), &path(to)).await;
        copied.map(|()| false).map_err(failed)
    }

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn delete(&self, key: &Key) -> io::Result<()> {
        self.tell("delete", key.as_str())?;
        absent_is_none(self.objects.delete(&path(key)).await).map(drop)
    }

    /// Begins an object that comes in parts; returns its id.
    ///
    /// # Errors
    /// When that fails.
    pub async fn begin(&self, key: &Key) -> io::Result<String> {
        self.tell("begin", key.as_str())?;
        self.objects.create_multipart(&path(key)).await.map_err(failed)
    }

    /// Writes a part; returns its name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn part(&self, key: &Key, id: &String, number: usize, content: Bytes) -> io::Result<String> {
        self.tell("part", key.as_str())?;
        let part = self.objects.put_part(&path(key), id, number, content.into()).await;
        Ok(part.map_err(failed)?.content_id)
    }

    /// Makes an object of its parts.
    ///
    /// # Errors
    /// When that fails.
    pub async fn complete(&self, key: &Key, id: &String, parts: Vec<String>) -> io::Result<()> {
        self.tell("complete", key.as_str())?;
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        let done = self.objects.complete_multipart(&path(key), id, parts).await;
        done.map(drop).map_err(failed)
    }

    /// Gives up an object that came in parts.
    ///
    /// # Errors
    /// When that fails.
    pub async fn abort(&self, key: &Key, id: &String) -> io::Result<()> {
        self.tell("abort", key.as_str())?;
        self.objects.abort_multipart(&path(key), id).await.map_err(failed)
    }
}

fn path(key: &Key) -> Path {
    Path::from(key.as_str())
}

/// Returns the key of an object that was listed below a prefix.
fn key_of(prefix: &Prefix, top: &Path, location: &Path) -> Key {
    let parts: Vec<_> = location.prefix_match(top).into_iter().flatten().collect();
    let names: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    prefix.key(&names.join("/"))
}

/// Reads "there is no such object" as nothing.
fn absent_is_none<T>(outcome: object_store::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Says what an error of the store is to everybody else.
fn failed(error: object_store::Error) -> io::Error {
    let kind = match &error {
        object_store::Error::NotFound { .. } => io::ErrorKind::NotFound,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        object_store::Error::Precondition { .. } => return Conflict.into(),
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
