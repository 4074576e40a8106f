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
use serde::Serialize;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::registry::gc::collect::{self, CollectError, Crew};
use crate::registry::gc::mark;
use crate::registry::metadata::Stored;
use crate::registry::oci::manifest::Kind;
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::{Change, Storage, StorageError, layout, tree};

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
    if repair && in_files && handle.block_on(driver.stat(&layout::database_in_use()))?.is_some() {
        return Err(CollectError::Database);
    }
    let verifier = Verifier { driver, repair };
    let crew = Crew::new(handle, stop);
    let shards = handle.block_on(collect::shards(driver))?;
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
        handle.block_on(driver.flush())?;
    }
    all.findings.sort_unstable();
    Ok(all)
}

impl Verifier<'_> {
    /// Reads every blob in a directory.
    async fn shard(&self, shard: &(crate::registry::oci::Algorithm, String)) -> Result<Part, StorageError> {
        let mut part = Part::default();
        for digest in collect::blobs_in(self.driver, shard).await? {
            let path = layout::blob_data(&digest);
            let Some(content) = self.driver.open(&path).await? else {
                part.findings.push(Finding {
                    problem: "leftover",
                    repository: None,
                    subject: digest.to_string(),
                    detail: "a blob's directory without data".into(),
                    repaired: self.discard(&layout::blob(&digest), &layout::blobs()).await?,
                });
                continue;
            };
            self.temporary(&layout::blob(&digest), &mut part).await?;
            part.blobs += 1;
            let computed = content
                .digest(digest.algorithm())
                .await
                .map_err(|source| StorageError {
                    action: "read",
                    path: path.clone(),
                    source,
                })?;
            part.bytes += content.size;
            if computed == digest {
                part.good.push(mark::key(&digest));
            } else {
                let repaired = if self.repair {
                    self.driver.quarantine(&path, &digest.to_string()).await?;
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
        let mut left = Part::default();
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
            if state == mark::Link::Broken {
                let repaired = self.discard(&link, &layout::layers(name)).await?;
                find(
                    "broken-link",
                    link,
                    "a layer's link does not name its digest".into(),
                    repaired,
                );
            } else if is_good(&digest) {
                layers.insert(digest);
            } else {
                let repaired = self.discard(&link, &layout::layers(name)).await?;
                find(
                    "missing-blob",
                    digest.to_string(),
                    "a layer's link leads to nothing".into(),
                    repaired,
                );
            }
        }
        let mut manifests = HashSet::new();
        for digest in mark::digests_below(self.driver, &layout::revisions(name)).await? {
            let link = layout::revision_link(name, &digest);
            let state = mark::link(self.driver, &link, &digest).await?;
            if state == mark::Link::Absent {
                continue;
            }
            if !is_good(&digest) {
                let repaired = self.discard(&link, &layout::revisions(name)).await?;
                find(
                    "missing-manifest",
                    digest.to_string(),
                    "its link leads to nothing".into(),
                    repaired,
                );
            } else if state == mark::Link::Good {
                manifests.insert(digest);
            } else {
                let repaired = self.link(&link, &digest).await?;
                find(
                    "broken-link",
                    link,
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
            self.temporary(&format!("{}/current", layout::tag(name, &tag)), &mut left)
                .await?;
            let current = layout::tag_current_link(name, &tag);
            let target = self.driver.read(&current).await?;
            let target = target.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse::<Digest>().ok());
            match target {
                Some(digest) if manifests.contains(&digest) => {}
                Some(digest) if is_good(&digest) => {
                    let repaired = self.link(&layout::revision_link(name, &digest), &digest).await?;
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
                    let repaired = self.discard(&current, &layout::tags(name)).await?;
                    find(
                        "dangling-tag",
                        tag.to_string(),
                        format!("{digest} does not exist"),
                        repaired,
                    );
                }
                None => {
                    let repaired = self.discard(&layout::tag(name, &tag), &layout::tags(name)).await?;
                    find(
                        "dangling-tag",
                        tag.to_string(),
                        "its link is empty, garbled or missing".into(),
                        repaired,
                    );
                }
            }
        }
        part.findings.append(&mut left.findings);
        for digest in &manifests {
            let Some(content) = self.driver.read(&layout::blob_data(digest)).await? else {
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
                        self.link(&link, needed).await?,
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

    /// Finds temporary files that a crash left in a directory.
    async fn temporary(&self, directory: &str, part: &mut Part) -> Result<(), StorageError> {
        let names = self.driver.list(directory).await?;
        for name in names
            .iter()
            .flat_map(|names| names.iter())
            .filter(|name| name.ends_with(".tmp"))
        {
            let path = format!("{directory}/{name}");
            part.findings.push(Finding {
                problem: "leftover",
                repository: None,
                repaired: self.discard(&path, directory).await?,
                subject: path,
                detail: "a temporary file".into(),
            });
        }
        Ok(())
    }

    async fn discard(&self, path: &str, keep: &str) -> Result<Option<&'static str>, StorageError> {
        if !self.repair {
            return Ok(None);
        }
        self.driver.discard(path, keep).await?;
        Ok(Some("removed"))
    }

    async fn link(&self, path: &str, digest: &Digest) -> Result<Option<&'static str>, StorageError> {
        if !self.repair {
            return Ok(None);
        }
        let change = Change::Prove {
            path: path.to_owned(),
            content: Bytes::from(digest.to_string()),
        };
        self.driver.apply(vec![change]).await?;
        Ok(Some("linked"))
    }
}
