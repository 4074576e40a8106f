//! A directory tree, and the ways in which files come into it. Directories
//! known to be durable are remembered, so that only the first change in one
//! pays for it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::disk::Disk;
use super::growing::Unfinished;
use super::sync::GroupSync;

/// How many durable directories are remembered before it starts anew.
const REMEMBERED: usize = 20_000;
/// Content up to this size is written in one call, under its own name: links are.
const ONE_WRITE: usize = 200;
/// Age up to which a file need not be made young.
const YOUNG: Duration = Duration::from_secs(30);

/// A directory tree that changes.
#[derive(Debug)]
pub struct Tree {
    root: Utf8PathBuf,
    /// The disk that is changed.
    pub disk: Disk,
    /// Makes changes durable.
    pub durability: GroupSync,
    /// Its files that grow.
    pub unfinished: Arc<Unfinished>,
    durable: Mutex<BTreeSet<Utf8PathBuf>>,
    temporary: AtomicU64,
}

impl Tree {
    /// Takes the tree below `root`.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(root: &Utf8Path, disk: Disk) -> io::Result<Self> {
        let mut seed = [0; 8];
        crate::sys::random::fill(&mut seed)?;
        Ok(Self {
            durability: GroupSync::new(root),
            unfinished: Arc::default(),
            root: root.to_owned(),
            disk,
            durable: Mutex::default(),
            temporary: AtomicU64::new(u64::from_le_bytes(seed)),
        })
    }

    /// Returns the path of what has a name.
    pub fn path(&self, name: &str) -> Utf8PathBuf {
        self.root.join(name)
    }

    /// Makes a file that proves itself, or finds it as it should be.
    /// Says, too, whether it made it.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn prove(&self, path: &Utf8Path, content: &[u8]) -> io::Result<(File, bool)> {
        use std::io::Read as _;
        if content.len() <= ONE_WRITE {
            match self.disk.create(path, content) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|file| (file, true)),
            }
        }
        if let Ok(mut file) = File::open(path) {
            let mut found = Vec::with_capacity(content.len());
            (&mut file).take(content.len() as u64 + 1).read_to_end(&mut found)?;
            if found == content {
                // That protects it from a garbage collection that saw it
                // without references.
                touch(&file);
                return Ok((file, false));
            }
        }
        let (temporary, file) = self.temporary(path, content)?;
        self.disk.rename(&temporary.path, path)?;
        temporary.keep();
        Ok((file, true))
    }

    /// Writes content under a temporary name beside the one that it is to have.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn temporary(&self, to: &Utf8Path, content: &[u8]) -> io::Result<(Temporary, File)> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let path = Utf8PathBuf::from(format!("{to}.{number:016x}.tmp"));
        let file = self.disk.create(&path, content)?;
        let disk = Some(self.disk.clone());
        Ok((Temporary { disk, path }, file))
    }

    /// Makes a directory and those above it. With `made`, directories that
    /// are not known to be durable are added there.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn make_directories(&self, directory: &Utf8Path, made: &mut Option<Vec<Utf8PathBuf>>) -> io::Result<()> {
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

    /// Forgets that a directory and those below it are durable.
    pub fn forget(&self, directory: &Utf8Path) {
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
    pub fn forget_way_to(&self, directory: &Utf8Path) {
        let mut known = self.known();
        for above in directory.ancestors() {
            known.remove(above);
        }
    }

    /// Remembers directories that are durable, where that is worth it.
    pub fn remember(&self, directories: Vec<Utf8PathBuf>) {
        let mut known = self.known();
        if known.len() + directories.len() >= REMEMBERED {
            known.clear();
        }
        known.extend(directories.into_iter().filter(|directory| is_shared(directory)));
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<Utf8PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file under a temporary name, which goes when this is dropped.
#[derive(Debug)]
pub struct Temporary {
    disk: Option<Disk>,
    /// Where it is.
    pub path: Utf8PathBuf,
}

impl Temporary {
    /// Leaves it, or what it has become.
    pub fn keep(mut self) {
        self.disk = None;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(disk) = &self.disk {
            // The first error counts; what is left over is garbage that nobody sees.
            let _ = disk.remove_file(&self.path);
        }
    }
}

/// Makes a file young, unless it is. One of another owner's cannot be touched;
/// it is kept all the same.
/// Says whether it changed anything.
pub fn touch(file: &File) -> bool {
    let now = std::time::SystemTime::from(crate::sys::clock::Clock::System.now());
    let modified = file.metadata().and_then(|found| found.modified());
    if modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age < YOUNG)) {
        return false;
    }
    file.set_modified(now).is_ok()
}

/// Says whether much will come into a directory: one of a single digest or tag
/// is not worth the memory.
fn is_shared(directory: &Utf8Path) -> bool {
    directory.file_name().is_some_and(|name| name.len() < 64) && !directory.as_str().contains("/_manifests/tags/")
}

/// Says whether a directory belongs to one digest or upload, so that it goes with that.
pub fn is_of_one(directory: &Utf8Path) -> bool {
    let name = directory.file_name().unwrap_or_default();
    let is_digest = matches!(name.len(), 64 | 96 | 128) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest || parent(directory).file_name() == Some("_uploads")
}

/// Returns the directory that holds a path.
pub fn parent(path: &Utf8Path) -> &Utf8Path {
    path.parent().unwrap_or(path)
}
