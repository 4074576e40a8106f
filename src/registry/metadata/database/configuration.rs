//! Configurations, which rows keep beside their manifests.

use crate::registry::metadata::postgres::manifest_row::{LARGEST_CONFIGURATION, ManifestRow};
use crate::registry::oci::ParsedManifest;
use crate::registry::oci::manifest::Kind;
use crate::registry::storage::{Blobs, StorageError};

/// Makes the row of a manifest, with its configuration.
///
/// # Errors
/// When the storage fails.
pub async fn manifest_row(blobs: &Blobs, parsed: ParsedManifest) -> Result<ManifestRow, StorageError> {
    let configuration = match &parsed.manifest.kind {
        // What the client says of its size may be wrong.
        Kind::Image { config, .. } => match blobs.head(&config.digest).await? {
            Some(size) if size <= LARGEST_CONFIGURATION => blobs.read(&config.digest).await?,
            _ => None,
        },
        Kind::Index { .. } => None,
    };
    Ok(ManifestRow::new(parsed, configuration))
}
