//! Differences between texts, for people.

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::config::redact::{REDACTED, secrets};

/// One line of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Where the lines that follow stand.
    Hunk(String),
    /// In both.
    Same(String),
    /// In the old text only.
    Removed(String),
    /// In the new text only.
    Added(String),
}

/// Compares two texts; three lines around each change. The secrets that
/// either holds are replaced, however they are laid out.
pub fn lines(old: &str, new: &str) -> Vec<Line> {
    let mut hidden = Vec::new();
    for text in [old, new] {
        match serde_yaml::from_str::<Value>(text) {
            Ok(tree) => secrets(&tree, &mut hidden),
            // Not YAML, so TOML: `token = "…"`.
            Err(_) => hidden.extend(text.lines().filter_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == "token")
                    .then(|| value.trim().trim_matches('"').to_owned())
                    .filter(|value| value.len() > 3)
            })),
        }
    }
    // The longest first, in case one holds another.
    hidden.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let redact = |line: &str| {
        hidden
            .iter()
            .fold(line.to_owned(), |line, secret| line.replace(secret, REDACTED))
    };
    let diff = TextDiff::from_lines(old, new);
    let mut found = Vec::new();
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        found.push(Line::Hunk(hunk.header().to_string()));
        for change in hunk.iter_changes() {
            let text = redact(change.value().trim_end_matches('\n'));
            found.push(match change.tag() {
                ChangeTag::Equal => Line::Same(text),
                ChangeTag::Delete => Line::Removed(text),
                ChangeTag::Insert => Line::Added(text),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_and_secrets_are_not() {
        let found = lines(
            "a: 1\nb: 2\n",
            "a: 1\nb: 3\nhttp:\n  secret: hush-hush\n  headers: {Authorization: [bearer]}\n",
        );
        let expected = [
            Line::Hunk("@@ -1,2 +1,5 @@".into()),
            Line::Same("a: 1".into()),
            Line::Removed("b: 2".into()),
            Line::Added("b: 3".into()),
            Line::Added("http:".into()),
            Line::Added("  secret: [redacted]".into()),
            Line::Added("  headers: {Authorization: [[redacted]]}".into()),
        ];
        assert_eq!(found, expected);
    }
}
