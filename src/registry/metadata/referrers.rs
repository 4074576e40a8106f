//! Pages of what is attached to a manifest.

use super::types::Stored;
use crate::registry::oci::Digest;
use crate::registry::oci::referrer::Referrer;

/// Bytes that an answer may have, which is what clients take of a manifest:
/// annotations are as long as whoever pushes them likes.
const LARGEST: usize = 4 << 20;

/// Which of those that are attached to a manifest are asked for.
#[derive(Clone, Copy, Debug)]
pub struct ReferrerPage<'a> {
    /// Those of this type alone.
    pub artifact_type: Option<&'a str>,
    /// Those after this digest.
    pub after: Option<&'a str>,
    /// So many at most.
    pub limit: usize,
}

/// A page that is being filled, in order of the digests.
#[derive(Debug, Default)]
pub struct Referrers {
    /// What is on it.
    pub found: Vec<Referrer>,
    /// Whether more follow.
    pub more: bool,
    bytes: usize,
}

impl Referrers {
    /// Says whether there is room for a manifest of so many bytes, of which as
    /// much may be listed; if not, the page ends before it.
    pub fn has_room(&mut self, size: u64) -> bool {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        // The first fits by itself: its manifest did.
        self.more = !self.found.is_empty() && self.bytes.saturating_add(size) > LARGEST;
        !self.more
    }

    /// Adds a manifest that is attached; says whether there is room for another.
    pub fn add_stored(&mut self, page: ReferrerPage<'_>, digest: &Digest, stored: &Stored) -> bool {
        let manifest = stored.manifest();
        manifest.is_none_or(|manifest| self.add(page, Referrer::of(digest, &stored.content, &manifest)))
    }

    /// Adds one that is described; says whether there is room for another.
    pub fn add(&mut self, page: ReferrerPage<'_>, referrer: Referrer) -> bool {
        let is_wanted = page
            .artifact_type
            .is_none_or(|wanted| referrer.artifact_type.as_deref() == Some(wanted));
        if !is_wanted || page.after.is_some_and(|after| referrer.digest.as_str() <= after) {
            return true;
        }
        let size = referrer.length();
        if self.found.len() == page.limit || !self.found.is_empty() && self.bytes + size > LARGEST {
            self.more = true;
            return false;
        }
        self.bytes += size;
        self.found.push(referrer);
        true
    }
}
