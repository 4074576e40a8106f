//! What was put into files of clients, so that exactly that is taken out again.

use std::collections::BTreeMap;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::edit::Edit;
use crate::clients::trust;
use crate::root::Root;
use crate::sys;

/// Version of the format.
const VERSION: u32 = 2;

/// What was put into which file.
#[derive(Debug)]
pub struct Record {
    path: Utf8PathBuf,
    files: BTreeMap<Utf8PathBuf, Put>,
}

/// What was put into a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// SHA-256 of the file afterwards.
    pub sha256: String,
    /// What stood there before any of it, which comes back; nothing where there was no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The backup beside the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Utf8PathBuf>,
    /// Directories that were made for it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<Utf8PathBuf>,
    /// What was put in, by client.
    pub edits: BTreeMap<String, Edit>,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    files: BTreeMap<Utf8PathBuf, Put>,
}

/// What the first version wrote: certificates alone, each of one client.
#[derive(Deserialize)]
struct First {
    sha256: String,
    #[serde(default)]
    before: Option<String>,
}

impl Record {
    /// Reads what was put where from a root.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or of a newer kdk.
    pub fn of(root: &Root) -> io::Result<Self> {
        let path = root.trusted();
        let Some(text) = sys::fs::read_optional(&path)? else {
            return Ok(Self {
                path,
                files: BTreeMap::new(),
            });
        };
        let files = match serde_json::from_str::<File>(&text) {
            Ok(file) if file.version > VERSION => {
                return Err(io::Error::other(format!(
                    "{path} has format {}, which a newer kdk wrote",
                    file.version
                )));
            }
            Ok(file) => file.files,
            Err(error) => serde_json::from_str::<BTreeMap<Utf8PathBuf, First>>(&text)
                .map_err(|_| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("{path}, where kdk notes what it put into files of clients, is damaged: {error}; move it away, and take out by hand what it put there"),
                    )
                })?
                .into_iter()
                .map(|(path, first)| (path.clone(), first.into_put(&path)))
                .collect(),
        };
        Ok(Self { path, files })
    }

    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> io::Result<()> {
        let file = File {
            version: VERSION,
            files: self.files.clone(),
        };
        let text = serde_json::to_string_pretty(&file).map_err(io::Error::other)?;
        if let Some(parent) = self.path.parent() {
            sys::fs::create_private_dir(parent)?;
        }
        sys::fs::write_atomic(&self.path, text.as_bytes(), sys::fs::PRIVATE)
    }

    /// Returns what was put into a file.
    pub fn get(&self, path: &Utf8Path) -> Option<&Put> {
        self.files.get(path)
    }

    /// Notes what was put into a file, and writes it; nothing forgets the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set(&mut self, path: &Utf8Path, put: Option<Put>) -> io::Result<()> {
        match put {
            Some(put) => self.files.insert(path.to_owned(), put),
            None => self.files.remove(path),
        };
        self.save()
    }

    /// Returns the files of a client.
    pub fn of_client(&self, client: &str) -> Vec<Utf8PathBuf> {
        let is_its = |put: &Put| put.edits.contains_key(client);
        let files = self.files.iter().filter(|(_, put)| is_its(put));
        files.map(|(path, _)| path.clone()).collect()
    }
}

impl First {
    fn into_put(self, path: &Utf8Path) -> Put {
        // Of its text only the hash is known: where the file is as it was left, that is enough.
        let text = sys::fs::read_optional(path).ok().flatten();
        let edit = Edit::Whole(text.filter(|text| hash(text) == self.sha256).unwrap_or_default());
        Put {
            sha256: self.sha256,
            before: self.before,
            backup: None,
            made: path.parent().map(Utf8Path::to_owned).into_iter().collect(),
            edits: [(earlier(path).to_owned(), edit)].into_iter().collect(),
        }
    }
}

/// Returns for which client the first version put a certificate there.
fn earlier(path: &Utf8Path) -> &'static str {
    let is_in = |part: &str| path.as_str().contains(part);
    if is_in("/.config/containers/") {
        "podman"
    } else if is_in("/.docker/") && !trust::is_desktop(&sys::env::home().unwrap_or_default()) {
        "jobs"
    } else if is_in("/.docker/") {
        "docker-desktop"
    } else {
        "docker"
    }
}

/// Returns by what a text is known.
pub fn hash(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}
