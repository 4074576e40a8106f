//! Files on a local disk, in distribution's layout.
//!
//! Reading asks the caches first, waits for what is on its way, and never
//! blocks the reactor on the disk. Changes are made in `commit.rs`.

use std::fs::{self, File, Metadata};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

use super::append::FileWriter;
use super::blocking::blocking;
use super::cache::{Cache, Kept};
use super::disk::Disk;
use super::growing::Growing;
use super::reader::OpenFile;
use super::stamp::Stamp;
use super::tree::{Tree, parent};
use crate::registry::storage::object::Object;
use crate::registry::storage::pending::Pending;
use crate::registry::storage::writer::Resumed;
use crate::registry::storage::{Aside, Change, Driver, Durability, Key, LastUsed, Prefix, StorageError, Target};

/// A directory tree on a local disk.
#[derive(Clone, Debug)]
pub struct Filesystem {
    inner: Arc<Inner>,
    /// Whether calls run on the caller's thread.
    inline: bool,
}

#[derive(Debug)]
struct Inner {
    root: Utf8PathBuf,
    tree: Tree,
    cache: Cache,
    pending: Pending,
}

impl Filesystem {
    /// Opens a tree, making its top directory when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(root: &Utf8Path) -> io::Result<Self> {
        Self::on(root, Disk::default())
    }

    /// Opens a tree on a disk that may be observed.
    ///
    /// # Errors
    /// When the top directory cannot be made.
    pub fn on(root: &Utf8Path, disk: Disk) -> io::Result<Self> {
        crate::sys::fs::create_dir(root)?;
        // The way to it must survive a power loss as well as what is in it.
        for directory in root
            .ancestors()
            .skip(1)
            .take_while(|directory| !directory.as_str().is_empty())
        {
            if crate::sys::fs::sync_dir(directory).is_err() {
                break;
            }
        }
        Ok(Self {
            inner: Arc::new(Inner {
                tree: Tree::new(root, disk)?,
                root: root.to_owned(),
                cache: Cache::default(),
                pending: Pending::default(),
            }),
            inline: false,
        })
    }

    fn inline(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            inline: true,
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl FnOnce(&Inner, &Utf8Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (inner, path) = (Arc::clone(&self.inner), self.inner.root.join(name));
        let outcome = blocking(self.inline, move || work(&inner, &path)).await;
        outcome.map_err(|source| StorageError::new(operation, name, source))
    }

    /// Runs `work` at once when `name` was looked up before, so that the
    /// answer is in the system's memory, else on a thread that may wait.
    async fn lookup<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl FnOnce(&Inner, &Utf8Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let known = self.inline || self.inner.cache.get(&self.inner.root.join(name), || None).is_some();
        let caller = if known { self.inline() } else { self.clone() };
        caller
            .blocking(operation, name, move |inner, path| {
                let found = work(inner, path)?;
                if !known {
                    inner.cache.put(path, None, Kept::Known);
                }
                Ok(found)
            })
            .await
    }
}

impl Driver for Filesystem {
    fn bulk(&self) -> Self {
        self.inline()
    }

    fn settle(&self) -> io::Result<()> {
        self.inner.tree.restore_all()?;
        // What was not acknowledged may be seen without being durable.
        self.inner.tree.durability.sync_all(&self.inner.tree.disk)
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StorageError> {
        self.inner.pending.settled(key).await;
        let full = self.inner.root.join(key.as_str());
        if !self.inline
            && let Some(Kept::Content(content)) = self.inner.cache.get(&full, || stamp(&full))
        {
            return Ok(Some(content));
        }
        self.blocking("read", key.as_str(), |inner, path| {
            absent_is_none(File::open(path).and_then(|mut file| {
                use std::io::Read as _;
                let metadata = file.metadata()?;
                let settled = Stamp::of(&metadata).settled();
                let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
                file.read_to_end(&mut content)?;
                let content = Bytes::from(content);
                inner.cache.put(path, settled, Kept::Content(content.clone()));
                Ok(content)
            }))
        })
        .await
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        self.inner.pending.settled(key).await;
        self.lookup("stat", key.as_str(), |_, path| {
            absent_is_none(fs::metadata(path).and_then(of_file).map(|metadata| metadata.len()))
        })
        .await
    }

    async fn open(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        self.inner.pending.settled(key).await;
        let bulk = self.inline;
        self.lookup("open", key.as_str(), move |_, path| {
            absent_is_none(File::open(path).and_then(|file| {
                let size = of_file(file.metadata()?)?.len();
                Ok(Object::new(size, Arc::new(OpenFile { file, bulk })))
            }))
        })
        .await
    }

    async fn list(&self, prefix: &Prefix) -> Result<Option<Arc<[String]>>, StorageError> {
        let full = self.inner.root.join(prefix.as_str());
        if !self.inline
            && let Some(Kept::Names(names)) = self.inner.cache.get(&full, || stamp(&full))
        {
            return Ok(Some(names));
        }
        self.blocking("list", prefix.as_str(), |inner, path| {
            let settled = stamp(path).and_then(Stamp::settled);
            absent_is_none(fs::read_dir(path).and_then(|entries| {
                let mut names = entries
                    .map(|entry| Ok(entry?.file_name().into_string().ok()))
                    .filter_map(io::Result::transpose)
                    .collect::<io::Result<Vec<_>>>()?;
                names.sort_unstable();
                let names: Arc<[String]> = names.into();
                inner.cache.put(path, settled, Kept::Names(Arc::clone(&names)));
                Ok(names)
            }))
        })
        .await
    }

    async fn last_used(&self, key: &Key) -> Result<Option<LastUsed>, StorageError> {
        self.inner.pending.settled(key).await;
        self.lookup("stat", key.as_str(), |_, path| {
            absent_is_none(fs::metadata(path).and_then(of_file).and_then(|metadata| {
                let at = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
                let size = metadata.len();
                Ok(LastUsed { at, size })
            }))
        })
        .await
    }

    async fn unfinished(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        // The file's length is the truth.
        self.head(key).await
    }

    async fn resume(&self, key: &Key) -> Result<Resumed, StorageError> {
        let (inline, own) = (self.inline, key.clone());
        self.blocking("append to", key.as_str(), move |inner, path| {
            let tree = &inner.tree;
            if !parent(path).is_dir() {
                tree.make_directories(parent(path), &mut None)?;
            }
            let now = tree.durability.now();
            let (growing, note) = Growing::open(&tree.disk, &tree.unfinished, own.clone(), path.to_owned(), now)?;
            Ok(Resumed {
                size: growing.size(),
                writer: Box::new(FileWriter::new(growing, own, note.clone(), inline)),
                note,
            })
        })
        .await
    }

    async fn commit(&self, changes: Vec<Change>, durability: Durability) -> Result<(), StorageError> {
        let about = changes.last().map(|change| change.key().clone());
        let about = about.as_ref().map_or("", Key::as_str);
        let announced = self.inner.pending.announce(&changes).await;
        self.blocking("write", about, move |inner, _| {
            // Until the end, also when nobody waits for it any more.
            let _announced = announced;
            inner.tree.commit(&changes, durability)
        })
        .await
    }

    async fn delete(&self, targets: Vec<Target>, durability: Durability) -> Result<usize, StorageError> {
        let about = targets
            .last()
            .map(|target| target.name().to_owned())
            .unwrap_or_default();
        self.blocking("remove", &about, move |inner, _| {
            let there = inner.tree.delete(&targets, durability)?;
            for target in &targets {
                if let Target::All(prefix) = target {
                    inner.tree.unfinished.forget(prefix);
                }
            }
            Ok(there)
        })
        .await
    }

    async fn flush(&self) -> Result<(), StorageError> {
        self.blocking("flush", "", |inner, _| inner.tree.durability.sync_all(&inner.tree.disk))
            .await
    }

    async fn set_aside(&self, keys: Vec<Key>) -> Result<Aside, StorageError> {
        let aside = Aside::now(keys);
        let announced = self.inner.pending.announce_all(aside.keys.clone()).await;
        self.blocking("put aside", &aside.id.clone(), move |inner, _| {
            let _announced = announced;
            inner.tree.set_aside(&aside.id, &names(&aside))?;
            Ok(aside)
        })
        .await
    }

    async fn restore(&self, aside: &Aside) -> Result<(), StorageError> {
        let announced = self.inner.pending.announce_all(aside.keys.clone()).await;
        let id = aside.id.clone();
        self.blocking("put back", &aside.id, move |inner, _| {
            let _announced = announced;
            inner.tree.restore(&id)
        })
        .await
    }

    async fn purge(&self, aside: &Aside, deadline: Timestamp) -> Result<usize, StorageError> {
        let own = aside.clone();
        self.blocking("purge", &aside.id, move |inner, _| {
            if Aside::is_over(deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            inner.tree.purge(&own.id, &names(&own))
        })
        .await
    }

    async fn quarantine(&self, aside: &Aside, name: &str) -> Result<(), StorageError> {
        let (own, name) = (aside.clone(), name.to_owned());
        self.blocking("keep aside", &aside.id, move |inner, _| {
            inner.tree.quarantine(&own.id, &names(&own), &name)
        })
        .await
    }

    async fn tidy(&self, prefix: &Prefix, before: Timestamp) -> Result<usize, StorageError> {
        self.blocking("tidy", prefix.as_str(), move |inner, path| {
            let there = |key: &Key| inner.root.join(key.as_str()).exists();
            inner.tree.unfinished.keep_only(there);
            inner.tree.tidy(path, before.into())
        })
        .await
    }

    async fn probe(&self) -> Result<(), StorageError> {
        self.blocking("look at", "", |_, root| fs::read_dir(root).map(drop))
            .await
    }
}

fn names(aside: &Aside) -> Vec<&str> {
    aside.keys.iter().map(Key::as_str).collect()
}

fn stamp(path: &Utf8Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
}

/// Objects are files: a directory is only what their names begin with.
fn of_file(metadata: Metadata) -> io::Result<Metadata> {
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(metadata)
}

/// Reads "there is no such file, or a directory is in its place" as nothing.
fn absent_is_none<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
