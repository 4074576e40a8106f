//! What only this driver leaves behind when it is killed: temporary names,
//! and directories of one digest or upload with nothing in them.

use std::fs;
use std::io;
use std::time::SystemTime;

use camino::Utf8Path;

use super::tree::{Tree, is_of_one};

impl Tree {
    /// Removes leftovers below a directory that were last changed before a
    /// time; returns how many.
    ///
    /// # Errors
    /// When something cannot be read or removed.
    pub fn tidy(&self, directory: &Utf8Path, before: SystemTime) -> io::Result<usize> {
        let mut removed = 0;
        self.tidy_up(directory, before, &mut removed)?;
        Ok(removed)
    }

    /// Does so; says whether nothing is left in the directory.
    fn tidy_up(&self, directory: &Utf8Path, before: SystemTime, removed: &mut usize) -> io::Result<bool> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let is_old = |path: &Utf8Path| {
            let changed = fs::symlink_metadata(path).and_then(|found| found.modified());
            changed.is_ok_and(|changed| changed < before)
        };
        let mut left = 0;
        for entry in entries {
            let entry = entry?;
            left += 1;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = directory.join(&name);
            let gone = if entry.file_type()?.is_dir() {
                let earlier = *removed;
                let is_empty = self.tidy_up(&path, before, removed)?;
                // What was just removed from it was old, and made it young.
                let may_go = is_empty && is_of_one(&path) && (*removed > earlier || is_old(&path));
                let gone = may_go && self.disk.remove_empty(&path)?;
                if gone {
                    self.forget(&path);
                }
                gone
            } else {
                is_temporary(&name) && is_old(&path) && self.is_removed(&path)?
            };
            if gone {
                left -= 1;
                *removed += 1;
            }
        }
        Ok(left == 0)
    }

    /// Removes a file; says whether it was this call that did.
    fn is_removed(&self, path: &Utf8Path) -> io::Result<bool> {
        match self.disk.remove_file(path) {
            // Somebody else tidies up, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }
}

/// Says whether a name is one of those that contents are written under first:
/// `NAME.0123456789abcdef.tmp`.
fn is_temporary(name: &str) -> bool {
    let number = name.strip_suffix(".tmp").and_then(|rest| rest.rsplit_once('.'));
    number.is_some_and(|(_, number)| number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
