//! Removing files and trees.

use std::fs;
use std::io;

use camino::Utf8Path;

use super::sync::Batch;
use super::tree::{Tree, is_of_one, parent};
use crate::registry::storage::{Durability, Target};

impl Tree {
    /// Removes what targets name; says of how many there was something.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn delete(&self, targets: &[Target], durability: Durability) -> io::Result<usize> {
        let mut batch = Batch::since(self.durability.now());
        let mut there = 0;
        for target in targets {
            let path = self.path(target.name());
            let mut above = parent(&path);
            let removed = self.unlink(&path)?;
            if matches!(target, Target::Object(_)) && is_of_one(above) {
                // Those further up are shared with others, and trying to
                // remove them costs as much as success.
                if self.disk.remove_empty(above)? {
                    self.forget(above);
                    above = parent(above);
                }
            }
            if removed {
                there += 1;
                batch.directories.insert(above.to_owned());
            }
        }
        if durability == Durability::Durable && there > 0 {
            self.durability.sync(&self.disk, &batch)?;
        }
        Ok(there)
    }

    /// Removes a file or a tree, not yet durably; says whether there was one.
    fn unlink(&self, path: &Utf8Path) -> io::Result<bool> {
        let removed = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let removed = self.disk.remove_tree(path);
                self.forget(path);
                removed
            }
            Ok(_) => self.disk.remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
