//! Tags that a token protects.

use regex_lite::Regex;

use crate::registry::token::Scope;

/// Patterns of one kind at most, and characters of a pattern, as in GitLab's registry.
const MOST: usize = 5;
const LONGEST: usize = 100;

/// Patterns of one kind.
#[derive(Clone, Debug, Default)]
struct Patterns {
    patterns: Vec<Regex>,
    /// Whether one could not be understood: then it might mean any tag.
    all: bool,
}

impl Patterns {
    fn new(texts: &[String]) -> Self {
        let mut patterns = Vec::new();
        let mut all = texts.len() > MOST;
        for text in texts {
            match Regex::new(text) {
                Ok(pattern) if text.len() <= LONGEST => patterns.push(pattern),
                _ => all = true,
            }
        }
        Self { patterns, all }
    }

    /// Says whether anything might match.
    fn limits(&self) -> bool {
        self.all || !self.patterns.is_empty()
    }

    fn match_any(&self, tag: &str) -> bool {
        self.all || self.patterns.iter().any(|pattern| pattern.is_match(tag))
    }
}

/// What a token protects in the repository that it is for.
#[derive(Clone, Debug, Default)]
pub struct Protection {
    push: Patterns,
    delete: Patterns,
    immutable: Patterns,
}

impl Protection {
    /// Takes the protection out of grants on a repository.
    pub fn of(access: &[Scope], repository: &str) -> Self {
        let metas = access
            .iter()
            .filter(|scope| scope.kind == "repository" && scope.name == repository)
            .filter_map(|scope| scope.meta.as_ref());
        let (mut push, mut delete, mut immutable) = (Vec::new(), Vec::new(), Vec::new());
        for meta in metas {
            if let Some(denied) = &meta.tag_deny_access_patterns {
                push.extend(denied.push.iter().cloned());
                delete.extend(denied.delete.iter().cloned());
            }
            immutable.extend(meta.tag_immutable_patterns.iter().cloned());
        }
        Self {
            push: Patterns::new(&push),
            delete: Patterns::new(&delete),
            immutable: Patterns::new(&immutable),
        }
    }

    /// Says whether a tag may not be pushed; `exists` whether it is there with other content.
    pub fn denies_push(&self, tag: &str, exists: bool) -> bool {
        self.push.match_any(tag) || (exists && self.immutable.match_any(tag))
    }

    /// Says whether some tags may not be moved.
    pub fn limits_moves(&self) -> bool {
        self.immutable.limits()
    }

    /// Says whether a tag may not be deleted.
    pub fn denies_delete(&self, tag: &str) -> bool {
        self.delete.match_any(tag) || self.immutable.match_any(tag)
    }

    /// Says whether any tag might not be deleted.
    pub fn limits_deletion(&self) -> bool {
        self.delete.limits() || self.immutable.limits()
    }
}
