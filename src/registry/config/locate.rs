//! Finding the line of a key.

/// One key or item of a list, as it stands in block style.
struct Entry<'a> {
    line: usize,
    indent: usize,
    /// The key; nothing for the dash of an item.
    key: Option<&'a str>,
}

/// Returns the line, from 1, at which a dotted path stands in a YAML text, or
/// that of the deepest part of it that can be seen. Items of lists are given
/// by their index. Of flow style the line where it begins is found.
pub fn line(text: &str, path: &str) -> Option<usize> {
    find(text, path).map(|(line, _)| line)
}

/// Returns the line of exactly this path; nothing when it is not in the text.
pub fn exact(text: &str, path: &str) -> Option<usize> {
    find(text, path).filter(|(_, whole)| *whole).map(|(line, _)| line)
}

/// Finds the deepest part of a path, and says whether that is all of it.
fn find(text: &str, path: &str) -> Option<(usize, bool)> {
    let entries = entries(text);
    let mut rest = entries.as_slice();
    let mut found = None;
    for part in path.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        let Some(level) = rest.first().map(|entry| entry.indent) else {
            return found.map(|line| (line, false));
        };
        let siblings = rest.iter().enumerate().filter(|(_, entry)| entry.indent == level);
        let at = match part.parse::<usize>() {
            Ok(index) => siblings.filter(|(_, entry)| entry.key.is_none()).nth(index),
            Err(_) => siblings.into_iter().find(|(_, entry)| entry.key == Some(part)),
        };
        let Some((at, entry)) = at else {
            return found.map(|line| (line, false));
        };
        found = Some(entry.line);
        let below = &rest[at + 1..];
        // A list may stand at the level of the key that holds it.
        let end = below.iter().position(|next| {
            next.indent < level || (next.indent == level && (entry.key.is_none() || next.key.is_some()))
        });
        rest = &below[..end.unwrap_or(below.len())];
    }
    found.map(|line| (line, true))
}

fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut content = line.trim_start();
        let mut indent = line.len() - content.len();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        while let Some(rest) = content
            .strip_prefix('-')
            .filter(|rest| rest.is_empty() || rest.starts_with(' '))
        {
            found.push(Entry {
                line: number + 1,
                indent,
                key: None,
            });
            content = rest.trim_start();
            indent = line.len() - content.len();
        }
        if let Some((key, _)) = content.split_once(':') {
            found.push(Entry {
                line: number + 1,
                indent,
                key: Some(key.trim().trim_matches(['"', '\''])),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn keys_are_found() {
        let text = "version: 0.1\n# http:\nhttp:\n  addr: x\n  tls:\n    minimumtls: y\nlog: {level: x}\nnotifications:\n  endpoints:\n    - name: a\n      timeout: 1\n    - name: b\n      timeout: 2\nlist:\n- a: 1\n- a: 2\n";
        for (path, expected) in [
            ("version", Some(1)),
            ("http", Some(3)),
            ("http.addr", Some(4)),
            ("http.tls.minimumtls", Some(6)),
            ("log.level", Some(7)),
            ("notifications.endpoints.1.timeout", Some(13)),
            ("notifications.endpoints[0].name", Some(10)),
            ("list[1].a", Some(16)),
            ("http.missing", Some(3)),
            ("missing", None),
        ] {
            assert_eq!(line(text, path), expected, "{path}");
        }
    }
}
