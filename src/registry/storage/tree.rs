//! Walking the tree of repositories.

use super::dispatch::Storage;
use super::error::StorageError;
use super::key::Prefix;
use super::layout;
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
        for name in driver.list(&directory).await?.iter().flat_map(|names| names.iter()) {
            if name == entry {
                found.push(group.clone());
            } else if !name.starts_with(['_', '.']) {
                open.push(join(&group, name));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Returns up to `limit` of the names that [`holding`] finds, after `last`,
/// looking only where they can be.
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
    // What is still to be looked at, the next on top: names of repositories,
    // and with a slash at the end all that is below one. So the order is that
    // of the full names: `a-b` comes between `a` and `a/b`.
    let mut open = vec![String::from("/")];
    while let Some(next) = open.pop() {
        let Some(group) = next.strip_suffix('/') else {
            // Its directory is listed again from memory when what is below it follows.
            let names = driver.list(&layout::repository(&next)).await?;
            let holds = names.is_some_and(|names| names.binary_search_by(|name| name.as_str().cmp(entry)).is_ok());
            if holds && next.as_str() > last && next.parse::<RepoName>().is_ok() {
                found.push(next);
                if found.len() == limit {
                    break;
                }
            }
            continue;
        };
        let directory = if group.is_empty() {
            layout::repositories()
        } else {
            layout::repository(group)
        };
        let Some(names) = driver.list(&directory).await? else {
            continue;
        };
        let mut below: Vec<String> = names
            .iter()
            .filter(|name| !name.starts_with(['_', '.']))
            .map(|name| join(group, name))
            .flat_map(|name| [format!("{name}/"), name])
            // All below a group sorts after `group/` and before `group0`.
            .filter(|name| name.as_str() > last || last.starts_with(name.as_str()))
            .collect();
        below.sort_unstable_by(|a, b| b.cmp(a));
        open.append(&mut below);
    }
    Ok(found)
}

/// Joins a group's name, which may be empty, and a name in it.
pub fn join(group: &str, name: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{group}/{name}")
    }
}
