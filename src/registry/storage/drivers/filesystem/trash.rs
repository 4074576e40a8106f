//! Deletion in two steps: files lie in `.kdk/trash` until it is sure that they
//! go, and nobody finds them there. A list tells whose they are, so that what a
//! killed process left is moved back.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::tree::{Tree, is_of_one, parent};

const TRASH: &str = ".kdk/trash";
const QUARANTINE: &str = ".kdk/quarantine";
/// The list of what lies beside it, a name a line.
const LIST: &str = "names";

impl Tree {
    fn trash(&self, id: &str) -> Utf8PathBuf {
        self.path(TRASH).join(id)
    }

    /// Moves files out of sight; what is not there is passed over.
    ///
    /// # Errors
    /// When one cannot be moved; then all are where they were.
    pub fn set_aside(&self, id: &str, names: &[&str]) -> io::Result<()> {
        let trash = self.trash(id);
        crate::sys::fs::create_private_dir(&self.path(".kdk"))?;
        crate::sys::fs::create_private_dir(&trash)?;
        // At the time when one of them is to be kept there may be no room for it.
        crate::sys::fs::create_private_dir(&self.path(QUARANTINE))?;
        // Durable before any of them is gone: it says whose they are.
        let list = self.disk.create(&trash.join(LIST), names.join("\n").as_bytes())?;
        list.sync_all()?;
        crate::sys::fs::sync_dir(&trash)?;
        for (number, name) in names.iter().enumerate() {
            match self.disk.rename(&self.path(name), &trash.join(number.to_string())) {
                Err(error) if is_absent(&error) => {}
                Err(error) => {
                    let _ = self.restore(id);
                    return Err(error);
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Moves files back, where nothing has come in their place.
    ///
    /// # Errors
    /// When one cannot be moved.
    pub fn restore(&self, id: &str) -> io::Result<()> {
        let trash = self.trash(id);
        let list = match fs::read_to_string(trash.join(LIST)) {
            Err(error) if is_absent(&error) => return Ok(()),
            other => other?,
        };
        for (number, name) in list.lines().enumerate() {
            let (from, to) = (trash.join(number.to_string()), self.path(name));
            if !from.try_exists()? {
                continue;
            }
            if to.try_exists()? {
                self.disk.remove_file(&from)?;
                continue;
            }
            self.make_directories(parent(&to), &mut None)?;
            self.disk.rename(&from, &to)?;
        }
        self.disk.remove_file(&trash.join(LIST))?;
        self.disk.remove_empty(&trash).map(drop)
    }

    /// Moves back all that killed processes left out of sight.
    ///
    /// # Errors
    /// When something cannot be moved.
    pub fn restore_all(&self) -> io::Result<()> {
        let entries = match fs::read_dir(self.path(TRASH)) {
            Err(error) if is_absent(&error) => return Ok(()),
            other => other?,
        };
        for entry in entries {
            if let Ok(id) = entry?.file_name().into_string() {
                self.restore(&id)?;
                // Without a list it was on its way out already.
                if self.trash(&id).is_dir() {
                    self.disk.remove_tree(&self.trash(&id))?;
                }
            }
        }
        Ok(())
    }

    /// Removes files that are out of sight; says how many there were.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn purge(&self, id: &str, names: &[&str]) -> io::Result<usize> {
        let trash = self.trash(id);
        let there = (0..names.len())
            .filter(|number| trash.join(number.to_string()).exists())
            .count();
        match self.disk.remove_tree(&trash) {
            Err(error) if !is_absent(&error) => return Err(error),
            _ => {}
        }
        for name in names {
            self.prune(&self.path(name))?;
        }
        Ok(there)
    }

    /// Keeps a file that is out of sight under a name.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn quarantine(&self, id: &str, names: &[&str], kept_as: &str) -> io::Result<()> {
        let trash = self.trash(id);
        self.disk
            .rename(&trash.join("0"), &self.path(QUARANTINE).join(kept_as))?;
        self.disk.remove_tree(&trash)?;
        names.iter().try_for_each(|name| self.prune(&self.path(name)))
    }

    /// Removes the directory of a file that went, where nothing else is in it.
    fn prune(&self, path: &Utf8Path) -> io::Result<()> {
        let directory = parent(path);
        if is_of_one(directory) && self.disk.remove_empty(directory)? {
            self.forget(directory);
        }
        Ok(())
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
