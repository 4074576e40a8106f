//! Repository names (OCI distribution-spec, "Pulling manifests").

use std::fmt;
use std::str::FromStr;

/// Longest repository name in bytes, as in the Go registries.
const MAX_LEN: usize = 255;

/// A text that is no repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a repository name has at most 255 characters: lowercase letters and digits, separated by one '.', '_', '__' or dashes, in parts joined by '/'"
)]
pub struct NameError;

/// A valid repository name, such as `group/project/image`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoName(String);

impl RepoName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepoName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= MAX_LEN && text.split('/').all(is_component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError)
        }
    }
}

/// Matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    bytes.split(alphanumeric).all(|separator| match separator {
        b"" | b"." | b"_" | b"__" => true,
        dashes => dashes.iter().all(|byte| *byte == b'-'),
    })
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in [
            "a",
            "library/alpine",
            "a-b",
            "a--b",
            "a__b",
            "a.b_c-d/0",
            "x/manifests",
            "a/tags/list",
        ] {
            assert!(good.parse::<RepoName>().is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "A", "a..b", "a___b", "-a", "a-", "a_.b", "..", "a//b", "a b", "ä",
        ] {
            assert!(bad.parse::<RepoName>().is_err(), "{bad}");
        }
        assert!("a".repeat(255).parse::<RepoName>().is_ok());
        assert!("a".repeat(256).parse::<RepoName>().is_err());
    }
}
