//! Which names of a listing of tags were found to be tags.
//!
//! A tag is made and removed with its directory, so what was found holds as
//! long as the listing is the same.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::registry::oci::RepoName;
use crate::registry::storage::Names;

/// Listings that are remembered at most.
const LISTINGS: usize = 1000;

/// What is known of repositories' listings.
#[derive(Clone, Debug, Default)]
pub struct Judged(Arc<Mutex<HashMap<String, Known>>>);

/// A listing, and which of its names are tags.
#[derive(Debug)]
struct Known {
    listing: Names,
    tags: Vec<bool>,
}

/// What is known of a part of a listing.
#[derive(Debug, Default)]
pub struct Part {
    begin: usize,
    known: Vec<bool>,
    found: Vec<usize>,
}

impl Part {
    /// Says whether a name is known to be a tag.
    pub fn contains(&self, at: usize) -> bool {
        at.checked_sub(self.begin).and_then(|at| self.known.get(at)) == Some(&true)
    }

    /// Notes that a name is a tag.
    pub fn add(&mut self, at: usize) {
        self.found.push(at);
    }
}

impl Judged {
    /// Returns what is known of a part of a repository's listing.
    pub fn get(&self, name: &RepoName, listing: &Names, part: Range<usize>) -> Part {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(name.as_str()).filter(|known| known.listing.is_same(listing));
        let end = part.end.min(listing.len());
        Part {
            begin: part.start,
            known: known
                .and_then(|known| known.tags.get(part.start..end))
                .map_or_else(Vec::new, <[bool]>::to_vec),
            found: Vec::new(),
        }
    }

    /// Keeps what was found.
    pub fn put(&self, name: &RepoName, listing: &Names, part: Part) {
        if part.found.is_empty() {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= LISTINGS && !all.contains_key(name.as_str()) {
            all.clear();
        }
        let fresh = || Known {
            listing: listing.clone(),
            tags: vec![false; listing.len()],
        };
        let known = all.entry(name.to_string()).or_insert_with(fresh);
        if !known.listing.is_same(listing) {
            *known = fresh();
        }
        for at in part.found {
            known.tags[at] = true;
        }
    }
}
