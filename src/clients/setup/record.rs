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

/// What was put into which file.
#[derive(Debug, Default)]
pub struct Record {
    path: Utf8PathBuf,
    files: BTreeMap<Utf8PathBuf, Put>,
}

/// What was put into a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Put {
    /// SHA-256 of the file afterwards.
    pub sha256: String,
    /// What stood there before, which comes back; nothing where there was no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// For which client; nothing in what an earlier version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// How; nothing in what an earlier version wrote, which was the file whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<Edit>,
    /// The backup beside the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Utf8PathBuf>,
}

impl Record {
    /// Reads what was put where from a root.
    pub fn of(root: &Root) -> Self {
        let path = root.trusted();
        let text = sys::fs::read_optional(&path).ok().flatten();
        let files = text
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        Self { path, files }
    }

    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&self.files).map_err(io::Error::other)?;
        if let Some(parent) = self.path.parent() {
            sys::fs::create_private_dir(parent)?;
        }
        sys::fs::write_atomic(&self.path, text.as_bytes(), sys::fs::PRIVATE)
    }

    /// Returns what was put into a file.
    pub fn get(&self, path: &Utf8Path) -> Option<&Put> {
        self.files.get(path)
    }

    /// Notes what was put into a file.
    pub fn insert(&mut self, path: &Utf8Path, put: Put) {
        self.files.insert(path.to_owned(), put);
    }

    /// Forgets a file.
    pub fn forget(&mut self, path: &Utf8Path) {
        self.files.remove(path);
    }

    /// Returns the files of a client.
    pub fn of_client(&self, client: &str) -> Vec<(Utf8PathBuf, Put)> {
        let is_its = |path: &Utf8Path, put: &Put| put.client.as_deref().unwrap_or_else(|| earlier(path)) == client;
        let files = self.files.iter().filter(|(path, put)| is_its(path, put));
        files.map(|(path, put)| (path.clone(), put.clone())).collect()
    }
}

/// Returns for which client an earlier version put a certificate there.
fn earlier(path: &Utf8Path) -> &'static str {
    let is_in = |part: &str| path.as_str().contains(part);
    if is_in("/.config/containers/") {
        "podman"
    } else if is_in("/.docker/") && !trust::is_desktop(&sys::env::home().unwrap_or_default()) {
        "jobs"
    } else {
        "docker"
    }
}

/// Returns by what a text is known.
pub fn hash(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}
