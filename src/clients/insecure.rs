//! Telling clients that the registry speaks plain HTTP.

use std::io;

use camino::Utf8PathBuf;

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
fn owner(root: &Root) -> String {
    format!("\n# root: {}", root.path())
}

/// Says whether podman was told of an address, for whichever root.
pub fn podman_is_told(address: &str) -> bool {
    read_optional(&podman_file())
        .ok()
        .flatten()
        .is_some_and(|text| text.contains(&body(address)))
}

/// Tells podman, buildah and skopeo that these addresses of a root speak plain
/// HTTP, and no others of it; says whether anything changed.
///
/// # Errors
/// When the file cannot be read or written.
pub fn tell_podman(root: &Root, addresses: &[String]) -> io::Result<bool> {
    edit(|text| {
        let mut text = without(&text, root);
        for address in addresses {
            text.push_str(&format!("{}{}", owner(root), body(address)));
        }
        text
    })
}

/// Tells podman, buildah and skopeo of one more address of a root.
///
/// # Errors
/// When the file cannot be read or written.
pub fn add_podman(root: &Root, address: &str) -> io::Result<bool> {
    edit(|text| format!("{text}{}{}", owner(root), body(address)))
}

fn edit(change: impl FnOnce(String) -> String) -> io::Result<bool> {
    let path = podman_file();
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    let _lock = Lock::take(&path.with_extension("lock"))?;
    let before = read_optional(&path)?;
    let text = change(before.clone().unwrap_or_else(|| HEAD.to_owned()));
    if before.as_ref() == Some(&text) || (before.is_none() && text == HEAD) {
        return Ok(false);
    }
    if text == HEAD {
        sys::fs::remove(&path)?;
    } else {
        write_atomic(&path, text.as_bytes(), PUBLIC)?;
    }
    Ok(true)
}

/// Returns the text without the entries of a root.
fn without(text: &str, root: &Root) -> String {
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
        let (one, two) = (Root::example(), Root::at("/".into()).expect("there"));
        let entry = |root: &Root, address: &str| format!("{}{}", owner(root), body(address));
        let text = format!(
            "{HEAD}{}{}{}",
            entry(&one, "a:1"),
            entry(&two, "b:2"),
            entry(&one, "c:3")
        );
        assert_eq!(without(&text, &one), format!("{HEAD}{}", entry(&two, "b:2")));
        assert_eq!(without(&without(&text, &one), &two), HEAD);
    }
}
