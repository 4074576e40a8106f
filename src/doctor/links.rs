//! A quick look at tags of a storage in files: those that lead nowhere.
//!
//! It looks for a moment only; `kdk registry verify` looks at everything.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use super::storage;
use crate::registry::oci::Digest;
use crate::registry::storage::layout;
use crate::sys::clock::monotonic;
use crate::sys::fs::read_optional;

/// How long is looked.
const LOOK: Duration = Duration::from_millis(300);
/// How many names are told.
const TOLD: usize = 3;

/// Reads links of tags, as many as there is time for.
pub fn check(scene: &Scene) -> Verdict {
    let config = match scene.registry() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let Some(path) = config.registry_storage_path().filter(|path| path.is_dir()) else {
        return Verdict::Skipped("the images are in no directory here".to_owned());
    };
    if storage::is_in_database(config) {
        return Verdict::Skipped("the metadata are in a database".to_owned());
    }
    let top = path.join(layout::repositories().as_str());
    let mut scan = Scan {
        storage: &path,
        top: &top,
        broken: Vec::new(),
        nameless: Vec::new(),
        end: monotonic() + LOOK,
    };
    scan.repository(&top);
    let told = |names: &[String]| {
        let more = names.len().saturating_sub(TOLD);
        let shown = names.iter().take(TOLD).cloned().collect::<Vec<_>>().join(", ");
        if more == 0 {
            shown
        } else {
            format!("{shown} and {more} more")
        }
    };
    let mut found = Vec::new();
    if !scan.broken.is_empty() {
        found.push(
            Finding::problem(
                "links-broken",
                format!("tags that lead nowhere: {}", told(&scan.broken)),
            )
            .why("they are listed, and cannot be pulled")
            .suggest(&["registry", "verify"])
            .suggest(&["registry", "verify", "--repair"]),
        );
    }
    if !scan.nameless.is_empty() {
        found.push(
            Finding::problem(
                "tags-nameless",
                format!("tags without a name, in {}", told(&scan.nameless)),
            )
            .why("a copy by AWS DataSync makes such: the registry cannot list their repository")
            .suggest(&["registry", "verify"])
            .suggest(&["registry", "verify", "--repair"]),
        );
    }
    found.into()
}

/// A look that goes on for a while.
struct Scan<'a> {
    storage: &'a Utf8Path,
    top: &'a Utf8Path,
    broken: Vec<String>,
    nameless: Vec<String>,
    end: std::time::Instant,
}

impl Scan<'_> {
    /// Looks at a directory of repositories, and at the repository that it is.
    fn repository(&mut self, directory: &Utf8Path) {
        for path in entries(directory) {
            if monotonic() > self.end {
                return;
            }
            match path.file_name() {
                Some("_manifests") => self.tags(directory, &path.join("tags")),
                Some(name) if name.starts_with('_') => {}
                _ => self.repository(&path),
            }
        }
    }

    fn tags(&mut self, repository: &Utf8Path, tags: &Utf8Path) {
        let name = repository.strip_prefix(self.top).unwrap_or(repository).to_string();
        // What is there beside the directories of tags has no tag's name.
        let is_nameless = tags.join("current/link").is_file() || tags.join("link").is_file();
        if is_nameless {
            self.nameless.push(name.clone());
        }
        for tag in entries(tags) {
            if monotonic() > self.end {
                return;
            }
            let tag_name = tag.file_name().unwrap_or_default();
            if is_nameless && (tag_name == "current" || tag_name == "index") {
                continue;
            }
            let link = read_optional(&tag.join("current/link")).ok().flatten();
            let digest = link.and_then(|link| link.trim().parse::<Digest>().ok());
            let is_there = digest.is_some_and(|digest| self.storage.join(layout::blob_data(&digest).as_str()).exists());
            if !is_there {
                self.broken.push(format!("{name}:{tag_name}"));
            }
        }
    }
}

fn entries(directory: &Utf8Path) -> Vec<Utf8PathBuf> {
    let entries = directory.read_dir_utf8().into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path().to_owned()).collect()
}
