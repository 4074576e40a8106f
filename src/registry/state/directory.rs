//! The directory of what is this machine's: beside the images where those are
//! files.

use std::io;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use super::volatile;

/// The directory of what is this machine's.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: Utf8PathBuf,
    /// Keeps one that lasts no longer than its process.
    temporary: Option<Arc<tempfile::TempDir>>,
}

impl StateDir {
    /// Takes the one that lies in a storage's directory.
    pub fn beside(root: &Utf8Path) -> Self {
        Self {
            path: root.join(".kdk"),
            temporary: None,
        }
    }

    /// Makes one that lasts as long as this process.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn volatile() -> io::Result<Self> {
        let directory = volatile::directory()?;
        let path = Utf8PathBuf::try_from(directory.path().to_owned()).map_err(io::Error::other)?;
        let temporary = Some(Arc::new(directory));
        Ok(Self { path, temporary })
    }

    /// Returns where it is.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Returns where events wait for their endpoints, when that outlasts the process.
    pub fn notifications(&self) -> Option<Utf8PathBuf> {
        self.temporary.is_none().then(|| self.path.join("notifications"))
    }

    /// Returns where it is written down what was collected so far.
    pub fn collected(&self) -> Utf8PathBuf {
        self.path.join("online-gc.json")
    }
}
