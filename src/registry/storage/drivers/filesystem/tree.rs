//! Changing a tree on disk so that no crash leaves half a change.
//!
//! A change goes in phases, each durable before the next: what proves itself,
//! and temporary files; then the names of what must be whole; then the links
//! that change. A crash between them leaves what nobody sees. Directories
//! known to be durable are remembered, so that only the first change in one
//! pays for it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};

use super::disk::Disk;
use super::growing::{Growing, Unfinished};
use super::sync::{Batch, GroupSync};
use super::sync_failures::Moment;
use crate::registry::storage::error::Conflict;
use crate::registry::storage::{Change, Durability};

/// How many durable directories are remembered before it starts anew.
const REMEMBERED: usize = 20_000;
/// Content up to this size is written in one call, under its own name: links are.
const ONE_WRITE: usize = 200;
/// Age up to which a file need not be made young.
const YOUNG: Duration = Duration::from_secs(30);
/// How often a change is tried when directories vanish under it.
const TRIES: usize = 8;

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

    /// Carries out changes that belong together. When somebody removes a
    /// directory meanwhile, it is made again.
    ///
    /// # Errors
    /// When any of them fails; then nothing is seen that was not there before.
    pub fn commit(&self, changes: &[Change], durability: Durability) -> io::Result<()> {
        let mut outcome = self.try_commit(changes, durability);
        for _ in 1..TRIES {
            match &outcome {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    for change in changes {
                        self.forget_way_to(parent(&self.path(change.key().as_str())));
                    }
                    outcome = self.try_commit(changes, durability);
                }
                _ => break,
            }
        }
        outcome
    }

    fn try_commit(&self, changes: &[Change], durability: Durability) -> io::Result<()> {
        // Before anything is written.
        let mut plan = Plan::since(self.durability.now());
        let outcome = self.carry_out(changes, durability, &mut plan);
        if outcome.is_err() {
            self.take_back(&mut plan);
        }
        outcome
    }

    fn carry_out(&self, changes: &[Change], durability: Durability, plan: &mut Plan) -> io::Result<()> {
        let sync = |batch: &Batch| match durability {
            Durability::Durable => self.durability.sync(&self.disk, batch),
            Durability::Volatile => Ok(()),
        };
        let mut made = Some(Vec::new());
        for change in changes {
            self.prepare(change, plan, &mut made)?;
        }
        if let Some(made) = &made {
            let parents = made.iter().map(|directory| parent(directory).to_owned());
            plan.batch.directories.extend(parents);
        }
        if let Err(error) = sync(&plan.batch) {
            // What the disk lost may still be seen in memory, and would be
            // found as good by the next try.
            plan.fresh.append(&mut plan.staged);
            return Err(error);
        }
        if durability == Durability::Durable {
            self.remember(made.unwrap_or_default());
        }
        for round in &mut plan.rounds {
            if round.is_empty() {
                continue;
            }
            let mut batch = Batch::since(plan.batch.since);
            for moving in round {
                self.disk.rename(&moving.from, &moving.to)?;
                // The temporary name is gone.
                moving.disk = None;
                moving.is_there = true;
                batch.directories.insert(parent(&moving.to).to_owned());
            }
            if let Err(error) = sync(&batch) {
                plan.is_lost = true;
                return Err(error);
            }
        }
        for change in changes {
            if let Change::Promote { staged, .. } = change
                && let Some(growing) = staged.held::<Growing>()
            {
                growing.promoted();
            }
        }
        Ok(())
    }

    /// Takes back what can be seen of a change that failed. The first error
    /// counts: a disk that fails again leaves what nobody was promised.
    fn take_back(&self, plan: &mut Plan) {
        for moving in std::mem::take(&mut plan.rounds).into_iter().flatten() {
            match &moving.before {
                Before::Any => {}
                // So that it can be tried again, unless the disk lost some of it.
                Before::Nothing if moving.is_there && moving.is_staged && !plan.is_lost => {
                    let _ = self.disk.rename(&moving.to, &moving.from);
                }
                Before::Nothing if moving.is_there => drop(self.disk.remove_file(&moving.to)),
                Before::Content(content) if moving.is_there => {
                    if let Ok((mut back, _)) = self.temporary(moving.to.clone(), content)
                        && self.disk.rename(&back.from, &back.to).is_ok()
                    {
                        back.disk = None;
                    }
                }
                Before::Nothing | Before::Content(_) => {}
            }
        }
        for path in plan.fresh.drain(..) {
            let _ = self.disk.remove_file(&path);
        }
    }

    /// Does what comes before the first sync.
    fn prepare(&self, change: &Change, plan: &mut Plan, made: &mut Option<Vec<Utf8PathBuf>>) -> io::Result<()> {
        let path = self.path(change.key().as_str());
        if let Change::Touch { .. } = change {
            let file = File::open(&path)?;
            if touch(&file) {
                plan.batch.files.push((path, file));
            }
            return Ok(());
        }
        self.make_directories(parent(&path), made)?;
        match change {
            Change::Touch { .. } => {}
            Change::PutVerified { content, .. } => {
                let (file, is_fresh) = self.prove(&path, content)?;
                plan.batch.directories.insert(parent(&path).to_owned());
                if is_fresh {
                    plan.fresh.push(path.clone());
                }
                plan.batch.files.push((path, file));
            }
            Change::Put { content, .. } => {
                // Also where there is one already: what was just verified heals what is not.
                let before = Before::of(&path);
                let (mut moving, file) = self.temporary(path, content)?;
                moving.before = before;
                plan.batch.files.push((moving.from.clone(), file));
                plan.rounds[0].push(moving);
            }
            Change::Promote { staged, .. } => {
                let growing = staged
                    .held::<Growing>()
                    .ok_or_else(|| io::Error::other("it is not a file of this storage"))?;
                // It was written over a long time.
                plan.batch.since = growing.since().unwrap_or(plan.batch.since).min(plan.batch.since);
                let from = growing.path().to_owned();
                // It is as young as this moment, however long it lay there.
                touch(&growing.file);
                plan.staged.push(from.clone());
                plan.batch.files.push((from.clone(), growing.file.try_clone()?));
                plan.rounds[0].push(Move {
                    disk: None,
                    from,
                    before: Before::of(&path),
                    to: path,
                    is_staged: true,
                    is_there: false,
                });
            }
            Change::Update { content, expected, .. } => {
                let before = match fs::read(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    other => Some(other?),
                };
                if !expected.is(before.as_deref()) {
                    return Err(Conflict.into());
                }
                let (mut moving, file) = self.temporary(path, content)?;
                moving.before = before.map_or(Before::Nothing, |content| Before::Content(content.into()));
                plan.batch.files.push((moving.from.clone(), file));
                plan.rounds[1].push(moving);
            }
        }
        Ok(())
    }

    /// Makes a file that proves itself, or finds it as it should be.
    /// Says, too, whether it made it.
    fn prove(&self, path: &Utf8Path, content: &[u8]) -> io::Result<(File, bool)> {
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
        let (mut moving, file) = self.temporary(path.to_owned(), content)?;
        self.disk.rename(&moving.from, &moving.to)?;
        moving.disk = None;
        Ok((file, true))
    }

    fn temporary(&self, to: Utf8PathBuf, content: &[u8]) -> io::Result<(Move, File)> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let from = Utf8PathBuf::from(format!("{to}.{number:016x}.tmp"));
        let moving = Move {
            disk: Some(self.disk.clone()),
            from,
            to,
            before: Before::Any,
            is_staged: false,
            is_there: false,
        };
        let file = self.disk.create(&moving.from, content)?;
        Ok((moving, file))
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
        known.extend(directories.into_iter().filter(|directory| is_shared(directory)));
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<Utf8PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a change has done before its first sync, and what is to follow.
struct Plan {
    batch: Batch,
    /// Files that mean nothing should the change fail.
    fresh: Vec<Utf8PathBuf>,
    /// Unfinished files that mean nothing should their sync fail.
    staged: Vec<Utf8PathBuf>,
    /// Whether what was written may be lost.
    is_lost: bool,
    /// Temporary files and what they become, in two rounds.
    rounds: [Vec<Move>; 2],
}

impl Plan {
    fn since(since: Moment) -> Self {
        Self {
            batch: Batch::since(since),
            fresh: Vec::new(),
            staged: Vec::new(),
            is_lost: false,
            rounds: Default::default(),
        }
    }
}

/// What was under a name before.
enum Before {
    /// What it was does not matter.
    Any,
    Nothing,
    Content(Bytes),
}

impl Before {
    fn of(path: &Utf8Path) -> Self {
        if path.exists() { Self::Any } else { Self::Nothing }
    }
}

/// A file on its way to its name. Dropped before it got there, a temporary
/// one is removed.
struct Move {
    disk: Option<Disk>,
    from: Utf8PathBuf,
    to: Utf8PathBuf,
    before: Before,
    /// Whether it was an unfinished file.
    is_staged: bool,
    /// Whether it got there.
    is_there: bool,
}

impl Drop for Move {
    fn drop(&mut self) {
        if let Some(disk) = &self.disk {
            // The first error counts; what is left over is garbage that nobody sees.
            let _ = disk.remove_file(&self.from);
        }
    }
}

/// Makes a file young, unless it is. One of another owner's cannot be touched;
/// it is kept all the same.
/// Says whether it changed anything.
fn touch(file: &File) -> bool {
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
