//! The kinds of registry that the tests of the API run on.

use super::postgres::TestPostgres;
use super::{TestRegistry, temporary};

/// Where a registry keeps its data, and where its metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Files, with links as metadata.
    Files,
    /// Files, with metadata in PostgreSQL.
    Database,
    /// Memory, with links as metadata.
    Memory,
    /// Memory, with metadata in PostgreSQL, in a schema as GitLab's registry makes it.
    MemoryDatabase,
}

impl Face {
    /// Starts a registry with deletion enabled.
    pub fn start(self) -> TestRegistry {
        self.with("")
    }

    /// Starts a registry with more configuration.
    pub fn with(self, more: &str) -> TestRegistry {
        TestRegistry::on_face(self, temporary(), more, &[])
    }

    /// Says whether metadata are in PostgreSQL.
    pub fn is_database(self) -> bool {
        matches!(self, Self::Database | Self::MemoryDatabase)
    }

    /// Says whether what is stored outlives the server.
    pub fn lasts(self) -> bool {
        matches!(self, Self::Files | Self::Database)
    }

    /// Returns the driver's part of the configuration, for what is below a directory.
    pub fn storage(self, directory: &std::path::Path) -> String {
        if self.lasts() {
            format!(
                "  filesystem:\n    rootdirectory: {}\n",
                directory.join("storage").display()
            )
        } else {
            "  inmemory: {}\n".to_owned()
        }
    }

    /// Makes a database for what is below a directory, where there is to be one.
    pub fn database(self, directory: &std::path::Path) -> Option<String> {
        self.is_database().then(|| {
            let name = directory.file_name().expect("a name").to_str().expect("UTF-8");
            let name = name
                .to_lowercase()
                .replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
            let postgres = TestPostgres::shared();
            match self {
                Self::MemoryDatabase => postgres.database_of_gitlab(&name),
                _ => postgres.database(&name),
            }
            name
        })
    }
}

/// Makes tests of functions that take a face, one of each for every face. With
/// `lasting:`, only for those whose content outlives the server.
macro_rules! on_every_face {
    (lasting: $($name:ident),* $(,)?) => {
        mod lasting_in_files {
            $(#[test] fn $name() { super::$name($crate::support::Face::Files); })*
        }
        mod lasting_in_a_database {
            $(#[test] fn $name() { super::$name($crate::support::Face::Database); })*
        }
    };
    ($($name:ident),* $(,)?) => {
        mod in_files {
            $(#[test] fn $name() { super::$name($crate::support::Face::Files); })*
        }
        mod in_a_database {
            $(#[test] fn $name() { super::$name($crate::support::Face::Database); })*
        }
        mod in_memory {
            $(#[test] fn $name() { super::$name($crate::support::Face::Memory); })*
        }
        mod in_memory_and_a_database {
            $(#[test] fn $name() { super::$name($crate::support::Face::MemoryDatabase); })*
        }
    };
}
pub(crate) use on_every_face;
