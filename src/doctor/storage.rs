//! Whether the images are where they were: a registry would make an empty
//! storage of what is missing, and nobody would be told.

use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::registry::storage::layout;
use crate::sys::fs::{PRIVATE, read_optional, write_atomic};

/// A directory, by more than its path.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    path: Utf8PathBuf,
    device: u64,
    number: u64,
}

impl Seen {
    fn at(path: &Utf8Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            path: path.to_owned(),
            device: found.dev(),
            number: found.ino(),
        })
    }
}

fn record(config: &Config) -> Utf8PathBuf {
    config.root().state().join("storage.json")
}

/// Notes which directory a registry that runs has its images in.
pub fn note(config: &Config) {
    let seen = config.registry_storage_path().and_then(|path| Seen::at(&path));
    if let Some(text) = seen.and_then(|seen| serde_json::to_string(&seen).ok()) {
        // Without it nothing is noticed, and nothing else is lost.
        let _ = write_atomic(&record(config), text.as_bytes(), PRIVATE);
    }
}

/// Says so when that directory is gone and nothing with images is in its place.
pub fn gone(config: &Config) -> Option<String> {
    missing(config).map(|(what, remedy)| format!("{what}: {remedy}"))
}

/// As [`gone`]: what is missing, and what helps.
pub fn missing(config: &Config) -> Option<(String, String)> {
    let path = config.registry_storage_path()?;
    let text = read_optional(&record(config)).ok()??;
    let seen: Seen = serde_json::from_str(&text)
        .ok()
        .filter(|seen: &Seen| seen.path == path)?;
    if Seen::at(&path).is_some_and(|now| now == seen) || holds_images(&path) {
        return None;
    }
    Some((
        format!("the registry's images were in {path}, which is gone or another directory now"),
        format!(
            "put it back, or mount its file system; to begin with an empty one: rm {}",
            record(config)
        ),
    ))
}

/// Says whether the storage says that its metadata are in a database.
pub fn is_in_database(config: &Config) -> bool {
    let images = config.registry_storage_path();
    images.is_some_and(|images| images.join(layout::database_in_use().as_str()).exists())
}

/// Says whether there are repositories in a storage.
pub fn holds_images(storage: &Utf8Path) -> bool {
    let repositories = storage.join("docker/registry/v2/repositories").read_dir_utf8();
    repositories.is_ok_and(|mut entries| entries.next().is_some())
}
