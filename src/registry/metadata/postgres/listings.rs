//! Pages of names.

use std::collections::HashSet;

use super::client::{Postgres, attempt, page, page_rows, without_nul};
use crate::registry::metadata::{MetadataError, Page};
use crate::registry::oci::RepoName;

const TAGS: &str = "SELECT name FROM tags
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND name > $3 ORDER BY name LIMIT $4";
const REPOSITORIES: &str = "SELECT r.path, r.top_level_namespace_id, r.id FROM repositories AS r
    WHERE r.path > $1 AND r.deleted_at IS NULL ORDER BY r.path LIMIT $2";
/// Those of some repositories that have manifests. By itself: beside a limit of
/// which nothing is known this is planned anew each time, for 64 partitions. In
/// order of the digests: in that of the ids there is an index of all repositories'.
const HOLDING: &str = "SELECT x.r FROM unnest($1::bigint[], $2::bigint[]) AS x(n, r)
    WHERE (SELECT 1 FROM manifests AS m WHERE m.top_level_namespace_id = x.n AND m.repository_id = x.r
        ORDER BY m.digest LIMIT 1) IS NOT NULL";

impl Postgres {
    /// Returns tags after `last`; nothing when there is no such repository.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tags(&self, name: &RepoName, last: Option<&str>, limit: usize) -> Result<Option<Page>, MetadataError> {
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(None);
            };
            let last = without_nul(last);
            let rows = self
                .rows(&client, TAGS, &[&at.namespace, &at.id, &last, &page_rows(limit)])
                .await?;
            Ok(Some(page(&rows, limit)))
        })
    }

    /// Returns repositories after `last`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Page, MetadataError> {
        attempt!(self, client, {
            let mut found = Page::default();
            let mut after: String = without_nul(last).into();
            loop {
                let rows = self.rows(&client, REPOSITORIES, &[&after, &page_rows(limit)]).await?;
                let namespaces: Vec<i64> = rows.iter().map(|row| row.get(1)).collect();
                let ids: Vec<i64> = rows.iter().map(|row| row.get(2)).collect();
                let holding = self.rows(&client, HOLDING, &[&namespaces, &ids]).await?;
                let holding: HashSet<i64> = holding.iter().map(|row| row.get(0)).collect();
                for row in rows.iter().filter(|row| holding.contains(&row.get(2))) {
                    if found.names.len() == limit {
                        found.more = true;
                        return Ok(found);
                    }
                    found.names.push(row.get(0));
                }
                match rows.last() {
                    Some(last) if rows.len() > limit => after = last.get(0),
                    _ => return Ok(found),
                }
            }
        })
    }
}
