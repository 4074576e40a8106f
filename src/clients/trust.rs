//! Putting the registry's certificate where container clients look for it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::config::Config;
use crate::sys;
use crate::sys::fs::PUBLIC;

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
pub fn places() -> Vec<Place> {
    let mut places = Vec::new();
    if let Some(home) = sys::env::home() {
        places.push(Place {
            client: "Docker Desktop",
            directory: home.join(".docker/certs.d"),
            restart: true,
        });
        places.push(Place {
            client: "podman, buildah, skopeo",
            directory: home.join(".config/containers/certs.d"),
            restart: false,
        });
    }
    if cfg!(target_os = "linux") {
        places.push(Place {
            client: "Docker Engine",
            directory: "/etc/docker/certs.d".into(),
            restart: false,
        });
    }
    places
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

/// Puts a certificate into every place.
pub fn place(config: &Config, certificate: &Utf8Path, pem: &str) -> Vec<Placed> {
    each(
        config,
        |target| {
            let before = sys::fs::read_optional(target)?;
            if before.as_deref() == Some(pem) {
                return Ok(Done::Unchanged);
            }
            if let Some(parent) = target.parent() {
                sys::fs::create_dir(parent)?;
            }
            sys::fs::write_atomic(target, pem.as_bytes(), PUBLIC)?;
            Ok(if before.is_some() { Done::Replaced } else { Done::Added })
        },
        |target| {
            let parent = target.parent().unwrap_or(target);
            format!(
                "sudo install -D -m 644 {} {}/ca.crt",
                quote(certificate.as_str()),
                quote(parent.as_str())
            )
        },
    )
}

/// Removes a certificate from every place where it is this one.
pub fn remove(config: &Config, pem: &str) -> Vec<Placed> {
    each(
        config,
        |target| match sys::fs::read_optional(target)? {
            None => Ok(Done::Absent),
            Some(there) if there != pem => Ok(Done::Foreign),
            Some(_) => {
                sys::fs::remove(target)?;
                // The directory too, unless others keep something in it.
                if let Some(parent) = target.parent() {
                    let _ = std::fs::remove_dir(parent);
                }
                Ok(Done::Removed)
            }
        },
        |target| format!("sudo rm {}", quote(target.as_str())),
    )
}

fn each(
    config: &Config,
    work: impl Fn(&Utf8Path) -> io::Result<Done>,
    by_hand: impl Fn(&Utf8Path) -> String,
) -> Vec<Placed> {
    let mut all = Vec::new();
    for place in places() {
        for name in names(config) {
            let path = place.directory.join(name).join("ca.crt");
            let done = work(&path).unwrap_or_else(|error| match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Done::Denied(by_hand(&path)),
                _ => Done::Failed(error.to_string()),
            });
            all.push(Placed {
                client: place.client,
                path,
                done,
                restart: place.restart,
            });
        }
    }
    all
}

/// Quotes a path for a shell, where it needs it.
fn quote(text: &str) -> String {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/._-:@".contains(&byte));
    if plain {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
