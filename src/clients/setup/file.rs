//! One file of a client: read, replaced, put back.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::root::Root;
use crate::sys;
use crate::sys::fs::{PRIVATE, PUBLIC, read_optional, write_atomic};
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

    /// Says whether it changed a file.
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Added | Self::Replaced | Self::Removed)
    }
}

/// What there is at a path.
#[derive(Debug)]
pub enum There {
    /// No file.
    Nothing,
    /// A file with this text.
    Text(String),
    /// Something that this user may not read.
    Unreadable,
}

impl There {
    /// Returns the text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nothing | Self::Unreadable => None,
        }
    }
}

/// Reads what is at a path.
///
/// # Errors
/// When it is no readable text, for another reason than want of rights.
pub fn look(path: &Utf8Path) -> io::Result<There> {
    match read_optional(path) {
        Ok(Some(text)) => Ok(There::Text(text)),
        Ok(None) => Ok(There::Nothing),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(There::Unreadable),
        Err(error) => Err(error),
    }
}

/// Replaces a file's text, and makes the directories that it needs; those come
/// back, outermost first.
///
/// # Errors
/// Those of the file system; when the file is a link that leads nowhere.
pub fn replace(path: &Utf8Path, text: &str) -> io::Result<Vec<Utf8PathBuf>> {
    if path.is_symlink() && !path.exists() {
        let target = path.read_link_utf8().unwrap_or_default();
        return Err(io::Error::other(format!(
            "{path} is a link to {target}, which does not exist"
        )));
    }
    let missing = path.ancestors().skip(1).take_while(|parent| !parent.exists());
    let mut made: Vec<Utf8PathBuf> = missing.map(Utf8Path::to_owned).collect();
    made.reverse();
    if let Some(parent) = path.parent() {
        sys::fs::create_dir(parent)?;
    }
    let mode = sys::fs::mode(path).unwrap_or(PUBLIC);
    match write_atomic(path, text.as_bytes(), mode) {
        // A file that is mounted by itself, as containers have it, cannot be exchanged.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => sys::fs::overwrite(path, text.as_bytes())?,
        written => written?,
    }
    Ok(made)
}

/// Removes a file, and those directories that were made for it and are empty.
///
/// # Errors
/// Those of the file system.
pub fn remove(path: &Utf8Path, made: &[Utf8PathBuf]) -> io::Result<()> {
    sys::fs::remove(path)?;
    for directory in made.iter().rev() {
        let _ = std::fs::remove_dir(directory);
    }
    Ok(())
}

/// Prepares a file, and returns the line by which somebody with the rights
/// puts it in its place.
///
/// # Errors
/// When it cannot be prepared.
pub fn by_hand(root: &Root, client: &str, path: &Utf8Path, text: &str) -> io::Result<String> {
    let directory = root.state().join("setup").join(client);
    sys::fs::create_private_dir(&directory)?;
    let prepared = directory.join(path.as_str().trim_start_matches('/').replace('/', "__"));
    write_atomic(&prepared, text.as_bytes(), PRIVATE)?;
    let put = format!(
        "sudo tee {} < {} > /dev/null",
        word(path.as_str()),
        word(prepared.as_str())
    );
    Ok(match path.parent().filter(|parent| !parent.exists()) {
        Some(parent) => format!("sudo mkdir -p {} && {put}", word(parent.as_str())),
        None => put,
    })
}
