//! Changing a tree so that no crash leaves half a change.
//!
//! A change goes in phases, each durable before the next: what proves itself,
//! and temporary files; then the names of what must be whole; then the links
//! that change. A crash between them leaves what nobody sees, and what fails
//! takes back what can be seen of it.

use std::fs::{self, File};
use std::io;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};

use super::growing::Growing;
use super::stamp::Stamp;
use super::sync::Batch;
use super::sync_failures::Moment;
use super::tree::{Temporary, Tree, parent, touch};
use crate::registry::storage::error::Conflict;
use crate::registry::storage::{Change, Durability};

/// How often a change is tried when directories vanish under it.
const TRIES: usize = 8;

impl Tree {
    /// Carries out changes that belong together. When somebody removes a
    /// directory meanwhile, it is made again.
    ///
    /// # Errors
    /// When any of them fails; then nothing is seen that was not there before.
    pub fn commit(&self, changes: &[Change], durability: Durability) -> io::Result<()> {
        let mut tries = 0;
        let mut fresh = Vec::new();
        loop {
            tries += 1;
            // Before anything is written.
            let mut plan = Plan::since(self.durability.now());
            plan.fresh = std::mem::take(&mut fresh);
            let Err(error) = self.carry_out(changes, durability, &mut plan) else {
                return Ok(());
            };
            self.put_back(&mut plan);
            if error.kind() != io::ErrorKind::NotFound || tries == TRIES {
                self.take_back(plan);
                return Err(error);
            }
            // The next try finds what this one made.
            fresh = std::mem::take(&mut plan.fresh);
            for change in changes {
                self.forget_way_to(parent(&self.path(change.key().as_str())));
            }
        }
    }

    fn carry_out(&self, changes: &[Change], durability: Durability, plan: &mut Plan) -> io::Result<()> {
        let sync = |batch: &Batch| match durability {
            Durability::Durable => self.durability.sync(&self.disk, batch),
            Durability::Volatile => Ok(()),
        };
        for change in changes {
            self.prepare(change, plan)?;
        }
        let made = plan.made.iter().flatten();
        plan.batch
            .directories
            .extend(made.map(|directory| parent(directory).to_owned()));
        if let Err(error) = sync(&plan.batch) {
            plan.is_lost = true;
            return Err(error);
        }
        if durability == Durability::Durable {
            self.remember(plan.made.clone().unwrap_or_default());
        }
        for round in &mut plan.rounds {
            if round.is_empty() {
                continue;
            }
            let mut batch = Batch::since(plan.batch.since);
            for moving in round {
                moving.check()?;
                self.disk.rename(moving.from(), &moving.to)?;
                moving.is_there = true;
                batch.directories.insert(parent(&moving.to).to_owned());
            }
            if let Err(error) = sync(&batch) {
                plan.is_lost = true;
                return Err(error);
            }
        }
        for moving in plan.rounds.iter_mut().flatten() {
            if let Source::Temporary(temporary) = std::mem::replace(&mut moving.source, Source::Gone) {
                temporary.keep();
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

    /// Puts back what was moved, as far as it still is what this change moved.
    /// The first error counts: a disk that fails again leaves what nobody was
    /// promised.
    fn put_back(&self, plan: &mut Plan) {
        for moving in plan.rounds.iter_mut().flatten() {
            if !moving.is_there || !is_file(&moving.to, &moving.own) {
                continue;
            }
            match &moving.before {
                Before::Any => {}
                // So that it can be tried again.
                Before::Nothing => {
                    let _ = self.disk.rename(&moving.to, moving.from());
                }
                Before::Content(content) => {
                    if let Ok((back, _)) = self.temporary(&moving.to, content)
                        && self.disk.rename(&back.path, &moving.to).is_ok()
                    {
                        back.keep();
                    }
                }
            }
        }
    }

    /// Removes what is new of a change that failed for good.
    fn take_back(&self, plan: Plan) {
        for moving in plan.rounds.iter().flatten() {
            // What the disk lost may still be seen in memory, and would be
            // found as good by the next try.
            if plan.is_lost && matches!(moving.source, Source::Staged(_)) && is_file(moving.from(), &moving.own) {
                let _ = self.disk.remove_file(moving.from());
            }
        }
        drop(plan.rounds);
        for path in &plan.fresh {
            let _ = self.disk.remove_file(path);
        }
        for directory in plan.made.iter().flatten().rev() {
            if self.disk.remove_empty(directory).is_ok_and(|removed| removed) {
                self.forget(directory);
            }
        }
    }

    /// Does what comes before the first sync.
    fn prepare(&self, change: &Change, plan: &mut Plan) -> io::Result<()> {
        let path = self.path(change.key().as_str());
        if let Change::Touch { .. } = change {
            let file = File::open(&path)?;
            if touch(&file) {
                plan.batch.files.push((path, file));
            }
            return Ok(());
        }
        self.make_directories(parent(&path), &mut plan.made)?;
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
                let before = if path.try_exists()? {
                    Before::Any
                } else {
                    Before::Nothing
                };
                self.prepare_content(path, content, before, 0, plan)?;
            }
            Change::Promote { staged, .. } => {
                let growing = staged
                    .held::<Growing>()
                    .ok_or_else(|| io::Error::other("it is not a file of this storage"))?;
                // It was written over a long time.
                plan.batch.since = growing.since().unwrap_or(plan.batch.since).min(plan.batch.since);
                // It is as young as this moment, however long it lay there.
                touch(&growing.file);
                let from = growing.path().to_owned();
                plan.batch.files.push((from.clone(), growing.file.try_clone()?));
                plan.rounds[0].push(Move {
                    source: Source::Staged(from),
                    own: Stamp::of(&growing.file.metadata()?),
                    before: if path.try_exists()? {
                        Before::Any
                    } else {
                        Before::Nothing
                    },
                    to: path,
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
                let before = before.map_or(Before::Nothing, |content| Before::Content(content.into()));
                self.prepare_content(path, content, before, 1, plan)?;
            }
        }
        Ok(())
    }

    fn prepare_content(
        &self,
        to: Utf8PathBuf,
        content: &[u8],
        before: Before,
        round: usize,
        plan: &mut Plan,
    ) -> io::Result<()> {
        let (temporary, file) = self.temporary(&to, content)?;
        let own = Stamp::of(&file.metadata()?);
        plan.batch.files.push((temporary.path.clone(), file));
        plan.rounds[round].push(Move {
            source: Source::Temporary(temporary),
            own,
            to,
            before,
            is_there: false,
        });
        Ok(())
    }
}

/// What a change has done, and what is to follow.
struct Plan {
    batch: Batch,
    /// Directories that are not known to be durable.
    made: Option<Vec<Utf8PathBuf>>,
    /// Files that mean nothing should the change fail.
    fresh: Vec<Utf8PathBuf>,
    /// Whether what was written may be lost.
    is_lost: bool,
    /// Files on their way to their names, in two rounds.
    rounds: [Vec<Move>; 2],
}

impl Plan {
    fn since(since: Moment) -> Self {
        Self {
            batch: Batch::since(since),
            made: Some(Vec::new()),
            fresh: Vec::new(),
            is_lost: false,
            rounds: Default::default(),
        }
    }
}

/// A file on its way to its name.
struct Move {
    source: Source,
    /// What the file is, whatever it is called.
    own: Stamp,
    to: Utf8PathBuf,
    before: Before,
    /// Whether it got there.
    is_there: bool,
}

enum Source {
    Temporary(Temporary),
    /// An unfinished file, which stays when the change fails.
    Staged(Utf8PathBuf),
    Gone,
}

impl Move {
    fn from(&self) -> &Utf8Path {
        match &self.source {
            Source::Temporary(temporary) => &temporary.path,
            Source::Staged(path) => path,
            Source::Gone => &self.to,
        }
    }

    /// Checks that an unfinished file still is the one that was verified:
    /// another server may have given it up, and begun another.
    fn check(&self) -> io::Result<()> {
        if matches!(self.source, Source::Staged(_)) && !is_file(self.from(), &self.own) {
            return Err(io::Error::other("another server has ended this upload"));
        }
        Ok(())
    }
}

/// What was under a name before.
enum Before {
    /// What it was does not matter.
    Any,
    Nothing,
    Content(Bytes),
}

/// Says whether a name is a file's.
fn is_file(path: &Utf8Path, own: &Stamp) -> bool {
    fs::metadata(path).is_ok_and(|found| {
        let found = Stamp::of(&found);
        found.is_same_file(own) && found.size() == own.size()
    })
}
