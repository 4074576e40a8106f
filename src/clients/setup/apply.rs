//! Carrying out a plan, and taking it back.
//!
//! All files are read and their new texts made before any is written. What
//! was there is noted, and kept beside the file, before it is replaced; each
//! file is the old or the new one at any moment. What an earlier plan put in
//! goes before what this one puts in, whatever others wrote meanwhile.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

use super::edit::Edit;
use super::file::{Done, There, by_hand, look, remove as remove_file, replace};
use super::plan::{Change, Plan, SetupError};
use super::record::{Put, Record, hash};
use crate::root::Root;
use crate::sys;
use crate::sys::clock::backup_stamp;
use crate::sys::fs::{Lock, PRIVATE, write_atomic};
use crate::sys::shell::word;

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

/// Says whether a file is as it is to be; one that cannot be read is not.
///
/// # Errors
/// When it is not of its format.
pub fn is_there(change: &Change) -> Result<bool, SetupError> {
    match look(&change.path)? {
        There::Text(text) => Ok(after(&change.path, &change.edit, &text)? == text),
        There::Nothing | There::Unreadable => Ok(false),
    }
}

fn after(path: &Utf8Path, edit: &Edit, text: &str) -> Result<String, SetupError> {
    edit.put(text).map_err(|reason| SetupError::Format {
        path: path.to_owned(),
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
    let mut record = Record::of(root)?;
    let mut work = Vec::new();
    for change in &plan.files {
        let there = look(&change.path)?;
        let new = wanted(record.get(&change.path), client, change, &there)?;
        work.push((change, there, new));
    }
    let mut all = Vec::new();
    for path in record.of_client(client) {
        if !plan.files.iter().any(|change| change.path == path) {
            all.push(take_out(root, &mut record, client, &path)?);
        }
    }
    for (change, there, new) in work {
        all.push(Handled {
            reader: change.reader,
            path: change.path.clone(),
            done: put_in(root, &mut record, client, change, &there, &new, now)?,
        });
    }
    Ok(all)
}

/// What a file is to hold, and what it would hold without it.
struct Wanted {
    text: String,
    before: Option<String>,
}

/// Returns what a file is to hold.
fn wanted(put: Option<&Put>, client: &str, change: &Change, there: &There) -> Result<Wanted, SetupError> {
    let text = there.text().unwrap_or_default();
    let after = |text: &str| after(&change.path, &change.edit, text);
    let Some(put) = put else {
        return Ok(Wanted {
            text: after(text)?,
            before: there.text().map(str::to_owned),
        });
    };
    let (base, before) = match put.edits.get(client) {
        None => (text.to_owned(), put.before.clone()),
        // The same again: nothing moves.
        Some(earlier) if *earlier == change.edit && after(text)? == text => (text.to_owned(), put.before.clone()),
        Some(_) if put.edits.len() == 1 && !is_shared(put) && hash(text) == put.sha256 => {
            (put.before.clone().unwrap_or_default(), put.before.clone())
        }
        // Who removed the file did not remove what was in it before.
        Some(_) if matches!(there, There::Nothing) => (String::new(), put.before.clone()),
        Some(earlier) => {
            // What others wrote since is what stood there before, now.
            let rest = earlier.take(text, put.before.as_deref().unwrap_or_default());
            let rest = rest.ok().flatten().unwrap_or_else(|| text.to_owned());
            let before = if put.edits.len() > 1 {
                put.before.clone()
            } else {
                Some(rest.clone()).filter(|rest| put.before.is_some() || !is_nothing(rest))
            };
            (rest, before)
        }
    };
    Ok(Wanted {
        text: after(&base)?,
        before,
    })
}

/// Says whether a text says nothing: no file is needed for it.
fn is_nothing(text: &str) -> bool {
    ["", "{}"].contains(&text.trim())
}

/// Says whether a file is one of several roots', and never as one of them left it.
fn is_shared(put: &Put) -> bool {
    put.edits.values().any(|edit| matches!(edit, Edit::Podman { .. }))
}

fn put_in(
    root: &Root,
    record: &mut Record,
    client: &str,
    change: &Change,
    there: &There,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Done, SetupError> {
    let path = &change.path;
    let new = wanted.text.as_str();
    let known = record.get(path).cloned();
    if there.text() == Some(new) {
        // Another client's, or an earlier call's, that was written by hand since.
        if let Some(mut put) = known.filter(|put| put.edits.get(client) != Some(&change.edit)) {
            put.edits.insert(client.to_owned(), change.edit.clone());
            record.set(path, Some(put))?;
        }
        return Ok(Done::Unchanged);
    }
    if matches!(there, There::Unreadable) {
        return Ok(Done::Failed(format!(
            "{path} cannot be read by this user; what goes into it is printed by: kdk setup {client}"
        )));
    }
    let mut put = known.clone().unwrap_or_default();
    let is_told = known.as_ref().is_some_and(|known| known.before == wanted.before);
    if !is_told {
        put.before.clone_from(&wanted.before);
        if let Some(old) = put.backup.take() {
            let _ = sys::fs::remove(&old);
        }
        if let Some(before) = &wanted.before {
            let backup = Utf8PathBuf::from(format!("{path}.{}.kdk", backup_stamp(now)));
            // Where nothing may be written, neither is the file.
            put.backup = write_atomic(&backup, before.as_bytes(), PRIVATE)
                .is_ok()
                .then_some(backup);
        }
    }
    put.sha256 = hash(new);
    put.edits.insert(client.to_owned(), change.edit.clone());
    record.set(path, Some(put.clone()))?;
    let well = if there.text().is_some() {
        Done::Replaced
    } else {
        Done::Added
    };
    match replace(path, new) {
        Ok(made) => {
            if !made.is_empty() {
                put.made = made;
                record.set(path, Some(put))?;
            }
            Ok(well)
        }
        // Whoever runs the line puts in what is noted.
        Err(error) if sys::fs::is_unwritable(&error) => Ok(Done::Denied(by_hand(root, client, path, new)?)),
        Err(error) => {
            if known.is_none()
                && let Some(backup) = &put.backup
            {
                let _ = sys::fs::remove(backup);
            }
            record.set(path, known)?;
            Ok(Done::Failed(error.to_string()))
        }
    }
}

/// Takes out of every file what was put into it for a client.
///
/// # Errors
/// When what was done cannot be noted.
pub fn remove(root: &Root, client: &str, plan: &Plan) -> Result<Vec<Handled>, SetupError> {
    let _turn = turn(root)?;
    let mut record = Record::of(root)?;
    for change in &plan.files {
        // What is known to be ours by itself, whoever put it there.
        if let There::Text(text) = look(&change.path)?
            && record.get(&change.path).is_none()
            && change.edit.is_known_in(&text)
        {
            let put = Put {
                before: matches!(change.edit, Edit::Lines { .. }).then(String::new),
                edits: [(client.to_owned(), change.edit.clone())].into_iter().collect(),
                ..Put::default()
            };
            record.set(&change.path, Some(put))?;
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
    take_back_from(root, &mut Record::of(root)?, client, which)
}

fn take_back_from(
    root: &Root,
    record: &mut Record,
    client: &str,
    which: impl Fn(&Utf8Path) -> bool,
) -> Result<Vec<Handled>, SetupError> {
    let files = record.of_client(client).into_iter().filter(|path| which(path));
    let files: Vec<Utf8PathBuf> = files.collect();
    files.iter().map(|path| take_out(root, record, client, path)).collect()
}

/// Waits until no other kdk of this user changes files of clients.
fn turn(root: &Root) -> io::Result<Lock> {
    let directory = sys::env::state_dir().map_or_else(|| root.state(), |state| state.join("kdk"));
    sys::fs::create_private_dir(&directory)?;
    Lock::take(&directory.join("setup.lock"))
}

/// What is left of a file without what was put into it.
enum Rest {
    /// This text.
    Text(String),
    /// No file is to be there.
    NoFile,
    /// What is there is not what was put in.
    Unknown,
    /// The file is not of its format any more.
    Damaged(String),
}

/// Returns what is left of a file without what was put into it for a client.
fn without(put: &Put, client: &str, text: &str) -> Rest {
    let before = put.before.as_deref();
    let is_alone = put.edits.len() == 1;
    if is_alone && !is_shared(put) && hash(text) == put.sha256 {
        return before.map_or(Rest::NoFile, |before| Rest::Text(before.to_owned()));
    }
    if Some(text) == before {
        return Rest::Text(text.to_owned());
    }
    let taken = || {
        let edit = put.edits.get(client)?;
        let mut rest = match edit.take(text, before.unwrap_or_default()) {
            Ok(rest) => rest?,
            Err(reason) => return Some(Rest::Damaged(reason)),
        };
        for (_, other) in put.edits.iter().filter(|(name, _)| *name != client) {
            rest = other.put(&rest).ok()?;
        }
        // Nothing is no file, but where everybody expects one.
        let is_expected = matches!(edit, Edit::Lines { .. });
        Some(if is_nothing(&rest) && !is_expected {
            Rest::NoFile
        } else {
            Rest::Text(rest)
        })
    };
    taken().unwrap_or(Rest::Unknown)
}

/// Takes out of a file what was put into it for a client.
fn take_out(root: &Root, record: &mut Record, client: &str, path: &Utf8Path) -> Result<Handled, SetupError> {
    let put = record.get(path).cloned().unwrap_or_default();
    let done = match look(path)? {
        There::Nothing => Done::Absent,
        There::Unreadable => Done::Failed(format!("{path} cannot be read by this user")),
        There::Text(text) => match without(&put, client, &text) {
            Rest::Unknown => Done::Foreign,
            Rest::Damaged(reason) => Done::Failed(format!("{path}: {reason}; it was left as it is")),
            Rest::Text(rest) if rest == text => Done::Absent,
            Rest::Text(rest) => outcome(replace(path, &rest).map(drop), || by_hand(root, client, path, &rest))?,
            Rest::NoFile => outcome(remove_file(path, &put.made), || {
                Ok(format!("sudo rm {}", word(path.as_str())))
            })?,
        },
    };
    if !matches!(done, Done::Denied(_) | Done::Failed(_)) {
        let mut left = put;
        left.edits.remove(client);
        if left.edits.is_empty() {
            if let Some(backup) = left.backup.as_ref().filter(|_| done != Done::Foreign) {
                let _ = sys::fs::remove(backup);
            }
            record.set(path, None)?;
        } else {
            left.sha256 = look(path)?.text().map(hash).unwrap_or_default();
            record.set(path, Some(left))?;
        }
    }
    Ok(Handled {
        reader: reader(path, client),
        path: path.to_owned(),
        done,
    })
}

fn outcome(done: io::Result<()>, by_hand: impl FnOnce() -> io::Result<String>) -> Result<Done, SetupError> {
    Ok(match done {
        Ok(()) => Done::Removed,
        Err(error) if sys::fs::is_unwritable(&error) => Done::Denied(by_hand()?),
        Err(error) => Done::Failed(error.to_string()),
    })
}

/// Returns who reads a file that was put there some time.
fn reader(path: &Utf8Path, client: &str) -> &'static str {
    let is_in = |part: &str| path.as_str().contains(part);
    match client {
        "podman" => super::podman::READERS,
        "jobs" => super::runner::JOBS,
        "docker" => super::docker::ENGINE,
        "docker-desktop" => super::docker::DESKTOP,
        _ if is_in("colima") => super::docker::COLIMA,
        other => super::find(other).map_or("", |client| client.about()),
    }
}
