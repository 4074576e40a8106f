//! Differences between texts, for people.

use similar::{ChangeTag, TextDiff};

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

/// Keys whose values are not shown.
const SECRET_KEYS: [&str; 6] = [
    "secret",
    "notification_secret",
    "password",
    "token",
    "Authorization",
    "accesskey",
];

/// Compares two texts; three lines around each change. Secrets are replaced.
pub fn lines(old: &str, new: &str) -> Vec<Line> {
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

fn redact(line: &str) -> String {
    let trimmed = line.trim_start().trim_start_matches("- ");
    for key in SECRET_KEYS {
        for separator in [":", " ="] {
            let Some(value) = trimmed.strip_prefix(key).and_then(|rest| rest.strip_prefix(separator)) else {
                continue;
            };
            if !value.trim().is_empty() {
                return format!("{} [redacted]", &line[..line.len() - value.len()]);
            }
        }
    }
    // The endpoints are one line of JSON.
    match line.split_once("\"Authorization\":[") {
        Some((before, after)) => format!(
            "{before}\"Authorization\":[\"[redacted]\"]{}",
            after.split_once(']').map_or("", |(_, rest)| rest)
        ),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_and_secrets_are_not() {
        let found = lines("a: 1\nb: 2\n", "a: 1\nb: 3\n  secret: \"x\"\n");
        let expected = [
            Line::Hunk("@@ -1,2 +1,3 @@".into()),
            Line::Same("a: 1".into()),
            Line::Removed("b: 2".into()),
            Line::Added("b: 3".into()),
            Line::Added("  secret: [redacted]".into()),
        ];
        assert_eq!(found, expected);
        assert_eq!(
            redact(r#"e: [{"headers":{"Authorization":["s3"]},"x":1}]"#),
            r#"e: [{"headers":{"Authorization":["[redacted]"]},"x":1}]"#
        );
    }
}
