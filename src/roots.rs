//! All roots of this user, and the ports that they claim: two roots must not
//! get the same one.
//!
//! The list is one locked file of the user's own. A root enters it when it is
//! made and whenever it is reconfigured; one that is gone drops out.

use std::collections::BTreeMap;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::root::Root;
use crate::sys;
use crate::sys::fs::{Lock, PRIVATE};

/// Version of the list's format.
const VERSION: u32 = 1;
/// How many ports after the wanted one are tried.
const TRIED: u16 = 200;

/// A root that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Where it is.
    pub path: Utf8PathBuf,
    /// The ports that it claims, by setting.
    pub ports: BTreeMap<String, u16>,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    roots: Vec<Known>,
}

/// The list, locked against everybody else until it is dropped.
#[derive(Debug)]
pub struct Roots {
    path: Utf8PathBuf,
    known: Vec<Known>,
    /// Whether what is there cannot be read.
    is_damaged: bool,
    _lock: Lock,
}

/// Who has a port already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rival {
    /// Another root claims it, whether it runs or not.
    Root(Utf8PathBuf),
    /// A process listens on it.
    Process(Option<sys::net::Holder>),
}

impl std::fmt::Display for Rival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root(path) => write!(f, "claimed by the root {path}"),
            Self::Process(Some(holder)) => write!(f, "taken by {} (process {})", holder.name, holder.pid),
            Self::Process(None) => f.write_str("taken by another process"),
        }
    }
}

/// Where the list is; nothing where the user has no home.
fn place() -> Option<Utf8PathBuf> {
    Some(sys::env::state_dir()?.join("kdk"))
}

impl Roots {
    /// Locks and reads the list; nothing where the user has no home.
    ///
    /// # Errors
    /// When it cannot be locked, or was written by a newer kdk.
    pub fn open() -> io::Result<Option<Self>> {
        let Some(directory) = place() else { return Ok(None) };
        sys::fs::create_private_dir(&directory)?;
        let lock = Lock::take(&directory.join("roots.lock"))?;
        let path = directory.join("roots.json");
        // A damaged list is made anew by and by: each root enters it again.
        let text = sys::fs::read_optional(&path)?;
        let file: Option<File> = text.as_ref().and_then(|text| serde_json::from_str(text).ok());
        let is_damaged = text.is_some() && file.is_none();
        if let Some(file) = file.as_ref().filter(|file| file.version > VERSION) {
            return Err(io::Error::other(format!(
                "{path} has format {}, which a newer kdk wrote",
                file.version
            )));
        }
        let mut known = file.map(|file| file.roots).unwrap_or_default();
        known.retain(|root| Root::is_one(&root.path));
        for root in &mut known {
            // What the root says now counts, where it can be read.
            if let Some(config) = Root::at(&root.path).ok().and_then(|root| Config::load(&root).ok()) {
                root.ports = claims(&config);
            }
        }
        Ok(Some(Self {
            path,
            known,
            is_damaged,
            _lock: lock,
        }))
    }

    /// Returns the roots.
    pub fn known(&self) -> &[Known] {
        &self.known
    }

    /// Returns the list's path, and where it is kept before it is written
    /// anew, when it cannot be read.
    pub fn damage(&self) -> Option<(&Utf8Path, Utf8PathBuf)> {
        self.is_damaged
            .then(|| (self.path.as_path(), self.path.with_extension("json.damaged")))
    }

    /// Says who has a port, apart from the root at `own`.
    pub fn rival(&self, port: u16, own: &Utf8Path) -> Option<Rival> {
        let other = self.claimed(port, own).map(|root| Rival::Root(root.to_owned()));
        other.or_else(|| taken(port))
    }

    /// Returns the root that claims a port, apart from the one at `own`.
    pub fn claimed(&self, port: u16, own: &Utf8Path) -> Option<&Utf8Path> {
        let mut others = self.known.iter().filter(|root| root.path != own);
        let other = others.find(|root| root.ports.values().any(|claimed| *claimed == port))?;
        Some(&other.path)
    }

    /// Adds a root, or what it claims now.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn enter(&mut self, root: &Utf8Path, ports: BTreeMap<String, u16>) -> io::Result<()> {
        if let Some((path, kept)) = self.damage() {
            std::fs::rename(path, kept)?;
            self.is_damaged = false;
        }
        self.known.retain(|known| known.path != root);
        self.known.push(Known {
            path: root.to_owned(),
            ports,
        });
        self.known.sort_by(|a, b| a.path.cmp(&b.path));
        let file = File {
            version: VERSION,
            roots: self.known.clone(),
        };
        let text = serde_json::to_string_pretty(&file).map_err(io::Error::other)?;
        sys::fs::write_atomic(&self.path, text.as_bytes(), PRIVATE)
    }
}

/// Returns the ports that a root's settings claim.
pub fn claims(config: &Config) -> BTreeMap<String, u16> {
    let mut claims = BTreeMap::new();
    if config.runs_rails() {
        claims.insert("port".to_owned(), config.port());
    }
    if config.registry_mode() == "embedded" {
        claims.insert("registry.port".to_owned(), config.registry_port());
    }
    if config.registry_has_front() {
        claims.insert("registry.backend_port".to_owned(), config.registry_backend_port());
    }
    claims
}

/// Says who listens on a port, on whichever address.
pub fn taken(port: u16) -> Option<Rival> {
    let free = |address: [u8; 4]| sys::net::try_listen((address, port).into()).is_ok();
    (!(free([127, 0, 0, 1]) && free([0, 0, 0, 0]))).then(|| Rival::Process(sys::net::port_holder(port)))
}

/// Returns `wanted`, or the first port after it that `is_free`.
pub fn first_free(wanted: u16, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    (wanted..wanted.saturating_add(TRIED)).find(|port| is_free(*port))
}
