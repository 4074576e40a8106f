//! The logs that there are.

use camino::Utf8PathBuf;

use crate::root::Root;

/// Returns the log files of services that have one, enabled or not.
pub fn logged(root: &Root) -> Vec<(String, Utf8PathBuf)> {
    let Ok(entries) = root.logs().read_dir_utf8() else {
        return Vec::new();
    };
    let mut found: Vec<(String, Utf8PathBuf)> = entries
        .flatten()
        .map(|entry| (entry.file_name().to_owned(), entry.path().join("current")))
        .filter(|(_, current)| current.exists())
        .collect();
    found.sort();
    found
}
