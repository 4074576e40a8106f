//! A YAML text as it stands in a file: what is before its document, and where
//! things are in it.

use std::collections::HashSet;
use std::str::FromStr as _;

use yaml_edit::{Document, Mapping};

/// What editors of other systems put before a text.
const BOM: char = '\u{feff}';

/// Returns a text without a byte order mark.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(BOM).unwrap_or(text)
}

/// Splits a text before its document: comments, directives and a byte order
/// mark are kept as they are.
pub fn split(text: &str) -> (&str, &str) {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        let bare = without_mark(line);
        if bare.starts_with("---") {
            return text.split_at(end + line.len() - bare.len());
        }
        if !bare.trim().is_empty() && !bare.starts_with(['#', '%']) {
            break;
        }
        end += line.len();
    }
    text.split_at(text.len() - without_mark(text).len())
}

/// Returns the line and the column of a byte, both from one.
pub fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    (line, without_mark(last).chars().count() + 1)
}

/// Finds a key that stands in its section a second time.
pub fn duplicate(text: &str) -> Option<(usize, usize)> {
    let (head, body) = split(text);
    let found = second(&Document::from_str(body).ok()?.as_mapping()?)?;
    Some(place(text, head.len() + found))
}

fn second(mapping: &Mapping) -> Option<usize> {
    let mut seen = HashSet::new();
    for entry in mapping.entries() {
        let key = entry.key_node()?;
        if !seen.insert(key.to_string().trim().to_owned()) {
            return Some(key.byte_range().start as usize);
        }
        let inner = entry.value_node().and_then(|value| value.as_mapping().cloned());
        if let Some(found) = inner.as_ref().and_then(second) {
            return Some(found);
        }
    }
    None
}
