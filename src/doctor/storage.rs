//! Whether the images are where they were: a registry would make an empty
//! storage of what is missing, and nobody would be told.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::registry::storage::layout;
use crate::sys::fs::{PRIVATE, read_optional, write_atomic};
use crate::sys::shell::word;

/// Where a registry has had its images.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    path: Utf8PathBuf,
}

fn record(config: &Config) -> Utf8PathBuf {
    config.root().state().join("storage.json")
}

/// Notes which directory a registry that runs has its images in.
pub fn note(config: &Config) {
    let seen = config.registry_storage_path().filter(|path| was_used(path));
    if let Some(text) = seen.and_then(|path| serde_json::to_string(&Seen { path }).ok()) {
        // Without it nothing is noticed, and nothing else is lost.
        let _ = write_atomic(&record(config), text.as_bytes(), PRIVATE);
    }
}

/// Says so when that directory is gone, or one that no registry has used is in its place.
pub fn gone(config: &Config) -> Option<String> {
    missing(config).map(|(what, remedy)| format!("{what}: {remedy}"))
}

/// As [`gone`]: what is missing, and what helps.
pub fn missing(config: &Config) -> Option<(String, String)> {
    let path = config.registry_storage_path()?;
    let text = read_optional(&record(config)).ok()??;
    let seen: Seen = serde_json::from_str(&text).ok()?;
    if seen.path != path || was_used(&path) {
        return None;
    }
    Some((
        format!("the registry's images were in {path}, which is gone, or empty now"),
        format!(
            "put it back, or mount its file system; to begin with an empty one: rm {}",
            word(record(config).as_str())
        ),
    ))
}

/// Says whether the storage says that its metadata are in a database.
pub fn is_in_database(config: &Config) -> bool {
    let images = config.registry_storage_path();
    images.is_some_and(|images| images.join(layout::database_in_use().as_str()).exists())
}

/// Says whether a registry has written to a directory: content of its own, or
/// what the built-in one keeps beside it.
fn was_used(storage: &Utf8Path) -> bool {
    storage.join("docker").is_dir() || storage.join(".kdk").is_dir()
}

/// Says whether there are images in a storage: blobs, whose metadata may be elsewhere.
pub fn holds_images(storage: &Utf8Path) -> bool {
    let has_entries = |path: &str| {
        let entries = storage.join("docker/registry/v2").join(path).read_dir_utf8();
        entries.is_ok_and(|mut entries| entries.next().is_some())
    };
    has_entries("repositories") || has_entries("blobs")
}
