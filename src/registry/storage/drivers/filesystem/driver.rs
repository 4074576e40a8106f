//! Files on a local disk, in distribution's layout.
//!
//! Reading asks the caches first, waits for what is on its way, and never
//! blocks the reactor on the disk. Changes are made in `commit.rs`.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

use super::append::FileWriter;
use super::blocking::blocking;
use super::cache::{Before, Cache, Kept};
use super::disk::Disk;
use super::growing::Growing;
use super::lease::FileLease;
use super::reader::{OpenFile, PIECE};
use super::stamp::Stamp;
use super::tree::{Tree, parent};
use crate::registry::storage::lease::{Holder, LeaseError};
use crate::registry::storage::object::Object;
use crate::registry::storage::pending::Pending;
use crate::registry::storage::writer::Resumed;
use crate::registry::storage::{Aside, Change, Driver, Durability, Key, LastUsed, Names, Prefix, StorageError, Target};
use crate::sys::usage::{Space, space};

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
    /// Device and number of that directory, when the tree was opened.
    id: (u64, u64),
    tree: Tree,
    cache: Arc<Cache>,
    pending: Pending,
    lease: Mutex<Option<FileLease>>,
}

impl Inner {
    fn lease(&self) -> MutexGuard<'_, Option<FileLease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a path as it is now: the stamp that it has, and what is still
    /// right of what is kept of it.
    fn look(&self, path: &Utf8Path) -> io::Result<(Before, Option<Stamp>, Option<Kept>)> {
        let before = self.cache.before(path);
        let found = absent_is_none(fs::metadata(path))?.map(|found| Stamp::of(&found));
        let kept = self.cache.unchanged(path, before, found);
        Ok((before, found.and_then(Stamp::settled), kept))
    }
}

impl Filesystem {
    /// Opens a tree, making its top directory when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(root: &Utf8Path) -> io::Result<Self> {
        Self::on(root, Disk::default())
    }

    /// Looks whether a tree can be used, before it is.
    ///
    /// # Errors
    /// With the reason why it cannot.
    pub fn check(root: &Utf8Path) -> Result<(), String> {
        if root.exists() && !root.is_dir() {
            return Err(format!("{root} is no directory"));
        }
        // Where the directory is still to be made, what is above it counts.
        match root.ancestors().find(|path| path.exists()) {
            // What is mounted read-only is served so.
            Some(there) if there == root && space(there).is_ok_and(|space| space.is_read_only) => Ok(()),
            Some(there) if !crate::sys::fs::is_writable(there) => Err(format!(
                "{root} cannot be written to by this user; change {there}'s rights"
            )),
            _ => Ok(()),
        }
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
        let cache = Arc::<Cache>::default();
        Ok(Self {
            inner: Arc::new(Inner {
                tree: Tree::new(root, disk.heard_by(Arc::clone(&cache)))?,
                root: root.to_owned(),
                id: id_of(root)?,
                cache,
                pending: Pending::default(),
                lease: Mutex::default(),
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

    /// Returns what is kept of a path, where that needs no look at it.
    fn fresh(&self, name: &str) -> Option<Kept> {
        if self.inline {
            return None;
        }
        self.inner.cache.fresh(&self.inner.root.join(name))
    }
}

impl Driver for Filesystem {
    fn bulk(&self) -> Self {
        self.inline()
    }

    fn lease(&self, holder: &Holder) -> Result<(), LeaseError> {
        let mut lease = self.inner.lease();
        let taken = FileLease::take(&self.inner.root, holder)?;
        // Mostly that of a killed process; or it could not be moved back before.
        self.inner.tree.restore_all()?;
        if taken.is_after_kill {
            // What was not acknowledged may be seen without being durable.
            self.inner.tree.durability.sync_all(&self.inner.tree.disk)?;
        }
        *lease = Some(taken);
        self.inner.cache.set_alone(true);
        Ok(())
    }

    fn describe(&self, holder: &Holder) {
        if let Some(lease) = &*self.inner.lease() {
            lease.describe(Some(holder));
        }
    }

    fn release(&self) {
        self.inner.cache.set_alone(false);
        if let Some(lease) = self.inner.lease().take() {
            lease.describe(None);
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StorageError> {
        self.inner.pending.settled(key).await;
        match self.fresh(key.as_str()) {
            Some(Kept::Content(content)) => return Ok(Some(content)),
            Some(Kept::Absent) => return Ok(None),
            _ => {}
        }
        self.blocking("read", key.as_str(), |inner, path| {
            let (before, settled, kept) = inner.look(path)?;
            if let Some(Kept::Content(content)) = kept {
                return Ok(Some(content));
            }
            let content = absent_is_none(fs::read(path))?.map(Bytes::from);
            let kept = content.clone().map_or(Kept::Absent, Kept::Content);
            inner.cache.put(path, before, settled, kept);
            Ok(content)
        })
        .await
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        self.inner.pending.settled(key).await;
        match self.fresh(key.as_str()) {
            Some(Kept::Size(size)) => return Ok(Some(size)),
            Some(Kept::Content(content)) => return Ok(Some(content.len() as u64)),
            Some(Kept::Absent) => return Ok(None),
            Some(Kept::Names(_)) | None => {}
        }
        self.blocking("stat", key.as_str(), |inner, path| {
            let before = inner.cache.before(path);
            let size = size_of(path)?;
            inner
                .cache
                .put(path, before, None, size.map_or(Kept::Absent, Kept::Size));
            Ok(size)
        })
        .await
    }

    async fn open(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        self.inner.pending.settled(key).await;
        let bulk = self.inline;
        self.blocking("open", key.as_str(), move |_, path| {
            absent_is_none(File::open(path).and_then(|file| {
                let size = of_file(file.metadata()?)?.len();
                // One that is read in one piece is read while its thread is here.
                let whole = usize::try_from(size).ok().filter(|size| !bulk && *size <= PIECE);
                let file = OpenFile::new(file, bulk, whole)?;
                Ok(Object::new(size, Arc::new(file)))
            }))
        })
        .await
    }

    async fn list(&self, prefix: &Prefix) -> Result<Option<Names>, StorageError> {
        match self.fresh(prefix.as_str()) {
            Some(Kept::Names(names)) => return Ok(Some(names)),
            Some(Kept::Absent) => return Ok(None),
            _ => {}
        }
        self.blocking("list", prefix.as_str(), |inner, path| {
            let (before, settled, kept) = inner.look(path)?;
            if let Some(Kept::Names(names)) = kept {
                return Ok(Some(names));
            }
            let names = absent_is_none(fs::read_dir(path).and_then(|entries| {
                let names = entries
                    .map(|entry| Ok(entry?.file_name().into_string().ok()))
                    .filter_map(io::Result::transpose)
                    .collect::<io::Result<Vec<_>>>()?;
                Ok(Names::from(names))
            }))?;
            let kept = names.clone().map_or(Kept::Absent, Kept::Names);
            inner.cache.put(path, before, settled, kept);
            Ok(names)
        })
        .await
    }

    async fn last_used(&self, key: &Key) -> Result<Option<LastUsed>, StorageError> {
        self.inner.pending.settled(key).await;
        self.blocking("stat", key.as_str(), |_, path| {
            absent_is_none(fs::metadata(path).and_then(of_file).and_then(|metadata| {
                let at = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
                let size = metadata.len();
                Ok(LastUsed { at, size })
            }))
        })
        .await
    }

    async fn unfinished(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        // The file's length is the truth, and grows.
        self.blocking("stat", key.as_str(), |_, path| size_of(path)).await
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

    async fn probe(&self) -> Result<Option<Space>, StorageError> {
        self.blocking("look at", "", |inner, root| {
            fs::read_dir(root)?;
            if id_of(&inner.root)? != inner.id {
                let reason = "it is not the directory that the registry started with: was its file system unmounted?";
                return Err(io::Error::other(reason));
            }
            space(&inner.root).map(Some)
        })
        .await
    }
}

fn names(aside: &Aside) -> Vec<&str> {
    aside.keys.iter().map(Key::as_str).collect()
}

fn id_of(directory: &Utf8Path) -> io::Result<(u64, u64)> {
    let found = fs::metadata(directory)?;
    Ok((found.dev(), found.ino()))
}

/// Returns a file's size in bytes; nothing where none is.
fn size_of(path: &Utf8Path) -> io::Result<Option<u64>> {
    absent_is_none(fs::metadata(path).and_then(of_file).map(|metadata| metadata.len()))
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
