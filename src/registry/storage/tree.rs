//! Walking the tree of repositories.

use super::driver::{Driver, StorageError};
use super::layout;

/// Returns the names below `repositories/` whose directory holds `entry`,
/// such as `_manifests`, sorted bytewise.
///
/// # Errors
/// Those of the storage.
pub async fn holding<D: Driver>(driver: &D, entry: &str) -> Result<Vec<String>, StorageError> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(group) = open.pop() {
        let directory = if group.is_empty() {
            layout::repositories()
        } else {
            layout::repository(&group)
        };
        for name in driver.list(&directory).await?.unwrap_or_default() {
            if name == entry {
                found.push(group.clone());
            } else if !name.starts_with(['_', '.']) {
                open.push(if group.is_empty() {
                    name
                } else {
                    format!("{group}/{name}")
                });
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}
