//! The marking: what is alive in one repository.
//!
//! Alive are, without deletion of untagged manifests, all manifests; with it
//! those that a tag stands for, those that are young, and whatever belongs to
//! a live one: the entries of an index, the subject of an artifact, and the
//! artifacts (signatures, attestations) whose subject is alive. Everything
//! that a live manifest names is kept, in every repository.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::graph::{Node, reachable, topological_order};
use crate::registry::metadata::Stored;
use crate::registry::metadata::files::links::{Found, Link, State};
use crate::registry::metadata::files::walk::{self, TagPlace};
use crate::registry::oci::manifest::{Descriptor, Kind};
use crate::registry::oci::{Algorithm, Digest, RepoName, media_type};
use crate::registry::storage::{Blobs, Key, Storage, StorageError};

/// What the marking found in one repository.
#[derive(Debug, Default)]
pub struct Marked {
    /// Live manifests, and what each names.
    pub live: Vec<(Digest, Vec<Digest>)>,
    /// Manifests to delete, each before those that it names: what names a
    /// manifest that is gone is gone itself, at every moment.
    pub dead: Vec<UnreferencedManifest>,
    /// Manifests without a tag that are only too young to go.
    pub young: usize,
    /// Things that are not as they should be, and do no harm.
    pub warnings: Vec<String>,
    /// Things that named something, nobody knows any more what.
    pub damaged: Vec<String>,
}

/// A manifest that nothing keeps alive.
#[derive(Clone, Debug)]
pub struct UnreferencedManifest {
    /// Its repository.
    pub name: RepoName,
    /// Its digest.
    pub digest: Digest,
    /// Links in tags' histories that name it.
    pub history: Vec<Link>,
    /// What it names.
    pub references: Vec<Digest>,
    /// What it is attached to.
    pub subject: Option<Digest>,
}

impl UnreferencedManifest {
    /// Returns the link that makes it part of its repository.
    pub fn link(&self) -> Link {
        Link::revision(&self.name, &self.digest)
    }
}

/// More bytes than any manifest has.
const LARGEST: u64 = 64 << 20;

/// How to mark.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Whether manifests without a tag may go.
    pub delete_untagged: bool,
    /// What was changed since is kept.
    pub cutoff: Timestamp,
}

/// Returns what a stored manifest belongs to.
///
/// Of what is not understood everything is taken that looks like a digest:
/// too much is kept rather than too little.
fn node(stored: &Stored) -> Node {
    let Some(manifest) = stored.manifest() else {
        return Node {
            references: digests_in(&stored.content),
            ..Node::default()
        };
    };
    let entries = match &manifest.kind {
        Kind::Index { manifests } => manifests.as_slice(),
        Kind::Image { .. } => &[],
    };
    // Build caches are indexes of layers, which are not read.
    let is_manifest = |entry: &&Descriptor| media_type::is_manifest(&entry.media_type);
    Node {
        references: manifest.references().cloned().collect(),
        entries: entries
            .iter()
            .filter(is_manifest)
            .map(|entry| entry.digest.clone())
            .collect(),
        is_attached: manifest.subject.is_some(),
    }
}

/// Finds everything that looks like a digest.
fn digests_in(content: &[u8]) -> Vec<Digest> {
    let text = String::from_utf8_lossy(content);
    let mut found = Vec::new();
    for algorithm in Algorithm::ALL {
        let prefix = format!("{}:", algorithm.name());
        found.extend(text.match_indices(&prefix).filter_map(|(at, _)| {
            let end = at + prefix.len() + algorithm.hex_len();
            text.get(at..end)?.parse::<Digest>().ok()
        }));
    }
    found
}

/// What is stored of a manifest.
enum Content {
    /// All of it.
    Whole(Node),
    /// Something else.
    Wrong,
    /// Nothing.
    Missing,
}

async fn read_whole(driver: &Storage, digest: &Digest) -> Result<Content, StorageError> {
    Ok(match Blobs::new(driver.clone()).read(digest).await? {
        Some(content) if Digest::of(digest.algorithm(), &content) == *digest => {
            Content::Whole(node(&Stored::new(content)))
        }
        Some(_) => Content::Wrong,
        None => Content::Missing,
    })
}

/// A repository while it is marked.
struct Marking<'a> {
    storage: &'a Storage,
    name: &'a RepoName,
    rule: Rule,
    nodes: HashMap<Digest, Node>,
    /// Manifests within grace.
    young: HashSet<Digest>,
    /// Where what is reachable begins.
    roots: Vec<Digest>,
    marked: Marked,
}

/// Marks one repository.
///
/// # Errors
/// When the storage cannot be read: what cannot be read may be alive.
pub async fn repository(storage: &Storage, name: &RepoName, rule: Rule) -> Result<Marked, StorageError> {
    let mut marking = Marking {
        storage,
        name,
        rule,
        nodes: HashMap::new(),
        young: HashSet::new(),
        roots: Vec::new(),
        marked: Marked::default(),
    };
    marking.revisions().await?;
    let tags = walk::tags(storage, name).await?;
    for tag in &tags {
        marking.tag(tag).await?;
    }
    marking.end(&tags).await
}

impl Marking<'_> {
    fn warn(&mut self, message: String) {
        self.marked.warnings.push(message);
    }

    fn damage(&mut self, message: String) {
        self.marked.damaged.push(message);
    }

    /// Reads the manifests that belong to the repository.
    async fn revisions(&mut self) -> Result<(), StorageError> {
        let (storage, name) = (self.storage, self.name);
        let found = walk::revisions(storage, name).await?;
        self.strange(found.strange).await?;
        for digest in found.digests {
            let link = Link::revision(name, &digest);
            let state = link.state(storage).await?;
            if state == State::Missing {
                continue;
            }
            if state != State::Valid {
                self.warn(format!("{} does not name its manifest", link.key()));
                self.roots.push(digest.clone());
            }
            if self.rule.delete_untagged && link.is_used_since(storage, self.rule.cutoff).await? {
                self.young.insert(digest.clone());
            }
            match read_whole(storage, &digest).await? {
                Content::Whole(node) => drop(self.nodes.insert(digest, node)),
                Content::Wrong => self.damage(format!("the manifest {digest} in {name} is not what its digest says")),
                // A link that never was whole, of a push that a power loss cut off.
                Content::Missing if state != State::Valid => {}
                Content::Missing => self.damage(format!("the manifest {digest} in {name} is missing")),
            }
        }
        Ok(())
    }

    /// Takes what links under names that are no digests' lead to as roots.
    async fn strange(&mut self, links: Vec<(Key, Found)>) -> Result<(), StorageError> {
        for (place, named) in links {
            match named {
                Found::Names(digest) if self.know(&digest).await? => {
                    self.warn(format!(
                        "{place} is not at the path of a valid digest; what it names is kept"
                    ));
                    self.roots.push(digest);
                }
                _ => self.damage(format!(
                    "{place} is not at the path of a valid digest, and names nothing that is there"
                )),
            }
        }
        Ok(())
    }

    /// Says whether a manifest is stored, and knows it from then on.
    async fn know(&mut self, digest: &Digest) -> Result<bool, StorageError> {
        if !self.nodes.contains_key(digest) {
            // What a damaged link names may be anything.
            let size = Blobs::new(self.storage.clone()).head(digest).await?;
            if size.is_none_or(|size| size > LARGEST) {
                return Ok(false);
            }
            let Content::Whole(node) = read_whole(self.storage, digest).await? else {
                return Ok(false);
            };
            self.nodes.insert(digest.clone(), node);
        }
        Ok(true)
    }

    /// Takes what a tag stands for as a root.
    async fn tag(&mut self, tag: &TagPlace) -> Result<(), StorageError> {
        let (storage, name) = (self.storage, self.name);
        let text = &tag.text;
        let current = tag.current(storage).await?;
        if tag.tag().is_none() && current != Found::Nothing {
            self.warn(format!(
                "{} is not at the path of a valid tag; what it names is kept",
                tag.key()
            ));
        }
        match current {
            Found::Names(digest) => {
                let was_known = self.nodes.contains_key(&digest);
                if !self.know(&digest).await? {
                    self.damage(format!(
                        "the tag {name}:{text} names {digest}, which is missing or not what its digest says"
                    ));
                } else if !was_known && tag.is_own_link_lost(storage, name, &digest).await? {
                    // It names it once more when it is mended.
                    self.warn(format!(
                        "the tag {name}:{text} names {digest}, whose own link is missing"
                    ));
                }
                if self.rule.delete_untagged && !tag.once_was(storage, &digest).await? {
                    // It never was moved there: perhaps it stood for something else.
                    let before = self.roots.len();
                    let history = tag.history(storage).await?;
                    for past in history.digests {
                        if past != digest && self.know(&past).await? {
                            self.roots.push(past);
                        }
                    }
                    if self.roots.len() > before {
                        self.warn(format!(
                            "{} names {digest}, which is not in the tag's history; everything in that history is kept",
                            tag.key()
                        ));
                    }
                }
                self.roots.push(digest);
            }
            Found::Garbled | Found::Nothing => {
                // Its history has what it stood for, and perhaps more. A tag
                // that never was has none, nor has one that was deleted.
                let history = tag.history(storage).await?;
                let (mut kept, mut young) = (0, 0);
                for digest in history.digests {
                    if self.know(&digest).await? {
                        // A push that goes on has not come to the tag itself.
                        let is_young = tag.was_since(storage, &digest, self.rule.cutoff).await?;
                        young += usize::from(is_young);
                        self.roots.push(digest);
                        kept += 1;
                    }
                }
                if current == Found::Garbled && (kept == 0 || !history.strange.is_empty()) {
                    self.damage(format!("the tag {name}:{text} is broken ({})", tag.key()));
                } else if kept > young {
                    self.warn(format!(
                        "{} names no manifest; all that the tag ever stood for is kept",
                        tag.key()
                    ));
                }
                self.strange(history.strange).await?;
            }
        }
        Ok(())
    }

    /// Returns what is reachable from roots. What an index names is alive with
    /// it, also where its own link was lost.
    async fn alive(&mut self, roots: &[Digest]) -> Result<HashSet<Digest>, StorageError> {
        let mut looked_for = HashSet::new();
        loop {
            let alive = reachable(&self.nodes, roots);
            let entries = self.nodes.iter().filter(|(digest, _)| alive.contains(digest));
            let lost: Vec<Digest> = entries
                .flat_map(|(_, node)| &node.entries)
                .filter(|entry| !self.nodes.contains_key(entry) && looked_for.insert((*entry).clone()))
                .cloned()
                .collect();
            if lost.is_empty() {
                return Ok(alive);
            }
            for digest in lost {
                self.know(&digest).await?;
            }
        }
    }

    /// Returns where the content of layers is whose links are aliases, among
    /// what a manifest names.
    async fn aliases(&self, named: &[Digest]) -> Result<Vec<Digest>, StorageError> {
        let mut found = Vec::new();
        for digest in named {
            // Go registries store all content under SHA-256.
            if digest.algorithm() != Algorithm::Sha256
                && let State::Alias(stored) = Link::layer(self.name, digest).state(self.storage).await?
            {
                found.push(stored);
            }
        }
        Ok(found)
    }

    /// Tells what is reachable from the roots, and what is not.
    async fn end(mut self, tags: &[TagPlace]) -> Result<Marked, StorageError> {
        let alive = if self.rule.delete_untagged {
            let mut roots = std::mem::take(&mut self.roots);
            let tagged = self.alive(&roots).await?.len();
            roots.extend(std::mem::take(&mut self.young));
            let alive = self.alive(&roots).await?;
            self.marked.young = alive.len() - tagged;
            alive
        } else {
            let all: Vec<Digest> = self.nodes.keys().cloned().collect();
            self.alive(&all).await?
        };
        let nodes = std::mem::take(&mut self.nodes);
        let mut dead = HashMap::new();
        for (digest, node) in nodes {
            if alive.contains(&digest) {
                let mut references = node.references;
                references.extend(self.aliases(&references).await?);
                self.marked.live.push((digest, references));
            } else {
                let unreferenced = UnreferencedManifest {
                    name: self.name.clone(),
                    digest: digest.clone(),
                    history: Vec::new(),
                    subject: node.subject().cloned(),
                    references: node.references,
                };
                dead.insert(digest, unreferenced);
            }
        }
        let tags = if dead.is_empty() { &[][..] } else { tags };
        for place in tags {
            let Some(tag) = place.tag() else { continue };
            for digest in place.history(self.storage).await?.digests {
                if let Some(dead) = dead.get_mut(&digest) {
                    dead.history.push(Link::history(self.name, &tag, &digest));
                }
            }
        }
        let mut marked = self.marked;
        marked.live.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        marked.dead = topological_order(dead, |dead| &dead.references);
        Ok(marked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_what_is_not_understood() {
        let digest = Digest::of(Algorithm::Sha256, b"x");
        let text = format!(r#"{{"fsLayers":[{{"blobSum":"{digest}"}}],"x":"sha256:short"}}"#);
        assert_eq!(digests_in(text.as_bytes()), [digest]);
    }
}
