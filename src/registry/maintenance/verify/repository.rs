//! The links of a repository, and what its manifests refer to.

use std::collections::HashSet;

use super::finding::{Finding, Part};
use super::repair::Repair;
use crate::registry::maintenance::collect::digest_key::{DigestKey, key};
use crate::registry::metadata::Stored;
use crate::registry::metadata::files::links::{self, Current, Link, State};
use crate::registry::oci::manifest::Manifest;
use crate::registry::oci::references::{Holds, Platforms, Required, required};
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::{Blobs, StorageError};

/// A repository while it is checked.
pub struct Repository<'a> {
    repair: &'a Repair<'a>,
    name: &'a RepoName,
    /// Which entries of an index must be there.
    platforms: &'a Platforms,
    /// Blobs that are what their digest says.
    valid: &'a HashSet<DigestKey>,
    layers: HashSet<Digest>,
    manifests: HashSet<Digest>,
    part: Part,
}

impl<'a> Repository<'a> {
    /// Begins with a repository.
    pub fn new(
        repair: &'a Repair<'a>,
        name: &'a RepoName,
        platforms: &'a Platforms,
        valid: &'a HashSet<DigestKey>,
    ) -> Self {
        Self {
            repair,
            name,
            platforms,
            valid,
            layers: HashSet::new(),
            manifests: HashSet::new(),
            part: Part::default(),
        }
    }

    /// Checks it.
    ///
    /// # Errors
    /// When the storage cannot be read or mended.
    pub async fn check(mut self) -> Result<Part, StorageError> {
        self.layers().await?;
        self.revisions().await?;
        for tag in links::tag_names(self.repair.storage, self.name).await? {
            self.tag(&tag).await?;
        }
        self.references().await?;
        Ok(self.part)
    }

    fn find(&mut self, problem: &'static str, subject: String, detail: String, repaired: Option<&'static str>) {
        self.part.findings.push(Finding {
            problem,
            repository: Some(self.name.to_string()),
            subject,
            detail,
            repaired,
        });
    }

    fn is_valid(&self, digest: &Digest) -> bool {
        self.valid.contains(&key(digest))
    }

    async fn layers(&mut self) -> Result<(), StorageError> {
        let storage = self.repair.storage;
        for digest in links::layers(storage, self.name).await? {
            let link = Link::layer(self.name, &digest);
            match link.state(storage).await? {
                State::Missing => {}
                State::Corrupt => {
                    let is_stub = link.is_empty(storage).await?;
                    let repaired = self.repair.discard(link.target()).await?;
                    if !is_stub {
                        let detail = "a layer's link does not name its digest".into();
                        self.find("broken-link", link.key().to_string(), detail, repaired);
                    }
                }
                State::Valid if self.is_valid(&digest) => drop(self.layers.insert(digest)),
                // A push that was killed leaves as much. What an image needs
                // is found with its manifest.
                State::Valid => drop(self.repair.discard(link.target()).await?),
            }
        }
        Ok(())
    }

    async fn revisions(&mut self) -> Result<(), StorageError> {
        let storage = self.repair.storage;
        for digest in links::revisions(storage, self.name).await? {
            let link = Link::revision(self.name, &digest);
            let state = link.state(storage).await?;
            if state == State::Missing {
                continue;
            }
            if state == State::Corrupt && link.is_empty(storage).await? {
                if self.is_mended(&link, self.is_valid(&digest)).await? {
                    self.manifests.insert(digest);
                }
            } else if !self.is_valid(&digest) {
                let repaired = self.repair.discard(link.target()).await?;
                let detail = "its link leads to nothing".into();
                self.find("missing-manifest", digest.to_string(), detail, repaired);
            } else if state == State::Valid {
                self.manifests.insert(digest);
            } else {
                let repaired = self.repair.link(&link).await?;
                let detail = "a manifest's link does not name its digest".into();
                self.find("broken-link", link.key().to_string(), detail, repaired);
                if repaired.is_some() {
                    self.manifests.insert(digest);
                }
            }
        }
        Ok(())
    }

    async fn tag(&mut self, text: &str) -> Result<(), StorageError> {
        let Ok(tag) = text.parse::<Tag>() else {
            let subject = format!("{}/{text}", links::tags_prefix(self.name));
            self.find("leftover", subject, "not a tag's name".into(), None);
            return Ok(());
        };
        match links::current(self.repair.storage, self.name, &tag).await? {
            // A push or deletion that was killed leaves as much.
            Current::Missing => drop(self.repair.discard(links::tag(self.name, &tag)).await?),
            Current::Names(digest) if self.manifests.contains(&digest) => {}
            Current::Names(digest) if self.is_valid(&digest) => {
                let repaired = self.repair.link(&Link::revision(self.name, &digest)).await?;
                let detail = format!("the link of {digest} is missing");
                self.find("dangling-tag", text.to_owned(), detail, repaired);
                if repaired.is_some() {
                    self.manifests.insert(digest);
                }
            }
            Current::Names(digest) => {
                let repaired = self.repair.discard(links::current_target(self.name, &tag)).await?;
                let detail = format!("{digest} does not exist");
                self.find("dangling-tag", text.to_owned(), detail, repaired);
            }
            Current::Corrupt => {
                let repaired = self.repair.discard(links::tag(self.name, &tag)).await?;
                let detail = "its link is empty or garbled".into();
                self.find("dangling-tag", text.to_owned(), detail, repaired);
            }
        }
        Ok(())
    }

    async fn references(&mut self) -> Result<(), StorageError> {
        let blobs = Blobs::new(self.repair.storage.clone());
        let manifests: Vec<Digest> = self.manifests.iter().cloned().collect();
        for digest in manifests {
            let Some(content) = blobs.read(&digest).await? else {
                continue;
            };
            self.part.manifests += 1;
            if let Some(manifest) = Stored::new(content).manifest() {
                self.references_of(&digest, &manifest).await?;
            }
        }
        Ok(())
    }

    async fn references_of(&mut self, digest: &Digest, manifest: &Manifest) -> Result<(), StorageError> {
        for Required {
            digest: needed, holds, ..
        } in &required(manifest, self.platforms)
        {
            let is_index = *holds == Holds::Either;
            if self.layers.contains(needed) || (is_index && self.manifests.contains(needed)) {
                continue;
            }
            let (problem, detail, repaired) = if self.is_valid(needed) {
                let link = if is_index {
                    Link::revision(self.name, needed)
                } else {
                    Link::layer(self.name, needed)
                };
                let repaired = self.repair.link(&link).await?;
                (
                    "missing-layer-link",
                    "is stored, but no part of the repository",
                    repaired,
                )
            } else {
                ("missing-blob", "is not stored; push it again", None)
            };
            let detail = format!("named by {digest}, {detail}");
            self.find(problem, needed.to_string(), detail, repaired);
        }
        Ok(())
    }

    /// Gives an empty link what it should say where there is a manifest; says
    /// whether it names that now.
    async fn is_mended(&self, link: &Link, is_valid: bool) -> Result<bool, StorageError> {
        if is_valid {
            return Ok(self.repair.link(link).await?.is_some());
        }
        self.repair.discard(link.target()).await?;
        Ok(false)
    }
}
