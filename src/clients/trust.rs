//! Which clients of this machine trust the registry's certificate, and by
//! which names.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::found::Found;
use crate::config::Config;
use crate::sys;

/// Whether the docker of this machine is Docker Desktop, which reads certificates once.
pub fn is_desktop(home: &Utf8Path) -> bool {
    cfg!(not(target_os = "linux")) || home.join(".docker/desktop").is_dir()
}

/// Returns what clients must trust: the registry's certificate, and that of
/// the token service when it speaks HTTPS too, to which they are sent.
/// Nothing where there is none yet.
///
/// # Errors
/// When a file cannot be read.
pub fn bundle(config: &Config) -> io::Result<Option<String>> {
    let Some(mut pem) = sys::fs::read_optional(&config.root().registry_anchor())? else {
        return Ok(None);
    };
    if config.https_enabled() && config.registry_auth_enabled() && !config.has_one_origin() {
        pem.push_str(&sys::fs::read_optional(&config.https_pair().0)?.unwrap_or_default());
    }
    Ok(Some(pem))
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

/// Returns the names of this machine under which the registry is known.
pub fn hosts(config: &Config) -> [String; 2] {
    [config.registry_host(), config.hostname()]
}

/// Returns the `host:port` names under which clients know the registry.
pub fn names(config: &Config) -> Vec<String> {
    let port = config.registry_port();
    let mut names = vec![config.registry_address()];
    if config.registry_is_elsewhere() {
        // Its other names are not this root's.
        return names;
    }
    names.extend(hosts(config).iter().map(|host| sys::net::host_port(host, port)));
    let mut unique: Vec<String> = Vec::new();
    names.into_iter().for_each(|name| {
        if !unique.contains(&name) {
            unique.push(name);
        }
    });
    unique
}
