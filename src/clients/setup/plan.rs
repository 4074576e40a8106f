//! What is to be done so that a client takes the registry.

use std::io;

use camino::Utf8PathBuf;

use super::edit::Edit;

/// What is to be done: files of this machine, or text for somewhere else.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Files of this machine, and what is to be in them.
    pub files: Vec<Change>,
    /// What is pasted, or piped, somewhere that is not this machine's.
    pub text: Option<String>,
    /// What takes changed files up.
    pub reload: Option<Reload>,
    /// Why it is not applied yet, and what helps; it is printed all the same.
    pub blocked: Option<(String, String)>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// A file, and what is to be in it.
#[derive(Clone, Debug)]
pub struct Change {
    /// The file.
    pub path: Utf8PathBuf,
    /// What is to be in it.
    pub edit: Edit,
    /// Who reads it, for people.
    pub reader: &'static str,
}

/// A command that lets a running program take its files up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// What happens, for people.
    pub what: String,
    /// The command.
    pub argv: Vec<String>,
    /// Whether only root may run it.
    pub needs_root: bool,
    /// The name of the file that it takes up; all of them where none is named.
    pub of_file: Option<&'static str>,
}

/// Why a client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file is not of its format.
    #[error("{path}: {reason}; it was left as it is")]
    Format {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong, and in which line.
        reason: String,
    },
    /// Something must be there before.
    #[error("{what}")]
    Missing {
        /// What is missing.
        what: String,
        /// What helps.
        remedy: String,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Plan {
    /// Plans text for somewhere else.
    pub fn text(text: String) -> Self {
        Self {
            text: Some(text),
            ..Self::default()
        }
    }

    /// Plans to put something into a file.
    #[must_use]
    pub fn file(mut self, path: impl Into<Utf8PathBuf>, reader: &'static str, edit: Edit) -> Self {
        self.files.push(Change {
            path: path.into(),
            edit,
            reader,
        });
        self
    }

    /// Adds what a person should know.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}
