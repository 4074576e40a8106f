//! Pages of tags with what they stand for, forwards and backwards.

use jiff::Timestamp;
use tokio_postgres::types::ToSql;

use super::client::{Postgres, attempt, page_rows};
use super::gitlab::{COLUMNS, FROM, TagDetails, tag};
use crate::registry::metadata::MetadataError;
use crate::registry::oci::RepoName;

/// By what tags are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// By time of publication; else by name.
    pub by_time: bool,
    /// The last first.
    pub descending: bool,
}

/// A place in a list of tags: before or after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Name of a tag, which need not exist.
    pub name: String,
    /// Its time of publication, when that is what tags are sorted by.
    pub time: Option<Timestamp>,
}

/// Which tags are asked for.
#[derive(Clone, Debug)]
pub struct Query {
    /// A part of their names, or all of it.
    pub name: Option<(String, bool)>,
    /// Their order.
    pub order: Order,
    /// Where the page begins, or ends.
    pub from: Option<(Marker, bool)>,
    /// Tags of a page.
    pub limit: usize,
}

/// A page of tags.
#[derive(Clone, Debug, Default)]
pub struct TagPage {
    /// The tags.
    pub tags: Vec<TagDetails>,
    /// Whether there are some before.
    pub before: bool,
    /// Whether there are some after.
    pub after: bool,
}

/// Writes what of a name is to be found as a pattern for LIKE.
fn pattern(part: &str) -> String {
    let mut pattern = String::from("%");
    for letter in part.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

fn micros(time: Option<Timestamp>) -> i64 {
    time.map_or(0, Timestamp::as_microsecond)
}

impl Query {
    /// Returns what is looked for, as `$3`.
    fn wanted(&self) -> Option<String> {
        let (text, exact) = self.name.as_ref()?;
        Some(if *exact { text.clone() } else { pattern(text) })
    }

    /// Returns the condition that a name meets.
    fn filter(&self) -> &'static str {
        match &self.name {
            None => "AND $3::text IS NULL",
            Some((_, true)) => "AND t.name = $3",
            Some((_, false)) => "AND t.name LIKE $3",
        }
    }

    /// Says whether names rise in a direction.
    fn rises(&self, forward: bool) -> bool {
        forward != self.order.descending
    }

    /// Returns the order of a direction, nearest first.
    fn ordered(&self, forward: bool) -> String {
        let direction = if self.rises(forward) { "ASC" } else { "DESC" };
        if self.order.by_time {
            format!("coalesce(t.updated_at, t.created_at) {direction}, t.name {direction}")
        } else {
            format!("t.name {direction}")
        }
    }

    /// Returns the condition that all on one side of a marker meet, whose name
    /// and time are `$4` and `$5`.
    fn beyond(&self, forward: bool, with_time: bool) -> String {
        let compare = if self.rises(forward) { ">" } else { "<" };
        let (key, marker) = if with_time {
            (
                "(date_trunc('microseconds', coalesce(t.updated_at, t.created_at)), t.name)",
                "(to_timestamp($5::bigint / 1000000) + make_interval(secs => ($5::bigint % 1000000) / 1000000.0), $4::text)",
            )
        } else {
            ("t.name", "$4::text")
        };
        format!("AND {key} {compare} {marker} AND $5::bigint IS NOT NULL")
    }
}

impl Postgres {
    /// Returns a page of tags; nothing when there is no such repository.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tag_page(&self, name: &RepoName, query: &Query) -> Result<Option<TagPage>, MetadataError> {
        let limit = page_rows(query.limit);
        let (wanted, filter) = (query.wanted(), query.filter());
        let forward = query.from.as_ref().is_none_or(|(_, forward)| *forward);
        let order = query.ordered(forward);
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(None);
            };
            let rows = match &query.from {
                None => {
                    let sql = format!("SELECT {COLUMNS} {FROM} {filter} ORDER BY {order} LIMIT $4");
                    let parameters: [&(dyn ToSql + Sync); 4] = [&at.namespace, &at.id, &wanted, &limit];
                    self.rows(&client, &sql, &parameters).await?
                }
                Some((from, _)) => {
                    let beyond = query.beyond(forward, from.time.is_some());
                    let sql = format!("SELECT {COLUMNS} {FROM} {filter} {beyond} ORDER BY {order} LIMIT $6");
                    let parameters: [&(dyn ToSql + Sync); 6] =
                        [&at.namespace, &at.id, &wanted, &from.name, &micros(from.time), &limit];
                    self.rows(&client, &sql, &parameters).await?
                }
            };
            let more = rows.len() > query.limit;
            let mut tags: Vec<TagDetails> = rows.iter().take(query.limit).map(tag).collect();
            if !forward {
                tags.reverse();
            }
            // Whether there are others on the side that the page was come from.
            let edge = if forward { tags.first() } else { tags.last() };
            let behind = match edge.filter(|_| query.from.is_some()) {
                Some(edge) => {
                    let beyond = query.beyond(!forward, query.order.by_time);
                    let sql = format!("SELECT {FROM} {filter} {beyond} LIMIT 1");
                    let parameters: [&(dyn ToSql + Sync); 5] =
                        [&at.namespace, &at.id, &wanted, &edge.name, &micros(edge.published_at)];
                    self.row(&client, &sql, &parameters).await?.is_some()
                }
                None => false,
            };
            let (before, after) = if forward { (behind, more) } else { (more, behind) };
            Ok(Some(TagPage { tags, before, after }))
        })
    }
}
