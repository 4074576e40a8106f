//! Manifests by what they name and belong to.

use std::collections::{HashMap, HashSet};

use crate::registry::oci::Digest;

/// A manifest of a repository, by what it belongs to.
#[derive(Debug, Default)]
pub struct Node {
    /// What it names.
    pub references: Vec<Digest>,
    /// Which of that are manifests, of an index.
    pub entries: Vec<Digest>,
    /// Whether the last of what it names is what it is attached to.
    pub is_attached: bool,
}

impl Node {
    /// Returns what it is attached to.
    pub fn subject(&self) -> Option<&Digest> {
        self.references.last().filter(|_| self.is_attached)
    }
}

/// Orders manifests so that each comes before those that it names.
pub fn topological_order<T>(mut dead: HashMap<Digest, T>, names_of: impl Fn(&T) -> &[Digest]) -> Vec<T> {
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
                    .map(|dead| names_of(dead).to_vec())
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
pub fn reachable(nodes: &HashMap<Digest, Node>, roots: &[Digest]) -> HashSet<Digest> {
    let mut attached: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
    for (digest, node) in nodes {
        if let Some(subject) = node.subject() {
            attached.entry(subject).or_default().push(digest);
        }
    }
    let mut alive = HashSet::new();
    let mut open: Vec<&Digest> = roots.iter().collect();
    while let Some(digest) = open.pop() {
        if !alive.insert(digest.clone()) {
            continue;
        }
        if let Some(node) = nodes.get(digest) {
            open.extend(node.references.iter().filter(|next| nodes.contains_key(next)));
        }
        open.extend(attached.get(digest).into_iter().flatten());
    }
    alive
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::oci::Algorithm;

    fn digest(seed: u8) -> Digest {
        Digest::of(Algorithm::Sha256, &[seed])
    }

    #[test]
    fn what_a_tag_leads_to_is_alive() {
        let node = |references: &[u8], subject: Option<u8>| Node {
            references: references.iter().copied().chain(subject).map(digest).collect(),
            is_attached: subject.is_some(),
            ..Node::default()
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
        let alive = reachable(&nodes, &[digest(1)]);
        for seed in 1..=5 {
            assert!(alive.contains(&digest(seed)), "{seed}");
        }
        assert!(!alive.contains(&digest(6)) && !alive.contains(&digest(7)));
        // A tagged artifact keeps its subject.
        assert!(reachable(&nodes, &[digest(7)]).contains(&digest(6)));
    }

    #[test]
    fn what_names_another_comes_first() {
        let all: HashMap<Digest, (Digest, Vec<Digest>)> =
            [(1, &[2, 90][..]), (2, &[3]), (3, &[]), (4, &[3]), (5, &[1])]
                .into_iter()
                .map(|(seed, names)| {
                    (
                        digest(seed),
                        (digest(seed), names.iter().copied().map(digest).collect()),
                    )
                })
                .collect();
        let order = topological_order(all.clone(), |(_, names)| names);
        assert_eq!(order.len(), 5);
        let place = |wanted: &Digest| order.iter().position(|(digest, _)| digest == wanted);
        for (parent, names) in all.values() {
            for child in names.iter().filter(|child| place(child).is_some()) {
                assert!(place(parent) < place(child));
            }
        }
    }
}
