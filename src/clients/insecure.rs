//! Telling clients that the registry speaks plain HTTP.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::trust;
use crate::config::Config;
use crate::root::Root;
use crate::sys;
use crate::sys::fs::{Lock, PUBLIC, create_dir, read_optional, write_atomic};

const HEAD: &str = "# Registries of this user's KDK roots that speak plain HTTP. Written by kdk.\n";

/// Returns the file that tells podman, buildah and skopeo.
pub fn podman_file() -> Utf8PathBuf {
    let home = sys::env::home().unwrap_or_else(|| "/root".into());
    home.join(".config/containers/registries.conf.d/kdk.conf")
}

/// What the file says of an address. An address has no character that TOML
/// would take for another.
fn body(address: &str) -> String {
    format!("\n[[registry]]\nlocation = \"{address}\"\ninsecure = true\n")
}

/// The line that says whose entry follows.
fn owner(root: &Utf8Path) -> String {
    format!("\n# root: {root}")
}

/// Says whether podman was told of an address, for whichever root.
pub fn podman_is_told(address: &str) -> bool {
    read_optional(&podman_file())
        .ok()
        .flatten()
        .is_some_and(|text| text.contains(&body(address)))
}

/// Returns the file's text in which a root has these addresses, and no others.
pub fn with(text: &str, root: &Utf8Path, addresses: &[String]) -> String {
    let mut text = without(if text.is_empty() { HEAD } else { text }, root);
    for address in addresses {
        text.push_str(&format!("{}{}", owner(root), body(address)));
    }
    // Where nobody has an entry, no file is needed.
    if text == HEAD { String::new() } else { text }
}

/// Tells podman, buildah and skopeo of one more address of a root.
///
/// # Errors
/// When the file cannot be read or written.
pub fn add_podman(root: &Root, address: &str) -> io::Result<bool> {
    edit(|text| {
        let head = if text.is_empty() { HEAD } else { text };
        format!("{head}{}{}", owner(root.path()), body(address))
    })
}

fn edit(change: impl FnOnce(&str) -> String) -> io::Result<bool> {
    let path = podman_file();
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    let _lock = Lock::take(&path.with_extension("lock"))?;
    let before = read_optional(&path)?.unwrap_or_default();
    let text = change(&before);
    if before == text {
        return Ok(false);
    }
    write_atomic(&path, text.as_bytes(), PUBLIC)?;
    Ok(true)
}

/// Returns the text without the entries of a root.
fn without(text: &str, root: &Utf8Path) -> String {
    let owner = owner(root);
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(&format!("{owner}\n")) {
        kept.push_str(&rest[..at]);
        let entry = &rest[at + owner.len()..];
        // An entry ends with the line that says how it is.
        let end = entry
            .find("insecure = true\n")
            .map_or(entry.len(), |at| at + "insecure = true\n".len());
        rest = &entry[end..];
    }
    kept.push_str(rest);
    kept
}

/// Says what the Docker daemon must be told.
pub fn docker_line(config: &Config) -> String {
    let names: Vec<String> = trust::names(config).iter().map(|name| format!("\"{name}\"")).collect();
    format!(
        "docker takes plain HTTP once /etc/docker/daemon.json holds \"insecure-registries\": [{}], and dockerd was told with: kill -HUP $(pidof dockerd)",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entries_of_one_root_go_and_the_others_stay() {
        let (one, two) = (Utf8Path::new("/home/git/kdk"), Utf8Path::new("/"));
        let entry = |root: &Utf8Path, address: &str| format!("{}{}", owner(root), body(address));
        let text = format!("{HEAD}{}{}{}", entry(one, "a:1"), entry(two, "b:2"), entry(one, "c:3"));
        assert_eq!(without(&text, one), format!("{HEAD}{}", entry(two, "b:2")));
        assert_eq!(without(&without(&text, one), two), HEAD);
    }
}
