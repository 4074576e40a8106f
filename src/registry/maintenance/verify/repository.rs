//! The links of a repository, and what its manifests refer to.

use std::collections::HashSet;

use super::finding::{Finding, Part};
use super::repair::Repair;
use crate::registry::metadata::Stored;
use crate::registry::metadata::files::links::{Found, Link, State};
use crate::registry::metadata::files::walk::{self, TagPlace};
use crate::registry::oci::manifest::Manifest;
use crate::registry::oci::references::{Holds, Platforms, Required, required};
use crate::registry::oci::{Digest, RepoName};
use crate::registry::storage::{Blobs, Key, StorageError};

/// What to do where nothing here can tell what was lost.
const AGAIN: &str = "push it again, or delete it";

/// A repository while it is checked.
pub struct Repository<'a> {
    repair: &'a Repair<'a>,
    name: &'a RepoName,
    /// Which entries of an index must be there.
    platforms: &'a Platforms,
    /// Blobs that are what their digest says.
    valid: &'a HashSet<Digest>,
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
        valid: &'a HashSet<Digest>,
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
        for tag in walk::tags(self.repair.storage, self.name).await? {
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
        self.valid.contains(digest)
    }

    fn strange(&mut self, links: Vec<(Key, Found)>) {
        for (key, named) in links {
            let detail = match named {
                Found::Names(digest) => format!("points to {digest}, but its path holds no valid digest"),
                Found::Garbled | Found::Nothing => "its path holds no valid digest".to_owned(),
            };
            self.find("leftover", key.to_string(), detail, None);
        }
    }

    async fn layers(&mut self) -> Result<(), StorageError> {
        let storage = self.repair.storage;
        let found = walk::layers(storage, self.name).await?;
        self.strange(found.strange);
        for digest in found.digests {
            let link = Link::layer(self.name, &digest);
            match link.state(storage).await? {
                State::Missing => {}
                State::Corrupt => {
                    let is_stub = link.is_empty(storage).await?;
                    let repaired = if self.is_valid(&digest) {
                        self.repair.link(&link).await?
                    } else {
                        self.repair.discard(link.target()).await?
                    };
                    if !is_stub {
                        let detail = "a layer's link does not name its digest".into();
                        self.find("broken-link", link.key().to_string(), detail, repaired);
                    }
                    if repaired.is_some() && self.is_valid(&digest) {
                        self.layers.insert(digest);
                    }
                }
                State::Valid if self.is_valid(&digest) => drop(self.layers.insert(digest)),
                State::Alias(stored) if self.is_valid(&stored) => drop(self.layers.insert(digest)),
                // A push that was killed leaves as much. What an image needs
                // is found with its manifest.
                State::Valid | State::Alias(_) => drop(self.repair.discard(link.target()).await?),
            }
        }
        Ok(())
    }

    async fn revisions(&mut self) -> Result<(), StorageError> {
        let storage = self.repair.storage;
        let found = walk::revisions(storage, self.name).await?;
        self.strange(found.strange);
        for digest in found.digests {
            let link = Link::revision(self.name, &digest);
            let state = link.state(storage).await?;
            if state == State::Missing {
                continue;
            }
            if state != State::Valid && link.is_empty(storage).await? {
                if self.is_mended(&link, self.is_valid(&digest)).await? {
                    self.manifests.insert(digest);
                }
            } else if !self.is_valid(&digest) {
                // As long as it is known what is missing, nothing that it named is taken for garbage.
                let detail = format!("its link leads to nothing; {AGAIN}");
                self.find("missing-manifest", digest.to_string(), detail, None);
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

    async fn tag(&mut self, place: &TagPlace) -> Result<(), StorageError> {
        let storage = self.repair.storage;
        let current = place.current(storage).await?;
        if place.tag().is_none() {
            let detail = match current {
                Found::Names(digest) => format!("not a tag's name; it stands for {digest}"),
                Found::Garbled | Found::Nothing => "not a tag's name".to_owned(),
            };
            self.find("leftover", place.key().to_string(), detail, None);
            return Ok(());
        }
        match current {
            Found::Names(digest) if self.manifests.contains(&digest) => {}
            Found::Names(digest) if self.is_valid(&digest) => {
                let repaired = self.repair.link(&Link::revision(self.name, &digest)).await?;
                let detail = format!("the link of {digest} is missing");
                self.find("dangling-tag", place.text.clone(), detail, repaired);
                if repaired.is_some() {
                    self.manifests.insert(digest);
                }
            }
            Found::Names(digest) => {
                // What it stands for is in its history, unless it was garbled.
                let history = place.history(storage).await?;
                if history.digests.contains(&digest) {
                    let detail = format!("{digest} does not exist; {AGAIN}");
                    self.find("dangling-tag", place.text.clone(), detail, None);
                } else {
                    self.lost_tag(place, true).await?;
                }
            }
            Found::Garbled | Found::Nothing => self.lost_tag(place, current == Found::Garbled).await?,
        }
        Ok(())
    }

    /// Handles a tag whose link tells nothing: what it stood for may be told
    /// from its history, where there is one entry.
    async fn lost_tag(&mut self, place: &TagPlace, is_garbled: bool) -> Result<(), StorageError> {
        let history = place.history(self.repair.storage).await?;
        let there = history.digests.iter().filter(|digest| self.is_valid(digest)).count();
        let (detail, repaired) = match &history.digests[..] {
            [only] if there == 1 && history.strange.is_empty() => {
                let repaired = self.repair.tag(place, only).await?;
                if repaired.is_some() && self.manifests.insert(only.clone()) {
                    self.repair.link(&Link::revision(self.name, only)).await?;
                }
                (format!("it only ever stood for {only}"), repaired)
            }
            _ if there == 0 && !is_garbled && history.strange.is_empty() => {
                (String::new(), self.repair.discard(place.target()).await?)
            }
            _ => (AGAIN.to_owned(), None),
        };
        // A push or deletion that was killed leaves no link, too.
        if is_garbled {
            let detail = format!("its link is empty or garbled; {detail}");
            self.find("dangling-tag", place.text.clone(), detail, repaired);
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
                // Build caches are indexes of layers.
                let link = if is_index && manifest.names_as_manifest(needed) {
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
