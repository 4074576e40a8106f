//! Putting the registry's certificate where container clients look for it.

use std::collections::BTreeMap;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::found::Found;
use super::shell::word as quote;
use crate::config::Config;
use crate::sys;
use crate::sys::fs::PUBLIC;

const DESKTOP: &str = "Docker Desktop";
const JOBS: &str = "CI/CD jobs";

/// A client's directory of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which client looks there.
    pub client: &'static str,
    /// The directory that holds a directory per registry.
    pub directory: Utf8PathBuf,
    /// Whether the client must be restarted to see a change.
    pub restart: bool,
}

/// What was done with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is new.
    Added,
    /// It replaced another certificate.
    Replaced,
    /// It was there already.
    Unchanged,
    /// It was removed.
    Removed,
    /// There was none to remove.
    Absent,
    /// The certificate there is not ours and stays.
    Foreign,
    /// Rights are missing; this command line would do it.
    Denied(String),
    /// It failed.
    Failed(String),
}

/// One file that was handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which client looks there.
    pub client: &'static str,
    /// The file.
    pub path: Utf8PathBuf,
    /// What was done.
    pub done: Done,
    /// Whether the client must be restarted to see it.
    pub restart: bool,
}

/// Returns where clients of this machine look.
pub fn places(config: &Config) -> Vec<Place> {
    let mut places = Vec::new();
    let home = sys::env::home();
    let engine = Utf8Path::new("/etc/docker");
    let has = |program: &str| sys::process::find_program(program).is_some();
    if cfg!(target_os = "linux") && (engine.is_dir() || has("docker") || has("dockerd")) {
        places.push(Place {
            client: "Docker Engine",
            directory: engine.join("certs.d"),
            restart: false,
        });
    }
    let Some(home) = home else { return places };
    places.push(Place {
        client: "podman, buildah, skopeo",
        directory: home.join(".config/containers/certs.d"),
        restart: false,
    });
    // On Linux only Docker Desktop looks there, and the jobs of a CI/CD runner, which mount it.
    let desktop = is_desktop(&home);
    if desktop || config.runner_enabled() {
        places.push(Place {
            client: if desktop { DESKTOP } else { JOBS },
            directory: home.join(".docker/certs.d"),
            restart: desktop,
        });
    }
    places
}

/// Whether the docker of this machine is Docker Desktop, which reads certificates once.
fn is_desktop(home: &Utf8Path) -> bool {
    cfg!(not(target_os = "linux")) || home.join(".docker/desktop").is_dir()
}

/// Says whether a client trusts the certificate in a file, for an address.
pub fn is_trusted(client: Found, address: &str, certificate: &Utf8Path) -> bool {
    let home = sys::env::home().unwrap_or_default();
    let (engine, own) = ("/etc/docker/certs.d", home.join(".config/containers/certs.d"));
    let directories: Vec<Utf8PathBuf> = match client {
        Found::Docker if !is_desktop(&home) => vec![engine.into()],
        Found::Docker => vec![home.join(".docker/certs.d")],
        Found::Podman => vec![own, "/etc/containers/certs.d".into(), engine.into()],
    };
    let Ok(Some(pem)) = sys::fs::read_optional(certificate) else {
        return false;
    };
    directories.iter().any(|directory| {
        let there = sys::fs::read_optional(&directory.join(address).join("ca.crt"));
        there.ok().flatten().is_some_and(|text| text.contains(pem.trim()))
    })
}

/// Returns the `host:port` names under which clients know the registry.
pub fn names(config: &Config) -> Vec<String> {
    let port = config.registry_port();
    let mut names = vec![config.registry_address()];
    for host in [config.registry_host(), config.hostname()] {
        names.push(sys::net::host_port(&host, port));
    }
    let mut unique: Vec<String> = Vec::new();
    names.into_iter().for_each(|name| {
        if !unique.contains(&name) {
            unique.push(name);
        }
    });
    unique
}

/// Files that were put where clients look: what somebody else put there since
/// is not ours to take away.
type Record = BTreeMap<Utf8PathBuf, Put>;

/// What was put into a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Put {
    /// SHA-256 of it.
    sha256: String,
    /// What stood there before, which comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<String>,
}

fn record(config: &Config) -> Record {
    let text = sys::fs::read_optional(&config.root().trusted()).ok().flatten();
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

fn save(config: &Config, record: &Record) -> io::Result<()> {
    let text = serde_json::to_string_pretty(record).map_err(io::Error::other)?;
    sys::fs::create_private_dir(&config.root().state())?;
    sys::fs::write_atomic(&config.root().trusted(), text.as_bytes(), sys::fs::PRIVATE)
}

fn hash(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}

/// Puts a certificate into every place, and takes it away from those where
/// it was under names that the registry does not have any more.
///
/// # Errors
/// When what was done cannot be noted.
pub fn place(config: &Config, certificate: &Utf8Path, pem: &str) -> io::Result<Vec<Placed>> {
    let mut record = record(config);
    let wanted = targets(config);
    let mut all = take_away(&mut record, |path| !wanted.iter().any(|(_, target)| target == path));
    for (place, path) in &wanted {
        let before = sys::fs::read_optional(path).ok().flatten();
        let done = put(path, pem);
        let sha256 = hash(pem);
        match (&done, record.get_mut(path)) {
            // What an earlier call put there is no file of somebody else's.
            (Ok(Done::Added | Done::Replaced), Some(known))
                if before.as_deref().map(hash).as_ref() == Some(&known.sha256) =>
            {
                known.sha256 = sha256;
            }
            (Ok(Done::Added | Done::Replaced), _) => {
                record.insert(path.clone(), Put { sha256, before });
            }
            _ => {}
        }
        let parent = path.parent().unwrap_or(path);
        let by_hand = format!(
            "sudo install -D -m 644 {} {}/ca.crt",
            quote(certificate.as_str()),
            quote(parent.as_str())
        );
        all.push(placed(place.client, path, place.restart, done, by_hand));
    }
    save(config, &record)?;
    Ok(all)
}

fn put(target: &Utf8Path, pem: &str) -> io::Result<Done> {
    let before = sys::fs::read_optional(target)?;
    if before.as_deref() == Some(pem) {
        return Ok(Done::Unchanged);
    }
    if let Some(parent) = target.parent() {
        sys::fs::create_dir(parent)?;
    }
    sys::fs::write_atomic(target, pem.as_bytes(), PUBLIC)?;
    Ok(if before.is_some() { Done::Replaced } else { Done::Added })
}

/// Takes away every certificate that was put anywhere; and one of `unnoted`,
/// where an earlier version of kdk put it without a note.
///
/// # Errors
/// When what was done cannot be noted.
pub fn remove(config: &Config, unnoted: &[String]) -> io::Result<Vec<Placed>> {
    let mut record = record(config);
    for (_, path) in targets(config) {
        let there = sys::fs::read_optional(&path).ok().flatten();
        if let Some(pem) = there.filter(|there| unnoted.contains(there)) {
            record.entry(path).or_insert_with(|| Put {
                sha256: hash(&pem),
                before: None,
            });
        }
    }
    let all = take_away(&mut record, |_| true);
    save(config, &record)?;
    Ok(all)
}

/// Takes away what was put into some of the places.
fn take_away(record: &mut Record, which: impl Fn(&Utf8Path) -> bool) -> Vec<Placed> {
    let mut all = Vec::new();
    let paths: Vec<(Utf8PathBuf, Put)> = record
        .iter()
        .filter(|(path, _)| which(path))
        .map(|(path, put)| (path.clone(), put.clone()))
        .collect();
    for (path, ours) in paths {
        let done = take(&path, &ours);
        if done.is_ok() {
            record.remove(&path);
        }
        let by_hand = format!("sudo rm {}", quote(path.as_str()));
        let client = client_of(&path);
        all.push(placed(client, &path, client == DESKTOP, done, by_hand));
    }
    all
}

fn take(path: &Utf8Path, ours: &Put) -> io::Result<Done> {
    match sys::fs::read_optional(path)? {
        None => Ok(Done::Absent),
        Some(there) if hash(&there) != ours.sha256 => Ok(Done::Foreign),
        Some(_) if let Some(before) = &ours.before => {
            sys::fs::write_atomic(path, before.as_bytes(), PUBLIC)?;
            Ok(Done::Removed)
        }
        Some(_) => {
            sys::fs::remove(path)?;
            // The directory too, unless others keep something in it.
            if let Some(parent) = path.parent() {
                let _ = std::fs::remove_dir(parent);
            }
            Ok(Done::Removed)
        }
    }
}

fn placed(client: &'static str, path: &Utf8Path, restart: bool, done: io::Result<Done>, by_hand: String) -> Placed {
    let done = done.unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Done::Denied(by_hand),
        _ => Done::Failed(error.to_string()),
    });
    Placed {
        client,
        path: path.to_owned(),
        done,
        restart,
    }
}

/// Returns which client looks at a path.
fn client_of(path: &Utf8Path) -> &'static str {
    let parts = |part: &str| path.as_str().contains(part);
    if parts("/.config/containers/") {
        "podman, buildah, skopeo"
    } else if parts("/.docker/") {
        let home = sys::env::home().unwrap_or_default();
        if is_desktop(&home) { DESKTOP } else { JOBS }
    } else {
        "Docker Engine"
    }
}

/// Returns the files that clients of this machine read for this registry.
fn targets(config: &Config) -> Vec<(Place, Utf8PathBuf)> {
    let names = names(config);
    places(config)
        .into_iter()
        .flat_map(|place| {
            let paths: Vec<_> = names
                .iter()
                .map(|name| (place.clone(), place.directory.join(name).join("ca.crt")))
                .collect();
            paths
        })
        .collect()
}
