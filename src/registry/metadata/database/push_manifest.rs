//! Pushing a manifest.

use super::configuration::manifest_row;
use super::state::InDatabase;
use crate::registry::metadata::postgres::client::attempt;
use crate::registry::metadata::{MetadataError, PutManifest};
use crate::registry::oci::references::{Holds, Required};
use crate::registry::oci::{Digest, RepoName};

impl InDatabase {
    pub(super) async fn push_manifest(&self, name: &RepoName, put: PutManifest<'_>) -> Result<(), MetadataError> {
        let mut row = manifest_row(&self.blobs, put.manifest.clone()).await?;
        row.note_required(put.required.iter().map(|one| &one.digest));
        let _turn = self.rows.turn(name).await?;
        let outcome = attempt!(self.rows, mut client, {
            let (push, missing) = self.rows.begin_manifest(&mut client, name, &row, put).await?;
            self.check_data(put.required, missing).await?;
            push.finish().await
        });
        match outcome {
            // What it refers to was there when it was looked for, and went since.
            Err(MetadataError::Database(error)) if error.is_reference() => {
                let digests: Vec<Digest> = put.required.iter().map(|one| one.digest.clone()).collect();
                Err(MetadataError::Missing(self.rows.missing(name, &digests).await?))
            }
            other => other,
        }
    }

    /// Looks, now that no collection is at work on it, at the data of blobs,
    /// which a collection that was cut off may have removed before their rows
    /// (`missing` are those without any).
    async fn check_data(&self, required: &[Required], mut missing: Vec<Digest>) -> Result<(), MetadataError> {
        let needed = required.iter().filter(|one| one.holds == Holds::Blob);
        for Required { digest, size, .. } in needed {
            if missing.contains(digest) {
                continue;
            }
            match self.blobs.head(digest).await? {
                None => missing.push(digest.clone()),
                Some(stored) if stored != *size => {
                    return Err(MetadataError::WrongSize {
                        digest: digest.clone(),
                        declared: *size,
                        stored,
                    });
                }
                Some(_) => {}
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(MetadataError::Missing(missing))
        }
    }
}
