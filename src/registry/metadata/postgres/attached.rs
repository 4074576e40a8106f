//! What is attached to manifests, as GitLab's API lists it.

use super::client::{Postgres, attempt, decode, encode};
use crate::registry::metadata::MetadataError;
use crate::registry::oci::{Digest, RepoName};

/// A manifest that is attached to another.
#[derive(Clone, Debug)]
pub struct Attached {
    /// To which.
    pub subject: Digest,
    /// Its own type, where it names one.
    pub artifact_type: Option<String>,
    /// The type of its configuration, which stands for it otherwise.
    pub config_type: Option<String>,
    /// Its digest.
    pub digest: Digest,
}

impl Attached {
    /// Returns the type that it goes by.
    pub fn kind(&self) -> Option<&str> {
        self.artifact_type.as_deref().or(self.config_type.as_deref())
    }

    /// Says whether it has a type.
    pub fn is_of(&self, wanted: &str) -> bool {
        [&self.artifact_type, &self.config_type].contains(&&Some(wanted.to_owned()))
    }
}

impl Postgres {
    /// Returns what is attached to manifests of a repository.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn attached(&self, name: &RepoName, subjects: &[Digest]) -> Result<Vec<Attached>, MetadataError> {
        let sql = "SELECT s.digest, a.media_type, c.media_type, m.digest FROM manifests AS s
            JOIN manifests AS m ON m.top_level_namespace_id = s.top_level_namespace_id
                AND m.repository_id = s.repository_id AND m.subject_id = s.id
            LEFT JOIN media_types AS a ON a.id = m.artifact_media_type_id
            LEFT JOIN media_types AS c ON c.id = m.configuration_media_type_id
            WHERE s.top_level_namespace_id = $1 AND s.repository_id = $2 AND s.digest = ANY($3) ORDER BY m.id";
        let subjects: Vec<Vec<u8>> = subjects.iter().map(encode).collect();
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(Vec::new());
            };
            let rows = self.rows(&client, sql, &[&at.namespace, &at.id, &subjects]).await?;
            Ok(rows
                .iter()
                .filter_map(|row| {
                    Some(Attached {
                        subject: decode(row, 0)?,
                        artifact_type: row.get(1),
                        config_type: row.get(2),
                        digest: decode(row, 3)?,
                    })
                })
                .collect())
        })
    }
}
