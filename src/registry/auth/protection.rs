//! Tags that a token protects (GitLab, "Protected container tags").

use regex::Regex;

use crate::registry::token::Scope;

/// Patterns that may count for one request, and characters of a pattern, as in
/// GitLab's registry.
const MOST: usize = 5;
const LONGEST: usize = 100;

/// Why a token's patterns cannot be followed. What they protect is not known
/// then: nothing may be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// One of those that deny is none.
    #[error("{0:?} is no pattern of at most {LONGEST} characters")]
    Protection(String),
    /// One of those that make immutable is none.
    #[error("{0:?} is no pattern of at most {LONGEST} characters")]
    Immutability(String),
    /// There are too many.
    #[error("{0} patterns, at most {MOST} are followed")]
    TooMany(usize),
}

/// Why a tag may not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It is protected.
    Protected,
    /// It is immutable.
    Immutable,
}

/// Patterns of one kind.
#[derive(Clone, Debug, Default)]
struct Patterns {
    usable: Vec<Regex>,
    given: usize,
    /// The first that is none.
    broken: Option<String>,
}

impl Patterns {
    fn new(texts: &[String]) -> Self {
        let mut all = Self {
            given: texts.len(),
            ..Self::default()
        };
        for text in texts.iter().take(MOST) {
            match Regex::new(text) {
                Ok(pattern) if text.len() <= LONGEST => all.usable.push(pattern),
                _ => all.broken = all.broken.or_else(|| Some(text.clone())),
            }
        }
        all
    }

    fn match_any(&self, tag: &str) -> bool {
        self.usable.iter().any(|pattern| pattern.is_match(tag))
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

    /// Says why a tag may not be pushed; `exists` whether it is there with other content.
    pub fn denies_push(&self, tag: &str, exists: bool) -> Option<Denial> {
        if self.push.match_any(tag) {
            Some(Denial::Protected)
        } else {
            (exists && self.immutable.match_any(tag)).then_some(Denial::Immutable)
        }
    }

    /// Says why a tag may not be deleted.
    pub fn denies_delete(&self, tag: &str) -> Option<Denial> {
        if self.delete.match_any(tag) {
            Some(Denial::Protected)
        } else {
            self.immutable.match_any(tag).then_some(Denial::Immutable)
        }
    }

    /// Says whether any tag might not be deleted.
    pub fn limits_deletion(&self) -> bool {
        !(self.delete.usable.is_empty() && self.immutable.usable.is_empty())
    }

    /// Checks that it is known which tags may be pushed.
    ///
    /// # Errors
    /// When a pattern is none, or there are too many.
    pub fn check_push(&self) -> Result<(), PatternError> {
        self.check(&self.push)
    }

    /// Checks that it is known which tags may be deleted.
    ///
    /// # Errors
    /// When a pattern is none, or there are too many.
    pub fn check_delete(&self) -> Result<(), PatternError> {
        self.check(&self.delete)
    }

    fn check(&self, denied: &Patterns) -> Result<(), PatternError> {
        let given = denied.given + self.immutable.given;
        if given > MOST {
            return Err(PatternError::TooMany(given));
        }
        let broken = denied.broken.clone().map(PatternError::Protection);
        let broken = broken.or_else(|| self.immutable.broken.clone().map(PatternError::Immutability));
        broken.map_or(Ok(()), Err)
    }
}
