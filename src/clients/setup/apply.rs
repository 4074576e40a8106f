//! Carrying out a plan, and taking it back.
//!
//! All files are read and their new texts made before any is written. What
//! was there is noted, and kept beside the file, before it is replaced; each
//! file is the old or the new one at any moment.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

use super::edit::Edit;
use super::plan::{Change, Plan, SetupError};
use super::record::{Put, Record, hash};
use crate::root::Root;
use crate::sys;
use crate::sys::clock::backup_stamp;
use crate::sys::fs::{Lock, PRIVATE, PUBLIC, read_optional, write_atomic};
use crate::sys::shell::word;

/// What was done with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is new.
    Added,
    /// It was changed, or replaced.
    Replaced,
    /// It was so already.
    Unchanged,
    /// What was put in was taken out.
    Removed,
    /// There was nothing to take out.
    Absent,
    /// What is there is not ours and stays.
    Foreign,
    /// Rights are missing; this command line would do it.
    Denied(String),
    /// It failed.
    Failed(String),
}

impl Done {
    /// Says it in a word or two.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Replaced => "overwritten",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
            Self::Absent => "absent",
            Self::Foreign => "left: another's",
            Self::Denied(_) => "no rights",
            Self::Failed(_) => "failed",
        }
    }
}

/// One file that was handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    /// Who reads it.
    pub reader: &'static str,
    /// The file.
    pub path: Utf8PathBuf,
    /// What was done.
    pub done: Done,
}

/// How far a client is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All is there.
    Set,
    /// Some is there.
    Partly,
    /// Nothing is there.
    Unset,
}

/// Says how far a client is set up.
///
/// # Errors
/// When a file is not of its format, or cannot be read.
pub fn state(plan: &Plan) -> Result<State, SetupError> {
    let mut there = 0;
    for change in &plan.files {
        there += usize::from(is_there(change)?);
    }
    Ok(match there {
        0 => State::Unset,
        all if all == plan.files.len() => State::Set,
        _ => State::Partly,
    })
}

/// Says whether a file is as it is to be.
///
/// # Errors
/// When it is not of its format, or cannot be read.
pub fn is_there(change: &Change) -> Result<bool, SetupError> {
    let text = read_optional(&change.path)?;
    let new = after(change, text.as_deref().unwrap_or_default())?;
    Ok(text.is_some_and(|text| text == new))
}

fn after(change: &Change, text: &str) -> Result<String, SetupError> {
    change.edit.put(text).map_err(|reason| SetupError::Format {
        path: change.path.clone(),
        reason,
    })
}

/// Carries out a plan for a client, and takes back what an earlier one put
/// where this one puts nothing any more.
///
/// # Errors
/// When a file is not of its format, before anything is changed; when what
/// was done cannot be noted.
pub fn apply(root: &Root, client: &str, plan: &Plan, now: Timestamp) -> Result<Vec<Handled>, SetupError> {
    let _turn = turn(root)?;
    let mut work = Vec::new();
    for change in &plan.files {
        let before = read_optional(&change.path)?;
        let new = after(change, before.as_deref().unwrap_or_default())?;
        work.push((change, before, new));
    }
    let mut record = Record::of(root);
    let mut all = Vec::new();
    for (path, put) in record.of_client(client) {
        if !plan.files.iter().any(|change| change.path == path) {
            all.push(take_out(root, &mut record, client, &path, &put)?);
        }
    }
    for (change, before, new) in work {
        let done = if before.as_ref() == Some(&new) {
            Done::Unchanged
        } else {
            note(&mut record, client, change, before.as_deref(), &new, now)?;
            let written = if before.is_some() { Done::Replaced } else { Done::Added };
            outcome(replace(&change.path, &new, PUBLIC), written, || {
                by_hand(root, client, &change.path, &new)
            })?
        };
        all.push(Handled {
            reader: change.reader,
            path: change.path.clone(),
            done,
        });
    }
    Ok(all)
}

/// Takes out of every file what was put into it for a client.
///
/// # Errors
/// When what was done cannot be noted.
pub fn remove(root: &Root, client: &str, plan: &Plan) -> Result<Vec<Handled>, SetupError> {
    let _turn = turn(root)?;
    let mut record = Record::of(root);
    for change in &plan.files {
        // What is known to be ours by itself, whoever put it there.
        if let Some(text) = read_optional(&change.path)?
            && record.get(&change.path).is_none()
            && change.edit.is_known_in(&text)
        {
            let put = Put {
                sha256: String::new(),
                before: matches!(change.edit, Edit::Lines { .. }).then(String::new),
                client: Some(client.to_owned()),
                edit: Some(change.edit.clone()),
                backup: None,
            };
            record.insert(&change.path, put);
        }
    }
    take_back_from(root, &mut record, client, |_| true)
}

/// Takes out of some files what was put into them for a client.
///
/// # Errors
/// When what was done cannot be noted.
pub fn take_back(root: &Root, client: &str, which: impl Fn(&Utf8Path) -> bool) -> Result<Vec<Handled>, SetupError> {
    let _turn = turn(root)?;
    take_back_from(root, &mut Record::of(root), client, which)
}

fn take_back_from(
    root: &Root,
    record: &mut Record,
    client: &str,
    which: impl Fn(&Utf8Path) -> bool,
) -> Result<Vec<Handled>, SetupError> {
    let files = record.of_client(client).into_iter().filter(|(path, _)| which(path));
    let files: Vec<_> = files.collect();
    let all: Result<Vec<_>, _> = files
        .iter()
        .map(|(path, put)| take_out(root, record, client, path, put))
        .collect();
    let all = all?;
    record.save()?;
    Ok(all)
}

/// Waits until no other kdk of this user changes files of clients.
fn turn(root: &Root) -> io::Result<Lock> {
    let directory = sys::env::state_dir().map_or_else(|| root.state(), |state| state.join("kdk"));
    sys::fs::create_private_dir(&directory)?;
    Lock::take(&directory.join("setup.lock"))
}

/// Notes what stands in a file before it is changed, and keeps it beside.
fn note(
    record: &mut Record,
    client: &str,
    change: &Change,
    before: Option<&str>,
    new: &str,
    now: Timestamp,
) -> Result<(), SetupError> {
    let mut put = Put {
        sha256: hash(new),
        before: before.map(str::to_owned),
        client: Some(client.to_owned()),
        edit: Some(change.edit.clone()),
        backup: None,
    };
    let known = record.get(&change.path);
    match known {
        // What an earlier call put there is nobody else's.
        Some(known) if before.is_some_and(|before| hash(before) == known.sha256) => {
            put.before.clone_from(&known.before);
            put.backup.clone_from(&known.backup);
        }
        _ => {
            if let Some(before) = before {
                let backup = Utf8PathBuf::from(format!("{}.{}.kdk", change.path, backup_stamp(now)));
                // Where nothing may be written, neither is the file.
                put.backup = write_atomic(&backup, before.as_bytes(), PRIVATE)
                    .is_ok()
                    .then_some(backup);
            }
        }
    }
    record.insert(&change.path, put);
    Ok(record.save()?)
}

fn replace(path: &Utf8Path, text: &str, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        sys::fs::create_dir(parent)?;
    }
    write_atomic(path, text.as_bytes(), sys::fs::mode(path).unwrap_or(mode))
}

/// Takes out of a file what was put into it.
fn take_out(root: &Root, record: &mut Record, client: &str, path: &Utf8Path, put: &Put) -> Result<Handled, SetupError> {
    let there = read_optional(path)?;
    let before = put.before.as_deref();
    // A file that several roots share is never as one of them left it.
    let is_shared = matches!(put.edit, Some(Edit::Podman { .. }));
    let is_untouched = !is_shared && there.as_deref().is_some_and(|there| hash(there) == put.sha256);
    // What is to stand there: nothing where there is to be no file.
    let rest: Option<Option<String>> = match &there {
        None => Some(None),
        Some(_) if is_untouched => Some(before.map(str::to_owned)),
        Some(there) if Some(there.as_str()) == before => Some(Some(there.clone())),
        Some(there) => {
            let edit = put.edit.clone().unwrap_or_else(|| Edit::Whole(put.sha256.clone()));
            let rest = edit.take(there, before.unwrap_or_default()).unwrap_or(None);
            rest.map(|rest| Some(rest).filter(|rest| (before.is_some() && !is_shared) || !is_nothing(rest)))
        }
    };
    let done = match (&there, rest) {
        (None, _) => Done::Absent,
        (Some(_), None) => Done::Foreign,
        (Some(there), Some(Some(rest))) if rest == *there => Done::Absent,
        (Some(_), Some(Some(rest))) => outcome(replace(path, &rest, PUBLIC), Done::Removed, || {
            by_hand(root, client, path, &rest)
        })?,
        (Some(_), Some(None)) => {
            let gone = sys::fs::remove(path).map(|_| ());
            if gone.is_ok()
                && let Some(parent) = path.parent()
            {
                // The directory too, unless others keep something in it.
                let _ = std::fs::remove_dir(parent);
            }
            outcome(gone, Done::Removed, || Ok(format!("sudo rm {}", word(path.as_str()))))?
        }
    };
    if !matches!(done, Done::Denied(_) | Done::Failed(_)) {
        if is_untouched && let Some(backup) = &put.backup {
            let _ = sys::fs::remove(backup);
        }
        record.forget(path);
        record.save()?;
    }
    Ok(Handled {
        reader: reader(path, client),
        path: path.to_owned(),
        done,
    })
}

/// Says whether a text says nothing: no file is needed for it.
fn is_nothing(text: &str) -> bool {
    ["", "{}"].contains(&text.trim())
}

fn outcome(done: io::Result<()>, well: Done, by_hand: impl FnOnce() -> io::Result<String>) -> Result<Done, SetupError> {
    Ok(match done {
        Ok(()) => well,
        Err(error) if sys::fs::is_unwritable(&error) => Done::Denied(by_hand()?),
        Err(error) => Done::Failed(error.to_string()),
    })
}

/// Prepares a file, and returns the line by which somebody with the rights
/// puts it in its place.
fn by_hand(root: &Root, client: &str, path: &Utf8Path, text: &str) -> io::Result<String> {
    let directory = root.state().join("setup").join(client);
    sys::fs::create_private_dir(&directory)?;
    let prepared = directory.join(path.as_str().trim_start_matches('/').replace('/', "__"));
    write_atomic(&prepared, text.as_bytes(), PRIVATE)?;
    Ok(format!(
        "sudo install -D -m {:o} {} {}",
        sys::fs::mode(path).unwrap_or(PUBLIC),
        word(prepared.as_str()),
        word(path.as_str())
    ))
}

/// Returns who reads a file that was put there some time.
fn reader(path: &Utf8Path, client: &str) -> &'static str {
    let is_in = |part: &str| path.as_str().contains(part);
    match client {
        "podman" => super::podman::READERS,
        "docker" if is_in("/.docker/") => super::docker::DESKTOP,
        "docker" => super::docker::ENGINE,
        "jobs" => super::runner::JOBS,
        other => super::find(other).map_or("", |client| client.about()),
    }
}
