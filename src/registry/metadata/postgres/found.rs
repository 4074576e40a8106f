//! Finding repositories, for all who ask at the same time at once.

use std::collections::HashMap;

use super::client::{Postgres, attempt};
use super::finder::Look;
use super::repository::Repository;
use crate::registry::metadata::MetadataError;
use crate::registry::oci::RepoName;

const FIND_ALL: &str = "SELECT path, top_level_namespace_id, id,
        (SELECT version FROM kdk.repository_versions WHERE repository_id = id)
    FROM repositories WHERE path = ANY($1) AND deleted_at IS NULL";

impl Postgres {
    /// Finds a repository, together with others where that can be.
    pub(super) async fn found(&self, name: &RepoName) -> Result<Option<Repository>, MetadataError> {
        if self.database.has_versions() {
            let (outcome, look) = self.finder.wait(name.as_str());
            if let Some(look) = look {
                crate::sys::task::spawn(self.clone().look(look));
            }
            if let Ok(outcome) = outcome.await {
                return Ok(outcome?);
            }
        }
        attempt!(self, client, self.repository(&client, name).await)
    }

    /// Looks until nobody waits.
    async fn look(self, mut look: Look) {
        while let Some(waiting) = look.take() {
            let paths: Vec<&str> = waiting.keys().map(String::as_str).collect();
            let found = self.database.within(self.find_all(&paths)).await;
            for (path, senders) in waiting {
                for sender in senders {
                    // Who does not wait any more needs no answer.
                    match &found {
                        Ok(found) => drop(sender.send(Ok(found.get(&path).copied()))),
                        Err(MetadataError::Database(error)) => {
                            if let Some(error) = error.for_another() {
                                let _ = sender.send(Err(error));
                            }
                        }
                        Err(_) => {}
                    }
                }
            }
        }
    }

    async fn find_all(&self, paths: &[&str]) -> Result<HashMap<String, Repository>, MetadataError> {
        let client = self.database.client().await?;
        let connections = self.database.connections_made();
        let rows = self.rows(&client, FIND_ALL, &[&paths]).await?;
        let found = rows.iter().map(|row| {
            let at = Repository {
                namespace: row.get(1),
                id: row.get(2),
                version: row.get::<_, Option<i64>>(3).map(|version| (version, connections)),
            };
            (row.get(0), at)
        });
        Ok(found.collect())
    }
}
