//! From link files to the database: GitLab's three steps. (1) Manifests that
//! are tagged, with all that they refer to and all that is attached to them;
//! (2) tags; (3) blobs that nothing refers to, for the collection to remove.
//!
//! Nothing of the files changes. An image that is broken is reported and left
//! out; whatever was done is found done when the import is run again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::postgres::import::{Counts, Step};
use super::postgres::push::ManifestRow;
use super::{Files, Metadata as _, MetadataError, Postgres};
use crate::registry::oci::manifest::Kind;
use crate::registry::oci::{Algorithm, Digest, RepoName, Tag};
use crate::registry::storage::{Blobs, Change, Driver, layout};

/// Repositories that are worked on at once.
const AT_ONCE: usize = 4;
/// Manifests that one transaction brings at most.
const BATCH: usize = 200;

/// Which steps are done, and how.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "any steps may be chosen")]
pub struct Options {
    /// Step one.
    pub manifests: bool,
    /// Step two.
    pub tags: bool,
    /// Step three.
    pub blobs: bool,
    /// Whether nothing is written.
    pub dry_run: bool,
}

/// What an import says while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step begins.
    Step(&'static str),
    /// So many parts of a step are done.
    Progress {
        /// Parts that are done.
        done: usize,
        /// All parts.
        total: usize,
    },
    /// Something is left out.
    Skipped {
        /// What: a repository and a tag or digest.
        what: String,
        /// Why.
        reason: String,
    },
}

/// An import under way.
pub struct Importer<'a, D> {
    files: Files<D>,
    driver: D,
    database: &'a Postgres<D>,
    options: Options,
    stop: &'a CancellationToken,
    report: &'a (dyn Fn(Event) + Sync),
    counts: Mutex<Counts>,
}

/// What a repository's files say.
#[derive(Default)]
struct Found {
    /// In an order in which nothing refers to what comes later.
    rows: Vec<ManifestRow>,
    digests: HashSet<Digest>,
    blobs: BTreeMap<Digest, u64>,
}

impl<'a, D: Driver> Importer<'a, D> {
    /// Prepares an import from a driver's files.
    pub fn new(
        driver: D,
        database: &'a Postgres<D>,
        options: Options,
        stop: &'a CancellationToken,
        report: &'a (dyn Fn(Event) + Sync),
    ) -> Self {
        Self {
            files: Files::new(driver.clone()),
            driver,
            database,
            options,
            stop,
            report,
            counts: Mutex::default(),
        }
    }

    /// Imports; returns what was brought in, or would be.
    ///
    /// # Errors
    /// When the storage or the database fails, or it is interrupted.
    pub async fn run(self) -> Result<Counts, MetadataError> {
        let names: Vec<RepoName> = self
            .files
            .all_repositories()
            .await?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        let import = if self.options.dry_run {
            None
        } else {
            Some(self.database.begin_import().await?)
        };
        let steps = [
            (Step::Manifests, self.options.manifests, "step one: import manifests"),
            (Step::Tags, self.options.tags, "step two: import tags"),
            (Step::Blobs, self.options.blobs, "step three: import blobs"),
        ];
        for (step, _, title) in steps.into_iter().filter(|(_, wanted, _)| *wanted) {
            if step != Step::Blobs && import.as_ref().is_some_and(|import| import.tags_are_done) {
                // The registry may have served from the database since.
                continue;
            }
            (self.report)(Event::Step(title));
            if let Some(import) = &import {
                self.database.note_step(import, step, false).await?;
            }
            match step {
                Step::Manifests => self.each(&names, async |name| self.manifests(name).await).await?,
                Step::Tags => {
                    self.each(&names, async |name| self.tags(name).await).await?;
                    if let Some(import) = &import {
                        // All of it is durable before the storage says where it is.
                        self.database.note_step(import, step, true).await?;
                        self.mark().await?;
                    }
                }
                Step::Blobs => self.blobs().await?,
            }
            if let Some(import) = &import {
                self.database.note_step(import, step, true).await?;
            }
        }
        let counts = *self.counts();
        if let Some(import) = import {
            let whole = self.options.blobs;
            self.database.end_import(import, counts, whole).await?;
        }
        Ok(counts)
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn skip(&self, what: String, reason: impl Into<String>) {
        (self.report)(Event::Skipped {
            what,
            reason: reason.into(),
        });
    }

    fn check_stop(&self) -> Result<(), MetadataError> {
        if self.stop.is_cancelled() {
            return Err(MetadataError::Import(
                "interrupted; what was imported stays: run it again to go on".to_owned(),
            ));
        }
        Ok(())
    }

    /// Works on some repositories at once.
    async fn each(
        &self,
        names: &[RepoName],
        work: impl AsyncFn(&RepoName) -> Result<(), MetadataError>,
    ) -> Result<(), MetadataError> {
        let done = AtomicUsize::new(0);
        let mut all = futures_util::stream::iter(names)
            .map(async |name| {
                self.check_stop()?;
                work(name).await?;
                (self.report)(Event::Progress {
                    done: done.fetch_add(1, Ordering::Relaxed) + 1,
                    total: names.len(),
                });
                Ok::<_, MetadataError>(())
            })
            .buffer_unordered(AT_ONCE);
        while let Some(outcome) = all.next().await {
            outcome?;
        }
        Ok(())
    }

    async fn tags_of(&self, name: &RepoName) -> Result<HashMap<Tag, Digest>, MetadataError> {
        let mut tags = HashMap::new();
        let listing = self.driver.list(&layout::tags(name)).await?;
        for text in listing.iter().flat_map(|names| names.iter()) {
            let Ok(tag) = text.parse::<Tag>() else { continue };
            match self.files.resolve(name, &tag).await? {
                Some(digest) => drop(tags.insert(tag, digest)),
                None => self.skip(format!("{name}:{tag}"), "its link leads to nothing"),
            }
        }
        Ok(tags)
    }

    /// Step one for a repository.
    async fn manifests(&self, name: &RepoName) -> Result<(), MetadataError> {
        let tags = self.tags_of(name).await?;
        let mut found = Found::default();
        let mut wanted: Vec<Digest> = tags.values().cloned().collect();
        wanted.sort();
        wanted.dedup();
        let attached = self.attached(name).await?;
        // What is attached to something that is brought in comes along, and
        // what is attached to that.
        while !wanted.is_empty() {
            let mut next = Vec::new();
            for digest in &wanted {
                let known = found.rows.len();
                self.find(name, digest, &mut found).await?;
                for row in &found.rows[known..] {
                    next.extend(attached.get(row.digest()).into_iter().flatten().cloned());
                }
            }
            next.retain(|digest| !found.digests.contains(digest));
            next.sort();
            next.dedup();
            wanted = next;
        }
        let bytes: u64 = found.blobs.values().sum();
        {
            let mut counts = self.counts();
            counts.repositories += 1;
            counts.manifests += i64::try_from(found.rows.len()).unwrap_or_default();
            counts.blobs += i64::try_from(found.blobs.len()).unwrap_or_default();
            counts.bytes += i64::try_from(bytes).unwrap_or_default();
        }
        if self.options.dry_run {
            return Ok(());
        }
        self.database.import_blobs(&found.blobs).await?;
        let blobs: Vec<Digest> = found.blobs.keys().cloned().collect();
        for (number, rows) in found.rows.chunks(BATCH).enumerate() {
            self.check_stop()?;
            let blobs: &[Digest] = if number == 0 { &blobs } else { &[] };
            let outcome = self.database.import_manifests(name, blobs, rows).await;
            if !outcome.as_ref().is_err_and(is_of_one_image) {
                outcome?;
                continue;
            }
            // One of them cannot be kept: the others can.
            self.database.import_manifests(name, blobs, &[]).await?;
            for row in rows {
                match self
                    .database
                    .import_manifests(name, &[], std::slice::from_ref(row))
                    .await
                {
                    Err(error) if is_of_one_image(&error) => {
                        self.skip(format!("{name}@{}", row.digest()), error.to_string());
                    }
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Returns a repository's manifests that have a subject, by it.
    async fn attached(&self, name: &RepoName) -> Result<HashMap<Digest, Vec<Digest>>, MetadataError> {
        let mut attached: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for algorithm in Algorithm::ALL {
            let path = format!("{}/{}", layout::revisions(name), algorithm.name());
            let listing = self.driver.list(&path).await?;
            for hex in listing.iter().flat_map(|names| names.iter()) {
                self.check_stop()?;
                let Ok(digest) = format!("{}:{hex}", algorithm.name()).parse::<Digest>() else {
                    continue;
                };
                let stored = self.files.manifest(name, &digest).await?;
                if let Some(subject) = stored.and_then(|stored| stored.manifest()?.subject) {
                    attached.entry(subject.digest).or_default().push(digest);
                }
            }
        }
        Ok(attached)
    }

    /// Finds a manifest, and before it all that it refers to. One that is
    /// broken is left out.
    async fn find(&self, name: &RepoName, digest: &Digest, found: &mut Found) -> Result<(), MetadataError> {
        // Those that wait for what they refer to, and whether that was looked for.
        let mut open = vec![(digest.clone(), false)];
        while let Some((digest, ready)) = open.pop() {
            if found.digests.contains(&digest) {
                continue;
            }
            let what = || format!("{name}@{digest}");
            let Some(stored) = self.files.manifest(name, &digest).await? else {
                self.skip(what(), "its content is missing or not what its digest says");
                continue;
            };
            let Some(manifest) = stored.manifest() else {
                self.skip(what(), "it is of a kind that is not supported");
                continue;
            };
            let children: Vec<Digest> = match &manifest.kind {
                Kind::Index { manifests } => manifests.iter().map(|entry| entry.digest.clone()).collect(),
                Kind::Image { .. } => Vec::new(),
            };
            let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
            if !ready {
                open.push((digest.clone(), true));
                for other in children.iter().chain(&subject) {
                    let waits = open.iter().any(|(open, _)| open == other);
                    if !found.digests.contains(other) && !waits && self.files.has_manifest(name, other).await? {
                        open.push((other.clone(), false));
                    }
                }
                continue;
            }
            let row = self.database.manifest_row(&digest, stored.content.clone()).await?;
            let mut sizes = BTreeMap::new();
            let mut missing = None;
            for part in row.blobs_or_entries() {
                let child = row.is_index() && found.digests.contains(&part.digest);
                if child || found.blobs.contains_key(&part.digest) {
                    continue;
                }
                match Blobs::new(self.driver.clone()).stat(&part.digest).await? {
                    // The entry of an index is a blob only when the repository has it as one.
                    Some(_) if row.is_index() && !self.files.has_blob(name, &part.digest).await? => {}
                    Some(stat) => drop(sizes.insert(part.digest.clone(), stat.size)),
                    None if row.is_index() => self.skip(what(), format!("its entry {} is missing", part.digest)),
                    None if !part.urls.is_empty() => {}
                    None => missing = Some(part.digest.clone()),
                }
            }
            if let Some(missing) = missing {
                self.skip(what(), format!("its blob {missing} is missing"));
                continue;
            }
            found.blobs.extend(sizes);
            found.digests.insert(digest);
            found.rows.push(row);
        }
        Ok(())
    }

    /// Step two for a repository.
    async fn tags(&self, name: &RepoName) -> Result<(), MetadataError> {
        let tags = self.tags_of(name).await?;
        let count = if self.options.dry_run {
            tags.len() as u64
        } else {
            self.database.import_tags(name, &tags).await?
        };
        if count < tags.len() as u64 {
            let left_out = tags.len() as u64 - count;
            self.skip(name.to_string(), format!("{left_out} tags of what was left out"));
        }
        self.counts().tags += i64::try_from(count).unwrap_or_default();
        Ok(())
    }

    /// Says in the storage where the metadata are from now on.
    async fn mark(&self) -> Result<(), MetadataError> {
        let mark = Change::Store {
            path: layout::database_in_use(),
            content: bytes::Bytes::from_static(b"{\"version\":1}"),
        };
        self.driver.apply(vec![mark]).await?;
        self.driver.remove(&layout::filesystem_in_use()).await?;
        Ok(())
    }

    /// Step three: all blobs that are not known yet.
    async fn blobs(&self) -> Result<(), MetadataError> {
        for algorithm in Algorithm::ALL {
            let top = format!("{}/{}", layout::blobs(), algorithm.name());
            let shards = self.driver.list(&top).await?.unwrap_or_default();
            let total = shards.len();
            for (number, shard) in shards.iter().enumerate() {
                self.check_stop()?;
                let mut found = BTreeMap::new();
                let names = self.driver.list(&format!("{top}/{shard}")).await?.unwrap_or_default();
                for hex in names.iter() {
                    let Ok(digest) = format!("{}:{hex}", algorithm.name()).parse::<Digest>() else {
                        continue;
                    };
                    if let Some(stat) = Blobs::new(self.driver.clone()).stat(&digest).await? {
                        found.insert(digest, stat.size);
                    }
                }
                if !self.options.dry_run {
                    let new = self.database.import_blobs(&found).await?;
                    self.counts().blobs += i64::try_from(new).unwrap_or_default();
                }
                (self.report)(Event::Progress {
                    done: number + 1,
                    total,
                });
            }
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
