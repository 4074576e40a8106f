//! Files on a local disk, in distribution's layout.
//!
//! A change goes in phases, each durable before the next: what proves itself,
//! and temporary files; then the names of what must be whole; then the links
//! that change. A crash between them leaves what nobody sees. Directories
//! known to be durable are remembered, so that only the first change in one
//! pays for it.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use tokio::sync::Notify;

use super::cache::{Cache, Kept, Stamp};
use super::disk::{Appender, Disk};
use super::driver::{Change, Content, Driver, Stat, StorageError};
use super::durable::{Batch, Durability};

/// How many durable directories are remembered before it starts anew.
const REMEMBERED: usize = 50_000;
/// Content up to this size is written in one call, under its own name.
const ONE_WRITE: usize = 512;
/// How often a change is tried when directories vanish under it.
const TRIES: usize = 8;

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
    disk: Disk,
    durability: Durability,
    durable: Mutex<BTreeSet<Utf8PathBuf>>,
    cache: Cache,
    temporary: AtomicU64,
    pending: Mutex<HashMap<String, usize>>,
    pending_count: AtomicUsize,
    settled: Notify,
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
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        Ok(Self {
            inner: Arc::new(Inner {
                durability: Durability::new(root),
                root: root.to_owned(),
                disk,
                durable: Mutex::default(),
                cache: Cache::default(),
                temporary: AtomicU64::new(u64::from_le_bytes(seed)),
                pending: Mutex::default(),
                pending_count: AtomicUsize::new(0),
                settled: Notify::new(),
            }),
            inline: false,
        })
    }

    /// Returns the same tree with calls on the caller's thread, for work that
    /// has threads of its own.
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
        let full = self.inner.root.join(path);
        if self.inner.cache.get(&full, || None).is_some() {
            return work(&self.inner, &full).map_err(|source| StorageError {
                action,
                path: path.to_owned(),
                source,
            });
        }
        self.blocking(action, path, |inner, path| {
            let found = work(inner, path)?;
            inner.cache.put(path, None, Kept::Known);
            Ok(found)
        })
        .await
    }

    /// Waits until nothing is on its way to `path`.
    async fn settled(&self, path: &str) {
        let inner = &self.inner;
        while inner.pending_count.load(Ordering::Acquire) > 0 {
            let notified = inner.settled.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if !inner.pending().contains_key(path) {
                return;
            }
            notified.await;
        }
    }
}

/// Paths that something is on its way to, until this is dropped.
struct Pending<'a> {
    inner: &'a Inner,
    paths: Vec<String>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut pending = self.inner.pending();
        for path in &self.paths {
            if let Some(count) = pending.get_mut(path) {
                *count -= 1;
                if *count == 0 {
                    pending.remove(path);
                }
            }
        }
        self.inner.pending_count.store(pending.len(), Ordering::Release);
        drop(pending);
        self.inner.settled.notify_waiters();
    }
}

impl Driver for Filesystem {
    async fn read(&self, path: &str) -> Result<Option<Bytes>, StorageError> {
        self.settled(path).await;
        let full = self.inner.root.join(path);
        if let Some(Kept::Content(content)) = self.inner.cache.get(&full, || stamp(&full)) {
            return Ok(Some(content));
        }
        self.blocking("read", path, |inner, path| {
            absent_is_none(File::open(path).and_then(|mut file| {
                use std::io::Read as _;
                let metadata = file.metadata()?;
                let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
                file.read_to_end(&mut content)?;
                let content = Bytes::from(content);
                inner
                    .cache
                    .put(path, Some(Stamp::of(&metadata)), Kept::Content(content.clone()));
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

    async fn open(&self, path: &str) -> Result<Option<Content>, StorageError> {
        self.settled(path).await;
        self.lookup("open", path, |_, path| {
            absent_is_none(File::open(path).and_then(|file| {
                let size = file.metadata()?.len();
                Ok(Content { file, size })
            }))
        })
        .await
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        let about = changes
            .last()
            .map(|change| change.path().to_owned())
            .unwrap_or_default();
        self.blocking("write", &about, move |inner, _| {
            let _pending = inner.announce(&changes);
            let mut outcome = inner.apply(&changes);
            for _ in 1..TRIES {
                match &outcome {
                    // Somebody removed a directory in between.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        for change in &changes {
                            inner.forget_way_to(parent(&inner.root.join(change.path())));
                        }
                        outcome = inner.apply(&changes);
                    }
                    _ => break,
                }
            }
            outcome
        })
        .await
    }

    async fn append(&self, path: &str, offset: u64) -> Result<Appender, StorageError> {
        self.blocking("append to", path, move |inner, path| {
            let opened = inner.disk.append(path, offset);
            if opened
                .as_ref()
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            {
                inner.make_directories(parent(path), &mut None)?;
                return inner.disk.append(path, offset);
            }
            opened
        })
        .await
    }

    async fn remove(&self, path: &str) -> Result<bool, StorageError> {
        self.blocking("remove", path, |inner, path| {
            if !inner.unlink(path)? {
                return Ok(false);
            }
            let mut batch = Batch::default();
            batch.directories.insert(parent(path).to_owned());
            inner.durability.sync(&inner.disk, &batch)?;
            Ok(true)
        })
        .await
    }

    async fn discard(&self, path: &str, keep: &str) -> Result<bool, StorageError> {
        let keep = self.inner.root.join(keep);
        self.blocking("remove", path, move |inner, path| {
            let there = inner.unlink(path)?;
            let mut directory = parent(path);
            while directory != keep && directory.starts_with(&keep) && inner.disk.remove_empty(directory)? {
                inner.forget(directory);
                directory = parent(directory);
            }
            Ok(there)
        })
        .await
    }

    async fn flush(&self) -> Result<(), StorageError> {
        self.blocking("flush", "", |inner, _| inner.durability.sync_all(&inner.disk))
            .await
    }

    async fn list(&self, path: &str) -> Result<Option<Arc<[String]>>, StorageError> {
        let full = self.inner.root.join(path);
        if let Some(Kept::Names(names)) = self.inner.cache.get(&full, || stamp(&full)) {
            return Ok(Some(names));
        }
        self.blocking("list", path, |inner, path| {
            let stamp = stamp(path);
            absent_is_none(fs::read_dir(path).and_then(|entries| {
                let mut names = entries
                    .map(|entry| Ok(entry?.file_name().into_string().ok()))
                    .filter_map(io::Result::transpose)
                    .collect::<io::Result<Vec<_>>>()?;
                names.sort_unstable();
                let names: Arc<[String]> = names.into();
                inner.cache.put(path, stamp, Kept::Names(Arc::clone(&names)));
                Ok(names)
            }))
        })
        .await
    }
}

impl Inner {
    fn announce(&self, changes: &[Change]) -> Pending<'_> {
        let paths: Vec<String> = changes.iter().map(|change| change.path().to_owned()).collect();
        let mut pending = self.pending();
        for path in &paths {
            *pending.entry(path.clone()).or_default() += 1;
        }
        self.pending_count.store(pending.len(), Ordering::Release);
        drop(pending);
        Pending { inner: self, paths }
    }

    fn apply(&self, changes: &[Change]) -> io::Result<()> {
        let mut batch = Batch::default();
        let mut made = Some(Vec::new());
        // Temporary files and what they become, in two rounds; then sources that are not needed.
        let mut rounds: [Vec<Move>; 2] = [Vec::new(), Vec::new()];
        let mut superfluous = Vec::new();
        for change in changes {
            let path = self.root.join(change.path());
            self.make_directories(parent(&path), &mut made)?;
            match change {
                Change::Prove { content, .. } => {
                    let file = self.prove(&path, content)?;
                    batch.directories.insert(parent(&path).to_owned());
                    batch.files.push((path, file));
                }
                Change::Store { content, .. } => {
                    if keeps(&path, content.len() as u64) {
                        // Whoever put it may not have come as far as this.
                        batch.directories.insert(parent(&path).to_owned());
                    } else {
                        let (moving, file) = self.temporary(path, content)?;
                        batch.files.push((moving.from.clone(), file));
                        rounds[0].push(moving);
                    }
                }
                Change::Adopt { from, .. } => {
                    let from = self.root.join(from);
                    let file = File::open(&from)?;
                    if keeps(&path, file.metadata()?.len()) {
                        batch.directories.insert(parent(&path).to_owned());
                        superfluous.push(from);
                    } else {
                        batch.files.push((from.clone(), file));
                        rounds[0].push(Move {
                            disk: None,
                            from,
                            to: path,
                        });
                    }
                }
                Change::Replace { content, .. } => {
                    let (moving, file) = self.temporary(path, content)?;
                    batch.files.push((moving.from.clone(), file));
                    rounds[1].push(moving);
                }
            }
        }
        if let Some(made) = &made {
            batch
                .directories
                .extend(made.iter().map(|directory| parent(directory).to_owned()));
        }
        self.durability.sync(&self.disk, &batch)?;
        self.remember(made.unwrap_or_default());
        for round in &mut rounds {
            if round.is_empty() {
                continue;
            }
            let mut batch = Batch::default();
            for moving in round {
                self.disk.rename(&moving.from, &moving.to)?;
                // The temporary name is gone.
                moving.disk = None;
                batch.directories.insert(parent(&moving.to).to_owned());
            }
            self.durability.sync(&self.disk, &batch)?;
        }
        for path in superfluous {
            self.disk.remove_file(&path)?;
        }
        Ok(())
    }

    /// Makes a file that proves itself, or finds it as it should be.
    fn prove(&self, path: &Utf8Path, content: &[u8]) -> io::Result<File> {
        if content.len() <= ONE_WRITE {
            match self.disk.create(path, content) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made,
            }
        }
        // Opened for writing, so that it can be made young: that protects it
        // from a garbage collection that saw it without references.
        let there = OpenOptions::new().read(true).append(true).open(path);
        if let Ok(mut file) = there {
            use std::io::Read as _;
            let mut found = Vec::with_capacity(content.len());
            (&mut file).take(content.len() as u64 + 1).read_to_end(&mut found)?;
            if found == content {
                touch(&file);
                return Ok(file);
            }
        }
        let (mut moving, file) = self.temporary(path.to_owned(), content)?;
        self.disk.rename(&moving.from, &moving.to)?;
        moving.disk = None;
        Ok(file)
    }

    fn temporary(&self, to: Utf8PathBuf, content: &[u8]) -> io::Result<(Move, File)> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let from = Utf8PathBuf::from(format!("{to}.{number:016x}.tmp"));
        let moving = Move {
            disk: Some(self.disk.clone()),
            from,
            to,
        };
        let file = self.disk.create(&moving.from, content)?;
        Ok((moving, file))
    }

    /// Makes a directory and those above it. With `made`, directories that
    /// are not known to be durable are added there.
    fn make_directories(&self, directory: &Utf8Path, made: &mut Option<Vec<Utf8PathBuf>>) -> io::Result<()> {
        if directory == self.root || self.known().contains(directory) {
            return Ok(());
        }
        if made
            .as_ref()
            .is_some_and(|made| made.iter().any(|already| already == directory))
        {
            return Ok(());
        }
        self.make_directories(parent(directory), made)?;
        self.disk.make_directory(directory)?;
        if let Some(made) = made {
            made.push(directory.to_owned());
        }
        Ok(())
    }

    /// Removes a file or a tree; says whether there was one.
    fn unlink(&self, path: &Utf8Path) -> io::Result<bool> {
        let removed = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let removed = self.disk.remove_tree(path);
                self.forget(path);
                removed
            }
            Ok(_) => self.disk.remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Forgets that a directory and those below it are durable.
    fn forget(&self, directory: &Utf8Path) {
        let mut known = self.known();
        let below: Vec<_> = known
            .range(directory.to_owned()..)
            .take_while(|known| known.starts_with(directory))
            .cloned()
            .collect();
        for directory in below {
            known.remove(&directory);
        }
    }

    /// Forgets that a directory and those above it are durable.
    fn forget_way_to(&self, directory: &Utf8Path) {
        let mut known = self.known();
        for above in directory.ancestors() {
            known.remove(above);
        }
    }

    fn remember(&self, directories: Vec<Utf8PathBuf>) {
        let mut known = self.known();
        if known.len() + directories.len() >= REMEMBERED {
            known.clear();
        }
        known.extend(directories);
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<Utf8PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file on its way to its name. Dropped before it got there, a temporary
/// one is removed.
struct Move {
    disk: Option<Disk>,
    from: Utf8PathBuf,
    to: Utf8PathBuf,
}

impl Drop for Move {
    fn drop(&mut self) {
        if let Some(disk) = &self.disk {
            // The first error counts; what is left over is garbage that nobody sees.
            let _ = disk.remove_file(&self.from);
        }
    }
}

/// Says whether a file of this size is there already; it becomes young.
fn keeps(path: &Utf8Path, size: u64) -> bool {
    if !fs::metadata(path).is_ok_and(|there| there.len() == size) {
        return false;
    }
    // A file of another owner's cannot be touched; it is kept all the same.
    if let Ok(file) = OpenOptions::new().append(true).open(path) {
        touch(&file);
    }
    true
}

fn touch(file: &File) {
    let _ = file.set_modified(std::time::SystemTime::from(crate::sys::clock::Clock::System.now()));
}

fn parent(path: &Utf8Path) -> &Utf8Path {
    path.parent().unwrap_or(path)
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
