//! Files on a local disk, in distribution's layout.
//!
//! Reading asks the caches first, waits for what is on its way, and never
//! blocks the reactor on the disk. Changes are made in `commit.rs`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Kept, Stamp};
use super::commit::{Writer, parent};
use super::disk::{Appender, Disk};
use super::reader::OpenFile;
use super::sync::Batch;
use crate::registry::storage::driver::{Change, Driver, Stat, StorageError};
use crate::registry::storage::object::Object;

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
    writer: Writer,
    cache: Cache,
    /// Paths that a change is on its way to, and what tells that it is there.
    pending: Mutex<HashMap<String, CancellationToken>>,
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
                writer: Writer::new(root, disk)?,
                root: root.to_owned(),
                cache: Cache::default(),
                pending: Mutex::default(),
            }),
            inline: false,
        })
    }

    /// Makes everything durable that is there. After a process was killed,
    /// what it had not acknowledged may be seen without being durable.
    ///
    /// # Errors
    /// When the file system reports one.
    pub fn settle(&self) -> io::Result<()> {
        self.inner.writer.durability.sync_all(&self.inner.writer.disk)
    }

    /// Returns the same tree with calls on the caller's thread and past the
    /// caches, for work that has threads of its own and looks at everything once.
    #[must_use]
    pub fn inline(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            inline: true,
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        path: &str,
        work: impl FnOnce(&Inner, &Utf8Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let full = self.inner.root.join(path);
        let outcome = if self.inline {
            work(&self.inner, &full)
        } else {
            let inner = Arc::clone(&self.inner);
            tokio::task::spawn_blocking(move || work(&inner, &full))
                .await
                .unwrap_or_else(|panic| Err(io::Error::other(panic)))
        };
        outcome.map_err(|source| StorageError {
            action,
            path: path.to_owned(),
            source,
        })
    }

    /// Runs `work` at once when `path` was looked up before, so that the
    /// answer is in the system's memory, else on a thread that may wait.
    async fn lookup<T: Send + 'static>(
        &self,
        action: &'static str,
        path: &str,
        work: impl FnOnce(&Inner, &Utf8Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let known = self.inline || self.inner.cache.get(&self.inner.root.join(path), || None).is_some();
        let caller = if known { self.inline() } else { self.clone() };
        caller
            .blocking(action, path, move |inner, path| {
                let found = work(inner, path)?;
                if !known {
                    inner.cache.put(path, None, Kept::Known);
                }
                Ok(found)
            })
            .await
    }

    /// Waits for the change that is on its way to `path`, if there is one.
    async fn settled(&self, path: &str) {
        let pending = self.inner.pending().get(path).cloned();
        if let Some(change) = pending {
            change.cancelled().await;
        }
    }

    /// Announces a change, after others that are on their way to the same paths.
    async fn announce(&self, changes: &[Change]) -> Pending {
        let paths: Vec<String> = changes
            .iter()
            // What is only touched is there, and stays.
            .filter(|change| !matches!(change, Change::Touch { .. }))
            .map(|change| change.path().to_owned())
            .collect();
        let token = CancellationToken::new();
        loop {
            let other = {
                let mut pending = self.inner.pending();
                let other = paths.iter().find_map(|path| pending.get(path)).cloned();
                if other.is_none() {
                    pending.extend(paths.iter().map(|path| (path.clone(), token.clone())));
                }
                other
            };
            match other {
                Some(other) => other.cancelled().await,
                None => break,
            }
        }
        Pending {
            inner: Arc::clone(&self.inner),
            paths,
            token,
        }
    }
}

/// A change on its way, until this is dropped.
struct Pending {
    inner: Arc<Inner>,
    paths: Vec<String>,
    token: CancellationToken,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut pending = self.inner.pending();
        for path in &self.paths {
            pending.remove(path);
        }
        drop(pending);
        self.token.cancel();
    }
}

impl Inner {
    fn pending(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver for Filesystem {
    async fn read(&self, path: &str) -> Result<Option<Bytes>, StorageError> {
        self.settled(path).await;
        let full = self.inner.root.join(path);
        if !self.inline
            && let Some(Kept::Content(content)) = self.inner.cache.get(&full, || stamp(&full))
        {
            return Ok(Some(content));
        }
        self.blocking("read", path, |inner, path| {
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

    async fn stat(&self, path: &str) -> Result<Option<Stat>, StorageError> {
        self.settled(path).await;
        self.lookup("stat", path, |_, path| {
            absent_is_none(fs::metadata(path).and_then(|metadata| {
                let modified = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
                Ok(Stat {
                    size: metadata.len(),
                    modified,
                })
            }))
        })
        .await
    }

    async fn open(&self, path: &str) -> Result<Option<Object>, StorageError> {
        self.settled(path).await;
        let bulk = self.inline;
        self.lookup("open", path, move |_, path| {
            absent_is_none(File::open(path).and_then(|file| {
                let size = file.metadata()?.len();
                Ok(Object::new(size, Arc::new(OpenFile { file, bulk })))
            }))
        })
        .await
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        let about = changes
            .last()
            .map(|change| change.path().to_owned())
            .unwrap_or_default();
        let pending = self.announce(&changes).await;
        self.blocking("write", &about, move |inner, _| {
            // Until the end, also when nobody waits for it any more.
            let _pending = pending;
            inner.writer.apply(&changes)
        })
        .await
    }

    async fn append(&self, path: &str, offset: u64) -> Result<Appender, StorageError> {
        self.blocking("append to", path, move |inner, path| {
            if !parent(path).is_dir() {
                inner.writer.make_directories(parent(path), &mut None)?;
            }
            let since = inner.writer.durability.now();
            inner.writer.disk.append(path, offset, since)
        })
        .await
    }

    async fn remove(&self, path: &str) -> Result<bool, StorageError> {
        self.blocking("remove", path, |inner, path| {
            let since = inner.writer.durability.now();
            if !inner.writer.unlink(path)? {
                return Ok(false);
            }
            let mut batch = Batch::since(since);
            batch.directories.insert(parent(path).to_owned());
            inner.writer.durability.sync(&inner.writer.disk, &batch)?;
            Ok(true)
        })
        .await
    }

    async fn discard(&self, path: &str, keep: &str) -> Result<bool, StorageError> {
        let keep = self.inner.root.join(keep);
        self.blocking("remove", path, move |inner, path| {
            let there = inner.writer.unlink(path)?;
            let mut directory = parent(path);
            while directory != keep && directory.starts_with(&keep) && inner.writer.disk.remove_empty(directory)? {
                inner.writer.forget(directory);
                directory = parent(directory);
            }
            Ok(there)
        })
        .await
    }

    async fn quarantine(&self, path: &str, name: &str) -> Result<(), StorageError> {
        let aside = self.inner.root.join(".kdk/quarantine").join(name);
        self.blocking("put aside", path, move |inner, path| {
            crate::sys::fs::create_private_dir(parent(parent(&aside)))?;
            crate::sys::fs::create_private_dir(parent(&aside))?;
            inner.writer.disk.rename(path, &aside)?;
            inner.writer.disk.remove_empty(parent(path))?;
            inner.writer.forget(parent(path));
            Ok(())
        })
        .await
    }

    async fn flush(&self) -> Result<(), StorageError> {
        self.blocking("flush", "", |inner, _| {
            inner.writer.durability.sync_all(&inner.writer.disk)
        })
        .await
    }

    async fn list(&self, path: &str) -> Result<Option<Arc<[String]>>, StorageError> {
        let full = self.inner.root.join(path);
        if !self.inline
            && let Some(Kept::Names(names)) = self.inner.cache.get(&full, || stamp(&full))
        {
            return Ok(Some(names));
        }
        self.blocking("list", path, |inner, path| {
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
}

fn stamp(path: &Utf8Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
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
