//! Names of what is stored. Only [`super::layout`] makes them up; everybody
//! else goes on from what it gives.

use std::fmt;

/// The name of one object: parts with `/` between.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    pub(super) fn new(name: String) -> Self {
        Self(name)
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name with an end.
    pub(super) fn beside(&self, end: &str) -> Self {
        Self(format!("{}{end}", self.0))
    }

    /// Returns the name without an end; nothing when it has another.
    pub(super) fn without(&self, end: &str) -> Option<Self> {
        self.0.strip_suffix(end).map(|name| Self(name.to_owned()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The name that all objects of some kind begin with; a slash follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(String);

impl Prefix {
    /// Returns what everything that is stored begins with: nothing.
    pub fn top() -> Self {
        Self(String::new())
    }

    pub(super) fn new(name: String) -> Self {
        Self(name)
    }

    /// Returns the name, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what begins with this and one part more.
    #[must_use]
    pub fn below(&self, part: &str) -> Self {
        Self(self.join(part))
    }

    /// Returns the object of this name and one part more.
    pub fn key(&self, part: &str) -> Key {
        Key(self.join(part))
    }

    fn join(&self, part: &str) -> String {
        if self.0.is_empty() {
            part.to_owned()
        } else {
            format!("{}/{part}", self.0)
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
