//! Telling clients that the registry speaks plain HTTP.

use std::io;

use camino::Utf8PathBuf;

use super::trust;
use crate::config::Config;
use crate::sys;
use crate::sys::fs::{PUBLIC, create_dir, read_optional, write_atomic};

const HEAD: &str = "# Registries of this user's KDK roots that speak plain HTTP. Written by kdk.\n";

/// Returns the file that tells podman, buildah and skopeo.
pub fn podman_file() -> Utf8PathBuf {
    let home = sys::env::home().unwrap_or_else(|| "/root".into());
    home.join(".config/containers/registries.conf.d/kdk.conf")
}

fn entry(address: &str) -> String {
    // An address has no character that TOML would take for another.
    format!("\n[[registry]]\nlocation = \"{address}\"\ninsecure = true\n")
}

/// Says whether podman was told of an address.
pub fn podman_is_told(address: &str) -> bool {
    read_optional(&podman_file())
        .ok()
        .flatten()
        .is_some_and(|text| text.contains(&entry(address)))
}

/// Tells podman, buildah and skopeo that these addresses speak plain HTTP;
/// says whether anything was new.
///
/// # Errors
/// When the file cannot be read or written.
pub fn tell_podman(addresses: &[String]) -> io::Result<bool> {
    let path = podman_file();
    let before = read_optional(&path)?;
    let mut text = before.clone().unwrap_or_else(|| HEAD.to_owned());
    for address in addresses {
        if !text.contains(&entry(address)) {
            text.push_str(&entry(address));
        }
    }
    if before.as_ref() == Some(&text) {
        return Ok(false);
    }
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    write_atomic(&path, text.as_bytes(), PUBLIC)?;
    Ok(true)
}

/// Takes back what [`tell_podman`] wrote; says whether anything was there.
///
/// # Errors
/// When the file cannot be read or written.
pub fn untell_podman(addresses: &[String]) -> io::Result<bool> {
    let path = podman_file();
    let Some(before) = read_optional(&path)? else {
        return Ok(false);
    };
    let text = addresses
        .iter()
        .fold(before.clone(), |text, address| text.replace(&entry(address), ""));
    if text == before {
        return Ok(false);
    }
    if text == HEAD {
        sys::fs::remove(&path)?;
    } else {
        write_atomic(&path, text.as_bytes(), PUBLIC)?;
    }
    Ok(true)
}

/// Says what the Docker daemon must be told.
pub fn docker_line(config: &Config) -> String {
    let names: Vec<String> = trust::names(config).iter().map(|name| format!("\"{name}\"")).collect();
    format!(
        "docker takes plain HTTP once /etc/docker/daemon.json holds \"insecure-registries\": [{}], and dockerd was told with: kill -HUP $(pidof dockerd)",
        names.join(", ")
    )
}
