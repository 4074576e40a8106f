//! Files on a local disk.
//!
//! Durability: a file's data is synced before it gets its name, the directory
//! after; a directory that was made is synced into its parent. Directories
//! known to be durable are remembered, so that only the first write into one
//! pays for it.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

use super::driver::{Content, Driver, Stat, StorageError};

/// How many durable directories are remembered before it starts anew.
const REMEMBERED: usize = 100_000;

/// A directory tree on a local disk.
#[derive(Clone, Debug)]
pub struct Filesystem(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Utf8PathBuf,
    durable: Mutex<HashSet<Utf8PathBuf>>,
}

impl Filesystem {
    /// Opens a tree, making its top directory when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(root: &Utf8Path) -> io::Result<Self> {
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
        Ok(Self(Arc::new(Inner {
            root: root.to_owned(),
            durable: Mutex::default(),
        })))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        path: &str,
        work: impl FnOnce(&Inner, &Utf8Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let inner = Arc::clone(&self.0);
        let full = self.0.root.join(path);
        let outcome = tokio::task::spawn_blocking(move || work(&inner, &full)).await;
        let source = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(panic) => io::Error::other(panic),
        };
        Err(StorageError {
            action,
            path: path.to_owned(),
            source,
        })
    }
}

impl Driver for Filesystem {
    async fn read(&self, path: &str) -> Result<Option<Bytes>, StorageError> {
        self.blocking("read", path, |_, path| absent_is_none(fs::read(path).map(Bytes::from)))
            .await
    }

    async fn stat(&self, path: &str) -> Result<Option<Stat>, StorageError> {
        self.blocking("stat", path, |_, path| {
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
        self.blocking("open", path, |_, path| {
            absent_is_none(File::open(path).and_then(|file| {
                let size = file.metadata()?.len();
                Ok(Content { file, size })
            }))
        })
        .await
    }

    async fn write(&self, path: &str, content: Bytes) -> Result<(), StorageError> {
        self.blocking("write", path, move |inner, path| {
            inner.in_durable_parent(path, |parent| {
                let mut file = tempfile::Builder::new()
                    .prefix(&format!("{}.", path.file_name().unwrap_or_default()))
                    .suffix(".tmp")
                    .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                    .tempfile_in(parent)?;
                file.write_all(&content)?;
                file.as_file().sync_data()?;
                file.persist(path).map_err(|error| error.error)?;
                File::open(parent)?.sync_all()
            })
        })
        .await
    }

    async fn append(&self, path: &str, offset: u64) -> Result<File, StorageError> {
        self.blocking("append to", path, move |_, path| {
            use std::io::Seek as _;
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            file.set_len(offset)?;
            file.seek(io::SeekFrom::Start(offset))?;
            Ok(file)
        })
        .await
    }

    async fn commit(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let target = self.0.root.join(to);
        self.blocking("commit", from, move |inner, source| {
            inner.in_durable_parent(&target, |parent| {
                let size = fs::metadata(source)?.len();
                if fs::metadata(&target).is_ok_and(|there| there.len() == size) {
                    // Freshness protects it from a garbage collection that
                    // saw it without references a moment ago.
                    let Ok(file) = OpenOptions::new().append(true).open(&target) else {
                        fs::remove_file(source)?;
                        return File::open(parent)?.sync_all();
                    };
                    // A file of another owner's cannot be touched; it is kept all the same.
                    let _ = file.set_modified(std::time::SystemTime::from(crate::sys::clock::Clock::System.now()));
                    fs::remove_file(source)?;
                } else {
                    File::open(source)?.sync_all()?;
                    fs::rename(source, &target)?;
                }
                // Even for a file that was there: whoever put it may not have come this far.
                File::open(parent)?.sync_all()
            })
        })
        .await
    }

    async fn remove(&self, path: &str) -> Result<bool, StorageError> {
        self.blocking("remove", path, |inner, path| {
            let removed = match fs::symlink_metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
                Ok(metadata) if metadata.is_dir() => {
                    let removed = remove_tree(path);
                    inner.forget_around(path);
                    removed
                }
                Ok(_) => fs::remove_file(path),
            };
            match removed {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                other => other?,
            }
            if let Some(parent) = path.parent() {
                File::open(parent)?.sync_all()?;
            }
            Ok(true)
        })
        .await
    }

    async fn list(&self, path: &str) -> Result<Option<Vec<String>>, StorageError> {
        self.blocking("list", path, |_, path| {
            absent_is_none(fs::read_dir(path).and_then(|entries| {
                let mut names = entries
                    .map(|entry| Ok(entry?.file_name().into_string().ok()))
                    .filter_map(io::Result::transpose)
                    .collect::<io::Result<Vec<_>>>()?;
                names.sort_unstable();
                Ok(names)
            }))
        })
        .await
    }
}

impl Inner {
    /// Runs `work` in the parent of `path`, which is made durable first. When
    /// somebody removes a directory meanwhile, it is made again.
    fn in_durable_parent(&self, path: &Utf8Path, work: impl Fn(&Utf8Path) -> io::Result<()>) -> io::Result<()> {
        const TRIES: usize = 8;
        let parent = path.parent().unwrap_or(&self.root);
        let mut outcome = Ok(());
        for _ in 0..TRIES {
            outcome = self.make_durable(parent).and_then(|()| work(parent));
            match &outcome {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.forget_around(parent),
                _ => return outcome,
            }
        }
        outcome
    }

    /// Forgets that a directory, those above it and those below it are durable.
    fn forget_around(&self, directory: &Utf8Path) {
        self.known()
            .retain(|known| !known.starts_with(directory) && !directory.starts_with(known));
    }

    fn make_durable(&self, directory: &Utf8Path) -> io::Result<()> {
        if directory == self.root || self.known().contains(directory) {
            return Ok(());
        }
        let parent = directory.parent().unwrap_or(&self.root);
        self.make_durable(parent)?;
        match fs::create_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        File::open(parent)?.sync_all()?;
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(directory.to_owned());
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<Utf8PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a tree, also when somebody puts something into it meanwhile.
fn remove_tree(path: &Utf8Path) -> io::Result<()> {
    const TRIES: usize = 8;
    for _ in 1..TRIES {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            other => return other,
        }
    }
    fs::remove_dir_all(path)
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
