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
    let owner_line = owner(root);
    let count = text.lines().filter(|line| *line == owner_line.trim()).count();
    let has = |address: &String| text.contains(&format!("{owner_line}{}", body(address)));
    if count == addresses.len() && count > 0 && addresses.iter().all(has) {
        // Wherever they stand among those of other roots.
        return text.to_owned();
    }
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

/// Returns the text without the entries of a root. An entry is a line that
/// names the root, and the table that follows, up to the next blank line, table
/// or comment: what others wrote there stays.
fn without(text: &str, root: &Utf8Path) -> String {
    let owner = owner(root);
    let owner = owner.trim();
    let mut kept: Vec<&str> = Vec::new();
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        if line.trim_end() != owner {
            kept.push(line);
            continue;
        }
        // The blank line above is its own, too.
        if kept.last().is_some_and(|line| line.trim().is_empty()) {
            kept.pop();
        }
        while lines.next_if(|line| line.trim().is_empty()).is_some() {}
        if lines.next_if(|line| line.trim_end() == "[[registry]]").is_some() {
            let is_inside = |line: &&str| !line.trim().is_empty() && !line.starts_with(['[', '#']);
            while lines.next_if(is_inside).is_some() {}
        }
    }
    kept.concat()
}

/// Says whether a Docker daemon of this machine was told of an address.
pub fn docker_is_told(address: &str) -> bool {
    let home = sys::env::home().unwrap_or_default();
    let files = [
        Utf8PathBuf::from("/etc/docker/daemon.json"),
        home.join(".config/docker/daemon.json"),
        home.join(".docker/daemon.json"),
    ];
    files.iter().any(|file| {
        let text = read_optional(file).ok().flatten().unwrap_or_default();
        let tree: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let list = tree["insecure-registries"].as_array();
        list.is_some_and(|list| list.iter().any(|there| there == address))
    })
}

/// Says what the Docker daemon must be told.
pub fn docker_line(config: &Config) -> String {
    format!(
        "docker takes plain HTTP from {} once its insecure-registries name it; put that there with: kdk setup docker --apply",
        trust::names(config).join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_may_stand_in_any_order() {
        let (one, two) = (Utf8Path::new("/one"), Utf8Path::new("/two"));
        let addresses = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let first = with("", one, &addresses(&["a:1", "b:1"]));
        let both = with(&first, two, &addresses(&["c:1"]));
        assert_eq!(with(&both, one, &addresses(&["b:1", "a:1"])), both);
        assert_eq!(with(&both, two, &addresses(&["c:1"])), both);
        assert_ne!(with(&both, one, &addresses(&["a:1"])), both);
        assert_ne!(with(&both, one, &addresses(&["a:1", "d:1"])), both);
        assert_ne!(with(&both, one, &[]), both);
    }

    #[test]
    fn the_entries_of_one_root_go_and_the_others_stay() {
        let (one, two) = (Utf8Path::new("/home/git/kdk"), Utf8Path::new("/"));
        let entry = |root: &Utf8Path, address: &str| format!("{}{}", owner(root), body(address));
        let text = format!("{HEAD}{}{}{}", entry(one, "a:1"), entry(two, "b:2"), entry(one, "c:3"));
        assert_eq!(without(&text, one), format!("{HEAD}{}", entry(two, "b:2")));
        assert_eq!(without(&without(&text, one), two), HEAD);
        // What others write there stays, and an entry that they changed goes.
        let mine = "\n[[registry]]\nlocation = \"mine.test\"\n";
        let edited = format!("{}{mine}", text.replace("insecure = true", "insecure = false"));
        assert_eq!(without(&without(&edited, one), two), format!("{HEAD}{mine}"));
    }
}
