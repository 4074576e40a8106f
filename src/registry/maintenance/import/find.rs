//! What of a repository's files is to be brought in.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::importer::Importer;
use super::options::Event;
use crate::registry::metadata::database::manifest_row;
use crate::registry::metadata::files::links::Found as Link;
use crate::registry::metadata::files::walk;
use crate::registry::metadata::postgres::bulk::Since;
use crate::registry::metadata::postgres::manifest_row::ManifestRow;
use crate::registry::metadata::{Metadata as _, MetadataError};
use crate::registry::oci::manifest::Kind;
use crate::registry::oci::{Digest, ParsedManifest, RepoName, Tag};
use crate::registry::storage::alias;

/// What a repository's files say.
pub(super) struct Found {
    pub(super) name: RepoName,
    /// In an order in which nothing refers to what comes later.
    pub(super) rows: Vec<ManifestRow>,
    pub(super) digests: HashSet<Digest>,
    pub(super) blobs: BTreeMap<Digest, u64>,
    /// What cannot be brought in.
    pub(super) refused: HashSet<Digest>,
    /// How many manifests stay behind, since nothing tagged leads to them.
    pub(super) untagged: usize,
}

impl Importer<'_> {
    /// Returns the tags of a repository that lead to something.
    pub(super) async fn tags_of(&self, name: &RepoName) -> Result<HashMap<Tag, Since>, MetadataError> {
        let mut tags = HashMap::new();
        for place in walk::tags(&self.driver, name).await? {
            let text = &place.text;
            match (place.tag(), place.current(&self.driver).await?) {
                (Some(tag), Link::Names(digest)) => {
                    // Those who clean up by age go by it.
                    let used = self.driver.last_used(&place.key()).await?;
                    let time = used.map(|used| used.at);
                    tags.insert(tag, Since { digest, time });
                }
                (Some(_), _) => self.skip(format!("{name}:{text}"), "its link leads to nothing"),
                (None, _) => self.skip(format!("{name}:{text}"), "it is not a tag's name"),
            }
        }
        Ok(tags)
    }

    /// Finds what of a repository is to be brought in.
    pub(super) async fn found(&self, name: &RepoName) -> Result<Found, MetadataError> {
        let tags = self.tags_of(name).await?;
        let mut found = Found {
            name: name.clone(),
            rows: Vec::new(),
            digests: HashSet::new(),
            blobs: BTreeMap::new(),
            refused: HashSet::new(),
            untagged: 0,
        };
        let mut wanted: Vec<Digest> = tags.values().map(|tag| tag.digest.clone()).collect();
        wanted.sort();
        wanted.dedup();
        let (attached, all) = self.attached(name).await?;
        // What is attached to something that is brought in comes along, and
        // what is attached to that.
        while !wanted.is_empty() {
            let mut next = Vec::new();
            for digest in &wanted {
                let known = found.rows.len();
                self.find(digest, &mut found).await?;
                for row in &found.rows[known..] {
                    next.extend(attached.get(row.digest()).into_iter().flatten().cloned());
                }
            }
            next.retain(|digest| !found.digests.contains(digest));
            next.sort();
            next.dedup();
            wanted = next;
        }
        found.untagged = all.saturating_sub(found.rows.len() + found.refused.len());
        Ok(found)
    }

    /// Returns what a repository's links say of its manifests.
    pub(super) async fn revisions(&self, name: &RepoName) -> Result<Vec<Digest>, MetadataError> {
        Ok(walk::revisions(&self.driver, name).await?.digests)
    }

    /// Returns a repository's manifests that have a subject, by it; and how
    /// many manifests there are in all.
    async fn attached(&self, name: &RepoName) -> Result<(HashMap<Digest, Vec<Digest>>, usize), MetadataError> {
        let mut all = 0;
        let mut attached: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for digest in self.revisions(name).await? {
            self.check_stop()?;
            let stored = self.files.manifest(name, &digest).await?;
            all += usize::from(stored.is_some());
            if let Some(subject) = stored.and_then(|stored| stored.manifest()?.subject) {
                attached.entry(subject.digest).or_default().push(digest);
            }
        }
        Ok((attached, all))
    }

    /// Finds a manifest, and before it all that it refers to. One that is
    /// broken is left out.
    async fn find(&self, digest: &Digest, found: &mut Found) -> Result<(), MetadataError> {
        let name = &found.name.clone();
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
                found.refused.insert(digest);
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
                    let waits = open.iter().any(|(open, ready)| *ready && open == other);
                    if !found.digests.contains(other) && !waits && self.files.has_manifest(name, other).await? {
                        open.push((other.clone(), false));
                    }
                }
                continue;
            }
            let parsed = match ParsedManifest::read(digest.clone(), stored.content.clone()) {
                Ok(parsed) => parsed,
                Err(error) => {
                    self.skip(what(), error.to_string());
                    found.refused.insert(digest);
                    continue;
                }
            };
            let mut row = manifest_row(&self.blobs, parsed).await?;
            if let Some(kind) = self.unknown_type(&row) {
                self.skip(
                    what(),
                    format!("its media type {kind:?} is new, and --dynamic-media-types is off"),
                );
                continue;
            }
            let sizes = match self.blobs_of(&row, found).await? {
                Ok(sizes) => sizes,
                Err(reason) => {
                    self.skip(what(), reason);
                    found.refused.insert(digest);
                    continue;
                }
            };
            found.blobs.extend(sizes);
            row.note_sizes(|digest| found.blobs.get(digest).copied());
            found.digests.insert(digest);
            found.rows.push(row);
        }
        Ok(())
    }

    /// Returns the sizes of the blobs that a manifest brings along, or why it
    /// cannot be brought in.
    async fn blobs_of(
        &self,
        row: &ManifestRow,
        found: &Found,
    ) -> Result<Result<BTreeMap<Digest, u64>, String>, MetadataError> {
        let name = &found.name;
        let mut sizes = BTreeMap::new();
        let mut unlinked = None;
        for part in row.blobs_or_entries() {
            let child = row.is_index() && found.digests.contains(&part.digest);
            if child || found.blobs.contains_key(&part.digest) {
                continue;
            }
            // What another repository holds is no part of this one: a
            // layer with URLs may name it without ever having been pushed here.
            let place = self.files.stored_as(name, &part.digest).await?;
            let linked = place.is_some();
            match self.size_of(name, &part.digest, place.as_ref()).await? {
                Some(_) if !linked && (row.is_index() || !part.urls.is_empty()) => {}
                Some(_) if !linked => unlinked = Some(part.digest.clone()),
                Some(size) => drop(sizes.insert(part.digest.clone(), size)),
                None if row.is_index() => (self.report)(Event::Skipped {
                    what: format!("{name}@{}", row.digest()),
                    reason: format!("its entry {}, which is missing", part.digest),
                    partly: true,
                }),
                None if !part.urls.is_empty() => {}
                None => return Ok(Err(format!("its blob {} is missing", part.digest))),
            }
        }
        Ok(match unlinked {
            Some(unlinked) => Err(format!(
                "its blob {unlinked} is no part of the repository; push the image again"
            )),
            None => Ok(sizes),
        })
    }

    /// Returns a blob's size. A database knows no aliases: content that a Go
    /// registry stored under SHA-256 alone gets a name of its own.
    async fn size_of(
        &self,
        name: &RepoName,
        digest: &Digest,
        place: Option<&Digest>,
    ) -> Result<Option<u64>, MetadataError> {
        let own = self.blobs.head(digest).await?;
        let Some(place) = place.filter(|place| own.is_none() && *place != digest) else {
            return Ok(own);
        };
        if self.options.dry_run {
            return Ok(self.blobs.head(place).await?);
        }
        Ok(alias::give_name(&self.driver, name, place, digest).await?)
    }

    /// Returns a media type of a manifest that may not be used.
    fn unknown_type<'r>(&self, row: &'r ManifestRow) -> Option<&'r str> {
        let known = self.types.as_ref()?;
        row.types().find(|kind| !known.contains(*kind))
    }
}
