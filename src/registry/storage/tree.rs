//! Walking the tree of repositories.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::dispatch::Storage;
use super::error::StorageError;
use super::key::Prefix;
use super::layout;
use super::names::Names;
use crate::registry::oci::RepoName;

/// Returns all that a registry keeps of images.
pub fn everything() -> Prefix {
    layout::registry()
}

/// Returns the names below `repositories/` whose directory holds `entry`,
/// such as `_manifests`, sorted bytewise.
///
/// # Errors
/// Those of the storage.
pub async fn holding(driver: &Storage, entry: &str) -> Result<Vec<String>, StorageError> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(group) = open.pop() {
        let directory = if group.is_empty() {
            layout::repositories()
        } else {
            layout::repository(&group)
        };
        for name in driver.list(&directory).await?.iter().flat_map(Names::iter) {
            if name == entry {
                found.push(group.clone());
            } else if is_name(name) {
                open.push(join(&group, name));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Returns up to `limit` of the names that [`holding`] finds, after `last`,
/// looking only where they can be: what comes before, and what would follow,
/// costs nothing but the listing of its directory.
///
/// # Errors
/// Those of the storage.
pub async fn holding_after(
    driver: &Storage,
    entry: &str,
    last: &str,
    limit: usize,
) -> Result<Vec<String>, StorageError> {
    let mut found = Vec::new();
    let names = driver.list(&layout::repositories()).await?;
    let mut open: Vec<Level> = names.map(|names| Level::new("", names, last)).into_iter().collect();
    while let Some(level) = open.last_mut() {
        match level.next() {
            None => drop(open.pop()),
            Some(Next::Below(group)) => {
                let names = driver.list(&layout::repository(&group)).await?;
                open.extend(names.map(|names| Level::new(&group, names, last)));
            }
            Some(Next::Name(name)) => {
                // Its directory is listed again from memory when what is below it follows.
                let names = driver.list(&layout::repository(&name)).await?;
                let holds = names.is_some_and(|names| names.contains(entry));
                if holds && name.parse::<RepoName>().is_ok() {
                    found.push(name);
                    if found.len() == limit {
                        break;
                    }
                }
            }
        }
    }
    Ok(found)
}

/// What is still to be looked at of a directory of names, in the order of the
/// full names: `a-b` comes between `a` and what is below it, `a/b`.
struct Level {
    group: String,
    names: Names,
    at: usize,
    /// Those of which all that is below them follows, each with a slash at its end.
    below: BinaryHeap<Reverse<String>>,
}

enum Next {
    Name(String),
    Below(String),
}

impl Level {
    /// Begins with what comes after `last`.
    fn new(group: &str, names: Names, last: &str) -> Self {
        let at = names.partition_point(|name| join(group, name).as_str() <= last);
        // Of the names before, only such can be followed by what is below them
        // that are the beginning of `last`.
        let own = join(group, "");
        let rest = last.strip_prefix(own.as_str()).unwrap_or_default();
        let below = rest.char_indices().map(|(at, letter)| &rest[..at + letter.len_utf8()]);
        let below = below
            .filter(|name| names.contains(name))
            .filter(|name| is_name(name))
            .map(|name| format!("{own}{name}/"))
            .filter(|below| below.as_str() > last || last.starts_with(below.as_str()))
            .map(Reverse)
            .collect();
        Self {
            group: group.to_owned(),
            names,
            at,
            below,
        }
    }

    fn next(&mut self) -> Option<Next> {
        while self.names.get(self.at).is_some_and(|name| !is_name(name)) {
            self.at += 1;
        }
        let name = self.names.get(self.at).map(|name| join(&self.group, name));
        match (name, self.below.peek()) {
            (Some(name), below) if below.is_none_or(|Reverse(below)| name < *below) => {
                self.at += 1;
                self.below.push(Reverse(format!("{name}/")));
                Some(Next::Name(name))
            }
            (_, Some(_)) => {
                let Reverse(below) = self.below.pop()?;
                Some(Next::Below(below.trim_end_matches('/').to_owned()))
            }
            (_, None) => None,
        }
    }
}

/// Says whether a directory may be a repository's, or a group of them.
fn is_name(name: &str) -> bool {
    !name.starts_with(['_', '.'])
}

/// Joins a group's name, which may be empty, and a name in it.
pub fn join(group: &str, name: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{group}/{name}")
    }
}
