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
use crate::registry::metadata::files::links::{self, Current, Link, State};
use crate::registry::oci::{Algorithm, Digest, RepoName, Tag};
use crate::registry::storage::{Blobs, Storage, StorageError};

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

/// How to mark.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Whether manifests without a tag may go.
    pub delete_untagged: bool,
    /// What was changed since is kept.
    pub cutoff: Timestamp,
}

/// Returns what a stored manifest names, and its subject.
///
/// Of what is not understood everything is taken that looks like a digest:
/// too much is kept rather than too little.
pub fn references(stored: &Stored) -> (Vec<Digest>, Option<Digest>) {
    let Some(manifest) = stored.manifest() else {
        return (digests_in(&stored.content), None);
    };
    let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
    (manifest.references().cloned().collect(), subject)
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
            let (references, subject) = references(&Stored::new(content));
            Content::Whole(Node { references, subject })
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
    let names = links::tag_names(storage, name).await?;
    let tags: Vec<Tag> = names.iter().filter_map(|tag| tag.parse().ok()).collect();
    for tag in &tags {
        marking.tag(tag).await?;
    }
    marking.end(&tags).await
}

impl Marking<'_> {
    /// Reads the manifests that belong to the repository.
    async fn revisions(&mut self) -> Result<(), StorageError> {
        let (storage, name) = (self.storage, self.name);
        for digest in links::revisions(storage, name).await? {
            let link = Link::revision(name, &digest);
            let state = link.state(storage).await?;
            if state == State::Missing {
                continue;
            }
            if state == State::Corrupt {
                let warning = format!("{} does not name its manifest", link.key());
                self.marked.warnings.push(warning);
                self.roots.push(digest.clone());
            }
            if self.rule.delete_untagged && link.is_used_since(storage, self.rule.cutoff).await? {
                self.young.insert(digest.clone());
            }
            match read_whole(storage, &digest).await? {
                Content::Whole(node) => drop(self.nodes.insert(digest, node)),
                Content::Wrong => self
                    .marked
                    .damaged
                    .push(format!("the manifest {digest} in {name} is not what its digest says")),
                // A link that never was whole, of a push that a power loss cut off.
                Content::Missing if state == State::Corrupt => {}
                Content::Missing => self
                    .marked
                    .damaged
                    .push(format!("the manifest {digest} in {name} is missing")),
            }
        }
        Ok(())
    }

    /// Takes what a tag stands for as a root.
    async fn tag(&mut self, tag: &Tag) -> Result<(), StorageError> {
        let (storage, name) = (self.storage, self.name);
        match links::current(storage, name, tag).await? {
            Current::Missing => {}
            Current::Names(digest) => {
                if !self.nodes.contains_key(&digest) {
                    // Its own link was lost, which names it once more when it is mended.
                    match read_whole(storage, &digest).await? {
                        Content::Whole(node) => {
                            if links::is_own_link_lost(storage, name, tag, &digest).await? {
                                self.marked.warnings.push(format!(
                                    "the tag {name}:{tag} names {digest}, whose own link is missing"
                                ));
                            }
                            self.nodes.insert(digest.clone(), node);
                        }
                        Content::Wrong | Content::Missing => self.marked.damaged.push(format!(
                            "the tag {name}:{tag} names {digest}, which is missing or not what its digest says"
                        )),
                    }
                }
                self.roots.push(digest);
            }
            Current::Corrupt => {
                let key = links::current_key(name, tag);
                // Its history has what it stood for, and perhaps more.
                let history = links::history(storage, name, tag).await?;
                if history.is_empty() {
                    let damage = format!("the tag {name}:{tag} is broken ({key})");
                    self.marked.damaged.push(damage);
                } else {
                    self.marked.warnings.push(format!(
                        "{key} names no manifest; all that the tag ever stood for is kept"
                    ));
                }
                self.roots.extend(history);
            }
        }
        Ok(())
    }

    /// Tells what is reachable from the roots, and what is not.
    async fn end(self, tags: &[Tag]) -> Result<Marked, StorageError> {
        let Self {
            storage,
            name,
            rule,
            nodes,
            young,
            mut roots,
            mut marked,
        } = self;
        let alive: HashSet<Digest> = if rule.delete_untagged {
            let tagged = reachable(&nodes, roots.clone());
            roots.extend(young);
            let alive = reachable(&nodes, roots);
            marked.young = alive.len() - tagged.len();
            alive
        } else {
            nodes.keys().cloned().collect()
        };
        let mut dead = HashMap::new();
        for (digest, node) in nodes {
            if alive.contains(&digest) {
                marked.live.push((digest, node.references));
            } else {
                let unreferenced = UnreferencedManifest {
                    name: name.clone(),
                    digest: digest.clone(),
                    history: Vec::new(),
                    references: node.references,
                    subject: node.subject,
                };
                dead.insert(digest, unreferenced);
            }
        }
        let tags = if dead.is_empty() { &[][..] } else { tags };
        for tag in tags {
            for digest in links::history(storage, name, tag).await? {
                if let Some(dead) = dead.get_mut(&digest) {
                    dead.history.push(Link::history(name, tag, &digest));
                }
            }
        }
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
