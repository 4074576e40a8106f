//! An import from its beginning to its end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::PoisonError;

use futures_util::{TryStreamExt as _, stream};

use super::find::Found;
use super::importer::Importer;
use super::options::Event;
use crate::registry::metadata::MetadataError;
use crate::registry::metadata::postgres::bulk::{Part, Since};
use crate::registry::metadata::postgres::import::{Counts, Import, Step};
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::{marks, tree};
use crate::sys::failpoint;

/// Batches that are written at once, while the next is read.
const AT_ONCE: usize = 2;
/// Manifests or tags that one transaction brings at most.
const BATCH: usize = 500;
/// Repositories that one transaction brings at most.
const REPOSITORIES: usize = 200;

impl Importer<'_> {
    /// Takes the database over, where it is not a dry run.
    async fn begin(&self, images: bool, marked: bool) -> Result<Option<Import>, MetadataError> {
        if !self.options.dry_run {
            let is_second = self.options.tags && !self.options.manifests;
            return Ok(Some(self.database.begin_import(images, marked, is_second).await?));
        }
        if images && marked {
            return Err(MetadataError::Import(
                "the import would be refused: the storage says that its metadata are in a database already".to_owned(),
            ));
        }
        Ok(None)
    }

    /// Imports; returns what was brought in, or would be.
    ///
    /// # Errors
    /// When the storage or the database fails, or it is interrupted.
    pub async fn run(mut self) -> Result<Counts, MetadataError> {
        let mut names: Vec<RepoName> = Vec::new();
        for name in tree::holding(&self.driver, "_manifests").await? {
            match name.parse() {
                Ok(name) => names.push(name),
                Err(_) => self.skip(name, "it is not a repository's name"),
            }
        }
        let images = self.options.manifests || self.options.tags;
        let marked = marks::is_database_in_use(&self.driver).await?;
        let import = self.begin(images, marked).await?;
        failpoint::pass("import");
        self.direct = import.as_ref().is_some_and(|import| import.direct);
        self.again = import.as_ref().is_some_and(|import| import.again);
        let tags_are_done = import.as_ref().is_some_and(|import| import.tags_are_done);
        if tags_are_done {
            // An earlier run may have ended in the middle of that.
            marks::move_to_database(&self.driver).await?;
        }
        if !self.options.new_media_types {
            self.types = Some(self.database.media_types().await?);
        }
        let steps = [
            (Step::Manifests, self.options.manifests, "step one: import manifests"),
            (Step::Tags, self.options.tags, "step two: import tags"),
            (Step::Blobs, self.options.blobs, "step three: import blobs"),
        ];
        for (step, _, title) in steps.into_iter().filter(|(_, wanted, _)| *wanted) {
            if step != Step::Blobs && tags_are_done {
                // The registry may have served from the database since.
                continue;
            }
            (self.report)(Event::Step(title));
            if let Some(import) = &import {
                self.database.note_step(import, step, false).await?;
            }
            match step {
                Step::Manifests => self.all_manifests(&names).await?,
                Step::Tags => {
                    self.all_tags(&names).await?;
                    if let Some(import) = &import {
                        // All of it is durable before the storage says where it is.
                        self.database.note_step(import, step, true).await?;
                        failpoint::pass("import");
                        marks::move_to_database(&self.driver).await?;
                        failpoint::pass("import");
                    }
                }
                Step::Blobs => self.other_blobs().await?,
            }
            if let Some(import) = &import {
                self.database.note_step(import, step, true).await?;
            }
        }
        let counts = *self.counts();
        if let Some(import) = import {
            let options = self.options;
            // Blobs alone are brought in again and again, into a database in use.
            let images = tags_are_done || options.tags || !(import.again || options.manifests);
            failpoint::pass("import");
            self.database
                .end_import(import, counts, options.blobs && images, options.statistics)
                .await?;
        }
        Ok(counts)
    }

    /// Reads what repositories have, and writes it, many at once; meanwhile
    /// the next are read.
    async fn each<T>(
        &self,
        names: &[RepoName],
        read: impl AsyncFn(&RepoName) -> Result<(T, usize), MetadataError>,
        write: impl AsyncFn(&[T]) -> Result<(), MetadataError>,
    ) -> Result<(), MetadataError> {
        let (read, write) = (&read, &write);
        let batches = stream::try_unfold(0, |next| async move {
            let (mut batch, mut size, mut last) = (Vec::new(), 0, next);
            while last < names.len() && size < BATCH && batch.len() < REPOSITORIES {
                self.check_stop()?;
                let (found, more) = read(&names[last]).await?;
                batch.push(found);
                size += more;
                last += 1;
                // Reading does not wait for anything; those who write do.
                tokio::task::yield_now().await;
            }
            Ok::<_, MetadataError>((last > next).then_some(((batch, last), last)))
        });
        batches
            .map_ok(|(batch, done)| async move {
                failpoint::pass("import");
                write(&batch).await?;
                failpoint::pass("import");
                (self.report)(Event::Progress {
                    done,
                    total: names.len(),
                });
                Ok(())
            })
            .try_buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    /// Step one.
    async fn all_manifests(&self, names: &[RepoName]) -> Result<(), MetadataError> {
        let recent = match self.options.skip_recent {
            Some(time) if !self.options.dry_run => self.database.finished_within(time).await?,
            _ => HashSet::new(),
        };
        let wanted: Vec<RepoName> = names
            .iter()
            .filter(|name| !recent.contains(name.as_str()))
            .cloned()
            .collect();
        self.each(
            &wanted,
            async |name| {
                let found = self.found(name).await?;
                self.count(&found);
                let size = found.rows.len();
                Ok((found, size))
            },
            async |batch| self.manifests(batch).await,
        )
        .await
    }

    fn count(&self, found: &Found) {
        // Many repositories have the same blobs.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<u64> = found
            .blobs
            .iter()
            .filter(|(digest, _)| seen.insert((*digest).clone()))
            .map(|(_, size)| *size)
            .collect();
        drop(seen);
        let number = |count: usize| i64::try_from(count).unwrap_or_default();
        let mut counts = self.counts();
        counts.repositories += 1;
        counts.manifests += number(found.rows.len());
        counts.untagged += number(found.untagged);
        counts.blobs += number(new.len());
        counts.bytes += i64::try_from(new.iter().sum::<u64>()).unwrap_or_default();
    }

    /// Brings in what was found of repositories.
    async fn manifests(&self, batch: &[Found]) -> Result<(), MetadataError> {
        if self.options.dry_run {
            let of = |found: &Found| {
                let name = found.name.clone();
                found
                    .digests
                    .clone()
                    .into_iter()
                    .map(move |digest| (name.clone(), digest))
            };
            let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
            planned.extend(batch.iter().flat_map(of));
            return Ok(());
        }
        let mut blobs = BTreeMap::new();
        for found in batch {
            blobs.extend(found.blobs.iter().map(|(digest, size)| (digest.clone(), *size)));
        }
        self.database.import_blobs(&blobs).await?;
        let blobs: Vec<Vec<Digest>> = batch
            .iter()
            .map(|found| found.blobs.keys().cloned().collect())
            .collect();
        // All but those whose manifests are too many for one transaction.
        let (small, large): (Vec<_>, Vec<_>) = batch
            .iter()
            .zip(&blobs)
            .partition(|(found, _)| found.rows.len() < BATCH);
        let parts: Vec<Part<'_>> = small
            .iter()
            .map(|(found, blobs)| Part {
                name: &found.name,
                blobs,
                rows: &found.rows,
            })
            .collect();
        self.write(&parts).await?;
        for (found, blobs) in large {
            for (number, rows) in found.rows.chunks(BATCH).enumerate() {
                self.check_stop()?;
                let blobs: &[Digest] = if number == 0 { blobs } else { &[] };
                let name = &found.name;
                self.write(&[Part { name, blobs, rows }]).await?;
            }
        }
        let names: Vec<&RepoName> = batch.iter().map(|found| &found.name).collect();
        self.database.note_finished(&names).await
    }

    /// Writes parts of repositories; what of them cannot be kept is left out.
    async fn write(&self, parts: &[Part<'_>]) -> Result<(), MetadataError> {
        if parts.is_empty() {
            return Ok(());
        }
        let outcome = self.database.import_manifests(parts, self.direct).await;
        if !outcome.as_ref().is_err_and(is_of_one_image) {
            return outcome;
        }
        // One of them cannot be kept: the others can.
        for part in parts {
            let bare = Part { rows: &[], ..*part };
            self.database.import_manifests(&[bare], self.direct).await?;
            for row in part.rows {
                let one = Part {
                    blobs: &[],
                    rows: std::slice::from_ref(row),
                    ..*part
                };
                match self.database.import_manifests(&[one], false).await {
                    Err(error) if is_of_one_image(&error) => {
                        self.skip(format!("{}@{}", part.name, row.digest()), error.to_string());
                    }
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Step two.
    async fn all_tags(&self, names: &[RepoName]) -> Result<(), MetadataError> {
        if self.again {
            self.database.clear_tags(self.direct).await?;
        }
        self.each(
            names,
            async |name| {
                let tags = self.tags_of(name).await?;
                let size = tags.len();
                Ok(((name.clone(), tags), size))
            },
            async |batch| self.tags(batch).await,
        )
        .await
    }

    /// Lets tags of repositories stand for what was brought in.
    async fn tags(&self, batch: &[(RepoName, HashMap<Tag, Since>)]) -> Result<(), MetadataError> {
        let counts: Vec<usize>;
        if self.options.dry_run {
            let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
            let is_there = |name: &RepoName, digest: &Digest| {
                !self.options.manifests || planned.contains(&(name.clone(), digest.clone()))
            };
            let count = |(name, tags): &(RepoName, HashMap<Tag, Since>)| {
                tags.values().filter(|tag| is_there(name, &tag.digest)).count()
            };
            counts = batch.iter().map(count).collect();
        } else {
            // What was pushed after step one, in another run, is not there yet.
            if !self.options.manifests || self.options.skip_recent.is_some() {
                let late = self.late(batch).await?;
                self.manifests(&late).await?;
            }
            counts = self.database.import_tags(batch, self.direct).await?;
        }
        for ((name, tags), count) in batch.iter().zip(counts) {
            if count < tags.len() {
                let left_out = tags.len() - count;
                self.skip(
                    name.to_string(),
                    format!("{left_out} tags of manifests that were left out"),
                );
            }
            self.counts().tags += i64::try_from(count).unwrap_or_default();
        }
        Ok(())
    }

    /// Finds what is to be brought in of repositories that have manifests of
    /// which the database does not know.
    async fn late(&self, batch: &[(RepoName, HashMap<Tag, Since>)]) -> Result<Vec<Found>, MetadataError> {
        let names: Vec<&RepoName> = batch.iter().map(|(name, _)| name).collect();
        let known = self.database.known_manifests(&names).await?;
        let mut late = Vec::new();
        for name in names {
            self.check_stop()?;
            let all = self.revisions(name).await?;
            let is_known = |digest: Digest| known.contains(&(name.to_string(), digest));
            if !all.into_iter().all(is_known) {
                let found = self.found(name).await?;
                self.count(&found);
                late.push(found);
            }
        }
        Ok(late)
    }

    /// Step three: all blobs that are not known yet.
    async fn other_blobs(&self) -> Result<(), MetadataError> {
        let shards = self.blobs.shards().await?;
        let total = shards.len();
        for (number, shard) in shards.iter().enumerate() {
            self.check_stop()?;
            let mut found = BTreeMap::new();
            for digest in self.blobs.digests(shard).await? {
                if let Some(size) = self.blobs.head(&digest).await? {
                    found.insert(digest, size);
                }
            }
            let (new, bytes) = if self.options.dry_run {
                // Those of manifests were counted in the first step.
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                found.retain(|digest, _| !seen.contains(digest));
                let bytes: u64 = found.values().sum();
                (
                    i64::try_from(found.len()).unwrap_or_default(),
                    i64::try_from(bytes).unwrap_or_default(),
                )
            } else {
                self.database.import_blobs(&found).await?
            };
            let mut counts = self.counts();
            counts.blobs += new;
            counts.bytes += bytes;
            (self.report)(Event::Progress {
                done: number + 1,
                total,
            });
        }
        Ok(())
    }
}

/// Says whether an error is about what an image is, not about where it goes.
fn is_of_one_image(error: &MetadataError) -> bool {
    match error {
        MetadataError::MediaType(_) | MetadataError::Missing(_) => true,
        MetadataError::Database(error) => !error.is_unavailable(),
        _ => false,
    }
}
