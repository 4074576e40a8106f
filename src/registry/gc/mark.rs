//! The marking: what is alive in one repository.
//!
//! Alive are, without deletion of untagged manifests, all manifests; with it
//! those that a tag stands for, those that are young, and whatever belongs to
//! a live one: the entries of an index, the subject of an artifact, and the
//! artifacts (signatures, attestations) whose subject is alive. Everything
//! that a live manifest names is kept, in every repository.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use jiff::Timestamp;

use crate::registry::metadata::Stored;
use crate::registry::oci::{Algorithm, Digest, RepoName, Tag};
use crate::registry::storage::{self, Blobs, Prefix, Storage, StorageError, layout};

/// A digest in little space.
pub type Key = [u8; 33];

/// Returns the key of a digest.
pub fn key(digest: &Digest) -> Key {
    let mut key = [0; 33];
    key[0] = u8::from(digest.algorithm() == Algorithm::Sha512);
    let hex = &digest.hex()[..64];
    // A digest has hex digits only.
    data_encoding::HEXLOWER
        .decode_mut(hex.as_bytes(), &mut key[1..])
        .expect("a digest's hex");
    key
}

/// What the marking found in one repository.
#[derive(Debug, Default)]
pub struct Marked {
    /// Live manifests, and what each names.
    pub live: Vec<(Digest, Vec<Digest>)>,
    /// Manifests to delete, each before those that it names: what names a
    /// manifest that is gone is gone itself, at every moment.
    pub dead: Vec<Dead>,
    /// Manifests without a tag that are only too young to go.
    pub young: usize,
    /// Things that are not as they should be, and do no harm.
    pub warnings: Vec<String>,
    /// Things that named something, nobody knows any more what.
    pub damaged: Vec<String>,
}

/// A manifest that nothing keeps alive.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Its repository.
    pub name: RepoName,
    /// Its digest.
    pub digest: Digest,
    /// Links in tags' histories that name it.
    pub history: Vec<storage::Key>,
    /// What it names.
    pub references: Vec<Digest>,
    /// What it is attached to.
    pub subject: Option<Digest>,
}

impl Dead {
    /// Returns the link that makes it part of its repository.
    pub fn link(&self) -> storage::Key {
        layout::revision_link(&self.name, &self.digest)
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

/// A manifest of the repository that is marked.
struct Node {
    references: Vec<Digest>,
    subject: Option<Digest>,
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

/// Marks one repository.
///
/// # Errors
/// Those of the storage: what cannot be read may be alive.
pub async fn repository(driver: &Storage, name: &RepoName, rule: Rule) -> Result<Marked, StorageError> {
    let mut marked = Marked::default();
    let mut nodes = HashMap::new();
    let mut young = HashSet::new();
    let mut kept = Vec::new();
    for digest in digests_below(driver, &layout::revisions(name)).await? {
        let path = layout::revision_link(name, &digest);
        let state = link(driver, &path, &digest).await?;
        if state == Link::Absent {
            continue;
        }
        if state == Link::Broken {
            marked.warnings.push(format!("{path} does not name its manifest"));
            kept.push(digest.clone());
        }
        if rule.delete_untagged && is_young(driver, &path, rule.cutoff).await? {
            young.insert(digest.clone());
        }
        match read_whole(driver, &digest).await? {
            Content::Whole(node) => drop(nodes.insert(digest, node)),
            Content::Wrong => marked
                .damaged
                .push(format!("the manifest {digest} in {name} is not what its digest says")),
            // A link that never was whole, of a push that a power loss cut off.
            Content::Missing if state == Link::Broken => {}
            Content::Missing => marked
                .damaged
                .push(format!("the manifest {digest} in {name} is missing")),
        }
    }
    let tags = driver.list(&layout::tags(name)).await?;
    let tags: Vec<Tag> = tags
        .iter()
        .flat_map(|names| names.iter())
        .filter_map(|tag| tag.parse().ok())
        .collect();
    let mut roots = kept;
    for tag in &tags {
        let path = layout::tag_current_link(name, tag);
        let Some(text) = driver.get(&path).await? else {
            continue;
        };
        if let Some(digest) = std::str::from_utf8(&text)
            .ok()
            .and_then(|text| text.trim().parse::<Digest>().ok())
        {
            if !nodes.contains_key(&digest) {
                // Its own link was lost, which names it once more when it is mended.
                match read_whole(driver, &digest).await? {
                    Content::Whole(node) => {
                        if is_own_link_lost(driver, name, tag, &digest).await? {
                            marked.warnings.push(format!(
                                "the tag {name}:{tag} names {digest}, whose own link is missing"
                            ));
                        }
                        nodes.insert(digest.clone(), node);
                    }
                    Content::Wrong | Content::Missing => marked.damaged.push(format!(
                        "the tag {name}:{tag} names {digest}, which is missing or not what its digest says"
                    )),
                }
            }
            roots.push(digest);
            continue;
        }
        // Its history has what it stood for, and perhaps more.
        let history = digests_below(driver, &layout::tag_index(name, tag)).await?;
        if history.is_empty() {
            marked.damaged.push(format!("the tag {name}:{tag} is broken ({path})"));
        } else {
            marked.warnings.push(format!(
                "{path} names no manifest; all that the tag ever stood for is kept"
            ));
        }
        roots.extend(history);
    }
    let alive = if rule.delete_untagged {
        let tagged = reached(&nodes, roots.clone());
        roots.extend(young);
        let alive = reached(&nodes, roots);
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
            dead.insert(
                digest.clone(),
                Dead {
                    name: name.clone(),
                    digest,
                    history: Vec::new(),
                    references: node.references,
                    subject: node.subject,
                },
            );
        }
    }
    if !dead.is_empty() {
        for tag in &tags {
            for digest in digests_below(driver, &layout::tag_index(name, tag)).await? {
                if let Some(dead) = dead.get_mut(&digest) {
                    dead.history.push(layout::tag_index_link(name, tag, &digest));
                }
            }
        }
    }
    marked.live.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    marked.dead = parents_first(dead);
    Ok(marked)
}

/// Orders manifests so that each comes before those that it names.
fn parents_first(mut dead: HashMap<Digest, Dead>) -> Vec<Dead> {
    let mut names: Vec<Digest> = dead.keys().cloned().collect();
    names.sort_unstable();
    let mut seen = HashSet::new();
    let mut order = Vec::with_capacity(names.len());
    for root in names {
        // Depth first; a manifest is taken down after all that it names.
        let mut open = vec![(root, false)];
        while let Some((digest, done)) = open.pop() {
            if done {
                order.push(digest);
            } else if seen.insert(digest.clone()) {
                let below = dead
                    .get(&digest)
                    .map(|dead| dead.references.clone())
                    .unwrap_or_default();
                open.push((digest, true));
                open.extend(
                    below
                        .into_iter()
                        .filter(|next| dead.contains_key(next) && !seen.contains(next))
                        .map(|next| (next, false)),
                );
            }
        }
    }
    order.iter().rev().filter_map(|digest| dead.remove(digest)).collect()
}

/// Returns everything that belongs to the roots.
fn reached(nodes: &HashMap<Digest, Node>, mut open: Vec<Digest>) -> HashSet<Digest> {
    let mut attached: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
    for (digest, node) in nodes {
        if let Some(subject) = &node.subject {
            attached.entry(subject).or_default().push(digest);
        }
    }
    let mut alive = HashSet::new();
    while let Some(digest) = open.pop() {
        if !alive.insert(digest.clone()) {
            continue;
        }
        if let Some(node) = nodes.get(&digest) {
            open.extend(node.references.iter().filter(|next| nodes.contains_key(next)).cloned());
        }
        open.extend(attached.get(&digest).into_iter().flatten().map(|next| (*next).clone()));
    }
    alive
}

/// Returns the digests that directories below `top` are named after.
pub async fn digests_below(driver: &Storage, top: &Prefix) -> Result<Vec<Digest>, StorageError> {
    let mut found = Vec::new();
    for algorithm in Algorithm::ALL {
        let names = driver.list(&top.below(algorithm.name())).await?;
        found.extend(
            names
                .iter()
                .flat_map(|names| names.iter())
                .filter_map(|hex| format!("{}:{hex}", algorithm.name()).parse::<Digest>().ok()),
        );
    }
    Ok(found)
}

/// What a link is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It names the digest that its path says.
    Good,
    /// It names something else, or nothing.
    Broken,
    /// It is not there; a deletion leaves its directory.
    Absent,
}

/// Says whether a manifest that a tag names has no link of its own.
async fn is_own_link_lost(driver: &Storage, name: &RepoName, tag: &Tag, digest: &Digest) -> Result<bool, StorageError> {
    // One that was pushed a moment ago has its link.
    if link(driver, &layout::revision_link(name, digest), digest).await? == Link::Good {
        return Ok(false);
    }
    // Of one that was deleted a moment ago the tag went first.
    Ok(link(driver, &layout::tag_current_link(name, tag), digest).await? == Link::Good)
}

/// Looks at the link that should name a digest.
///
/// # Errors
/// Those of the storage.
pub async fn link(driver: &Storage, key: &storage::Key, digest: &Digest) -> Result<Link, StorageError> {
    let named = digest.to_string();
    let is_good = |text: &Bytes| text.trim_ascii() == named.as_bytes();
    let mut found = driver.get(key).await?;
    if found.as_ref().is_some_and(|text| !is_good(text)) {
        // A push may be writing it: reading again waits for that.
        found = driver.get(key).await?;
    }
    Ok(match found {
        None => Link::Absent,
        Some(text) if is_good(&text) => Link::Good,
        Some(_) => Link::Broken,
    })
}

/// Says whether an object was used at or after the cutoff.
pub async fn is_young(driver: &Storage, key: &storage::Key, cutoff: Timestamp) -> Result<bool, StorageError> {
    Ok(driver.last_used(key).await?.is_some_and(|used| used.at >= cutoff))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(seed: u8) -> Digest {
        Digest::of(Algorithm::Sha256, &[seed])
    }

    #[test]
    fn what_a_tag_leads_to_is_alive() {
        let node = |references: &[u8], subject: Option<u8>| Node {
            references: references.iter().copied().chain(subject).map(digest).collect(),
            subject: subject.map(digest),
        };
        let nodes = HashMap::from([
            (digest(1), node(&[2], None)),     // a nested index with a tag
            (digest(2), node(&[3], None)),     // the index in it
            (digest(3), node(&[90], None)),    // the image in that
            (digest(4), node(&[91], Some(3))), // its signature
            (digest(5), node(&[92], Some(4))), // what is attached to the signature
            (digest(6), node(&[90], None)),    // an image without a tag
            (digest(7), node(&[93], Some(6))), // and its signature
        ]);
        let alive = reached(&nodes, vec![digest(1)]);
        for seed in 1..=5 {
            assert!(alive.contains(&digest(seed)), "{seed}");
        }
        assert!(!alive.contains(&digest(6)) && !alive.contains(&digest(7)));
        // A tagged artifact keeps its subject.
        assert!(reached(&nodes, vec![digest(7)]).contains(&digest(6)));
    }

    #[test]
    fn what_names_another_comes_first() {
        let dead = |seed: u8, references: &[u8]| {
            let dead = Dead {
                name: "a".parse().expect("a name"),
                digest: digest(seed),
                history: Vec::new(),
                references: references.iter().copied().map(digest).collect(),
                subject: None,
            };
            (dead.digest.clone(), dead)
        };
        let all = [
            dead(1, &[2, 90]),
            dead(2, &[3]),
            dead(3, &[]),
            dead(4, &[3]),
            dead(5, &[1]),
        ];
        let order: Vec<Digest> = parents_first(all.clone().into())
            .into_iter()
            .map(|dead| dead.digest)
            .collect();
        assert_eq!(order.len(), 5);
        let place = |wanted: &Digest| order.iter().position(|digest| digest == wanted);
        for (parent, dead) in &all {
            for child in dead.references.iter().filter(|child| place(child).is_some()) {
                assert!(place(parent) < place(child));
            }
        }
    }

    #[test]
    fn digests_are_found_in_what_is_not_understood() {
        let text = format!(r#"{{"fsLayers":[{{"blobSum":"{}"}}],"x":"sha256:short"}}"#, digest(1));
        assert_eq!(digests_in(text.as_bytes()), [digest(1)]);
    }
}
