//! Checking a store: every digest, link and reference; and mending what can
//! be mended.
//!
//! Nothing that might still be of use is destroyed: content that is not what
//! its digest says moves to `.kdk/quarantine`, so that the next push brings
//! it whole.

pub mod database;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::SignedDuration;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::registry::gc::collect::{CollectError, Crew};
use crate::registry::gc::mark;
use crate::registry::metadata::Stored;
use crate::registry::oci::manifest::Kind;
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::blobs::{Blobs, Shard};
use crate::registry::storage::{Change, Durability, Key, Storage, StorageError, Target, layout, tree};

use crate::sys::clock::Clock;

/// What is younger may belong to a push under way.
const LEFTOVER_AGE: SignedDuration = SignedDuration::from_hours(1);

/// What is wrong with one thing in a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The kind of problem: `corrupt-blob`, `broken-link`, `dangling-tag`,
    /// `missing-blob`, `missing-layer-link`, `missing-manifest`, `leftover`;
    /// with a database `wrong-size` and `corrupt-manifest`.
    pub problem: &'static str,
    /// The repository, where it concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// What it is about: a digest, a tag or a path.
    pub subject: String,
    /// What exactly is wrong.
    pub detail: String,
    /// What was done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<&'static str>,
}

/// All that was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Blobs whose content was read.
    pub blobs: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// Repositories that were looked through.
    pub repositories: usize,
    /// Manifests that were checked.
    pub manifests: usize,
    /// Whether the metadata are in a database, and were checked there.
    pub in_database: bool,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What one part of the work found.
#[derive(Default)]
struct Part {
    blobs: usize,
    bytes: u64,
    manifests: usize,
    findings: Vec<Finding>,
    good: Vec<mark::Key>,
}

struct Verifier<'a> {
    driver: &'a Storage,
    repair: bool,
}

/// Checks a store: its blobs and, where `in_files` says that its metadata are
/// there, its links. `progress` hears items done and their number.
///
/// # Errors
/// When the storage fails or the work is interrupted.
pub fn verify(
    driver: &Storage,
    handle: &Handle,
    stop: &CancellationToken,
    repair: bool,
    in_files: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Findings, CollectError> {
    if repair && in_files && handle.block_on(driver.head(&layout::database_in_use()))?.is_some() {
        return Err(CollectError::Database);
    }
    if repair {
        // What a repair that was killed has set aside.
        driver
            .settle()
            .map_err(|source| StorageError::new("settle", "", source))?;
    }
    let verifier = Verifier { driver, repair };
    let crew = Crew::new(handle, stop);
    let shards = handle.block_on(Blobs::new(driver.clone()).shards())?;
    let names: Vec<RepoName> = if in_files {
        let found = handle.block_on(tree::holding(driver, "_manifests"))?;
        found.iter().filter_map(|name| name.parse().ok()).collect()
    } else {
        Vec::new()
    };
    let total = shards.len() + names.len();
    let done = AtomicUsize::new(0);
    let told = || progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
    let mut all = Findings {
        repositories: names.len(),
        ..Findings::default()
    };
    let mut good = HashSet::new();
    let parts: Vec<Part> = crew.each(&shards, async |shard| {
        let part = verifier.shard(shard).await?;
        told();
        Ok(part)
    })?;
    for mut part in parts {
        all.blobs += part.blobs;
        all.bytes += part.bytes;
        all.findings.append(&mut part.findings);
        good.extend(part.good);
    }
    let parts: Vec<Part> = crew.each(&names, async |name| {
        let part = verifier.repository(name, &good).await?;
        told();
        Ok(part)
    })?;
    for mut part in parts {
        all.manifests += part.manifests;
        all.findings.append(&mut part.findings);
    }
    if repair {
        // What pushes that were killed left is none of the images'.
        let before = Clock::System.now() - LEFTOVER_AGE;
        handle.block_on(driver.tidy(&layout::registry(), before))?;
        handle.block_on(driver.flush())?;
    }
    all.findings.sort_unstable();
    Ok(all)
}

impl Verifier<'_> {
    /// Reads every blob in a directory.
    async fn shard(&self, shard: &Shard) -> Result<Part, StorageError> {
        let mut part = Part::default();
        for digest in Blobs::new(self.driver.clone()).digests(shard).await? {
            let key = layout::blob_data(&digest);
            // A directory alone is nothing.
            let Some(content) = self.driver.open(&key).await? else {
                continue;
            };
            part.blobs += 1;
            let computed = content
                .digest(digest.algorithm())
                .await
                .map_err(|source| StorageError::new("read", &key, source))?;
            part.bytes += content.size;
            if computed == digest {
                part.good.push(mark::key(&digest));
            } else {
                let repaired = if self.repair {
                    let aside = self.driver.set_aside(vec![key]).await?;
                    if let Err(error) = self.driver.quarantine(&aside, &digest.to_string()).await {
                        self.driver.restore(&aside).await?;
                        return Err(error);
                    }
                    Some("moved to .kdk/quarantine; push it again")
                } else {
                    None
                };
                part.findings.push(Finding {
                    problem: "corrupt-blob",
                    repository: None,
                    subject: digest.to_string(),
                    detail: format!("{} bytes whose digest is {computed}", content.size),
                    repaired,
                });
            }
        }
        Ok(part)
    }

    /// Checks the links of a repository, and what its manifests refer to.
    async fn repository(&self, name: &RepoName, good: &HashSet<mark::Key>) -> Result<Part, StorageError> {
        let mut part = Part::default();
        let mut find = |problem, subject: String, detail: String, repaired| {
            part.findings.push(Finding {
                problem,
                repository: Some(name.to_string()),
                subject,
                detail,
                repaired,
            });
        };
        let is_good = |digest: &Digest| good.contains(&mark::key(digest));
        let mut layers = HashSet::new();
        for digest in mark::digests_below(self.driver, &layout::layers(name)).await? {
            let link = layout::layer_link(name, &digest);
            let state = mark::link(self.driver, &link, &digest).await?;
            if state == mark::Link::Absent {
                continue;
            }
            if state == mark::Link::Broken && self.is_stub(&link).await? {
                self.discard(Target::Object(link)).await?;
            } else if state == mark::Link::Broken {
                let repaired = self.discard(Target::Object(link.clone())).await?;
                find(
                    "broken-link",
                    link.to_string(),
                    "a layer's link does not name its digest".into(),
                    repaired,
                );
            } else if is_good(&digest) {
                layers.insert(digest);
            } else {
                // A push that was killed leaves as much. What an image needs
                // is found with its manifest.
                self.discard(Target::Object(link)).await?;
            }
        }
        let mut manifests = HashSet::new();
        for digest in mark::digests_below(self.driver, &layout::revisions(name)).await? {
            let link = layout::revision_link(name, &digest);
            let state = mark::link(self.driver, &link, &digest).await?;
            if state == mark::Link::Absent {
                continue;
            }
            if state == mark::Link::Broken && self.is_stub(&link).await? {
                if self.is_mended(link, &digest, is_good(&digest)).await? {
                    manifests.insert(digest);
                }
            } else if !is_good(&digest) {
                let repaired = self.discard(Target::Object(link)).await?;
                find(
                    "missing-manifest",
                    digest.to_string(),
                    "its link leads to nothing".into(),
                    repaired,
                );
            } else if state == mark::Link::Good {
                manifests.insert(digest);
            } else {
                let subject = link.to_string();
                let repaired = self.link(link, &digest).await?;
                find(
                    "broken-link",
                    subject,
                    "a manifest's link does not name its digest".into(),
                    repaired,
                );
                if repaired.is_some() {
                    manifests.insert(digest);
                }
            }
        }
        for tag in self
            .driver
            .list(&layout::tags(name))
            .await?
            .iter()
            .flat_map(|tags| tags.iter())
        {
            let Ok(tag) = tag.parse::<Tag>() else {
                find(
                    "leftover",
                    format!("{}/{tag}", layout::tags(name)),
                    "not a tag's name".into(),
                    None,
                );
                continue;
            };
            let current = layout::tag_current_link(name, &tag);
            // A push or deletion that was killed leaves as much.
            let Some(target) = self.driver.get(&current).await? else {
                self.discard(Target::All(layout::tag(name, &tag))).await?;
                continue;
            };
            let target = std::str::from_utf8(&target).ok();
            let target = target.and_then(|text| text.trim().parse::<Digest>().ok());
            match target {
                Some(digest) if manifests.contains(&digest) => {}
                Some(digest) if is_good(&digest) => {
                    let repaired = self.link(layout::revision_link(name, &digest), &digest).await?;
                    find(
                        "dangling-tag",
                        tag.to_string(),
                        format!("the link of {digest} is missing"),
                        repaired,
                    );
                    if repaired.is_some() {
                        manifests.insert(digest);
                    }
                }
                Some(digest) => {
                    let repaired = self.discard(Target::Object(current)).await?;
                    find(
                        "dangling-tag",
                        tag.to_string(),
                        format!("{digest} does not exist"),
                        repaired,
                    );
                }
                None => {
                    let repaired = self.discard(Target::All(layout::tag(name, &tag))).await?;
                    find(
                        "dangling-tag",
                        tag.to_string(),
                        "its link is empty or garbled".into(),
                        repaired,
                    );
                }
            }
        }
        for digest in &manifests {
            let Some(content) = self.driver.get(&layout::blob_data(digest)).await? else {
                continue;
            };
            part.manifests += 1;
            let Some(manifest) = Stored::new(content).manifest() else {
                continue;
            };
            let (needed, index) = match &manifest.kind {
                Kind::Image { config, layers } => (
                    std::iter::once(config)
                        .chain(layers.iter().filter(|layer| layer.urls.is_empty()))
                        .collect::<Vec<_>>(),
                    false,
                ),
                Kind::Index { manifests } => (manifests.iter().collect(), true),
            };
            for needed in needed.iter().map(|descriptor| &descriptor.digest) {
                if layers.contains(needed) || (index && manifests.contains(needed)) {
                    continue;
                }
                let (problem, detail, repaired) = if is_good(needed) {
                    let link = if index {
                        layout::revision_link(name, needed)
                    } else {
                        layout::layer_link(name, needed)
                    };
                    (
                        "missing-layer-link",
                        "is stored, but no part of the repository",
                        self.link(link, needed).await?,
                    )
                } else {
                    ("missing-blob", "is not stored; push it again", None)
                };
                part.findings.push(Finding {
                    problem,
                    repository: Some(name.to_string()),
                    subject: needed.to_string(),
                    detail: format!("named by {digest}, {detail}"),
                    repaired,
                });
            }
        }
        Ok(part)
    }

    /// Gives an empty link what it should say where there is a manifest; says
    /// whether it names that now.
    async fn is_mended(&self, link: Key, digest: &Digest, is_good: bool) -> Result<bool, StorageError> {
        if is_good {
            return Ok(self.link(link, digest).await?.is_some());
        }
        self.discard(Target::Object(link)).await?;
        Ok(false)
    }

    /// Says whether a link is empty: a push that was killed in between leaves
    /// as much, and it reads as absent.
    async fn is_stub(&self, link: &Key) -> Result<bool, StorageError> {
        Ok(self.driver.head(link).await? == Some(0))
    }

    async fn discard(&self, target: Target) -> Result<Option<&'static str>, StorageError> {
        if !self.repair {
            return Ok(None);
        }
        self.driver.delete(vec![target], Durability::Volatile).await?;
        Ok(Some("removed"))
    }

    async fn link(&self, key: Key, digest: &Digest) -> Result<Option<&'static str>, StorageError> {
        if !self.repair {
            return Ok(None);
        }
        let change = Change::PutVerified {
            key,
            content: Bytes::from(digest.to_string()),
        };
        self.driver.commit(vec![change], Durability::Durable).await?;
        Ok(Some("linked"))
    }
}
