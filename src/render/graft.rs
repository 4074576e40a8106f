//! Changing only the registry's keys of a file that another tool made.

use serde_json::Value;

use crate::config::edit::set_in;

/// Words in the first line of a file that kdk renders.
const OURS: &str = "Rendered by kdk";

/// Says whether a file was rendered by kdk, so that it may be replaced whole.
pub fn is_ours(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.contains(OURS))
}

/// Returns `theirs` with the named keys taken from `rendered`, in every
/// environment section that it has; all else, comments too, stays.
///
/// # Errors
/// A reason, when the file cannot be edited so.
pub fn graft(theirs: &str, rendered: &str, keys: &[&str]) -> Result<String, String> {
    let parse = |text: &str| -> Result<Value, String> {
        let mut tree: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        tree.apply_merge().map_err(|error| error.to_string())?;
        serde_json::to_value(tree).map_err(|error| error.to_string())
    };
    let wanted = parse(rendered)?;
    let mut text = theirs.to_owned();
    for environment in ["production", "development", "test"] {
        let there = parse(&text)?;
        // A section that takes its keys from another by a merge key gets them from there.
        let own: serde_yaml::Value = serde_yaml::from_str(&text).map_err(|error| error.to_string())?;
        if own.get(environment).is_none_or(|section| !section.is_mapping()) {
            continue;
        }
        let merged_in = own[environment].get("<<").is_some();
        for leaf in leaves(&wanted[environment], keys) {
            let key = format!("{environment}.{}", leaf.0);
            let at = lookup(&there, &key);
            if at == Some(&leaf.1) || (merged_in && lookup(&parse(&text)?, &key) == Some(&leaf.1)) {
                continue;
            }
            text = set_in(&text, &key, &leaf.1).map_err(|reason| format!("{key}: {reason}"))?;
        }
    }
    Ok(text)
}

fn lookup<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(tree, |node, part| node.get(part))
}

/// Returns the leaves below some keys, with their paths.
fn leaves(section: &Value, keys: &[&str]) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut open: Vec<(String, &Value)> = keys
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), lookup(section, key)?)))
        .collect();
    open.reverse();
    while let Some((path, node)) = open.pop() {
        match node {
            Value::Object(map) => open.extend(map.iter().rev().map(|(name, inner)| (format!("{path}.{name}"), inner))),
            leaf => found.push((path, leaf.clone())),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_keys_change() {
        let theirs = "# theirs\nproduction: &base\n  khulnasoft:\n    host: example.org # keep\n  registry:\n    enabled: false\n    # why\n    host: old\n\ndevelopment:\n  <<: *base\n";
        let rendered = "production: &base\n  khulnasoft: {host: other}\n  registry: {enabled: true, host: new, port: 5000}\ndevelopment:\n  <<: *base\n";
        let grafted = graft(theirs, rendered, &["registry"]).expect("grafted");
        let expected = theirs
            .replace("enabled: false", "enabled: true")
            .replace("host: old\n", "host: new\n    port: 5000\n");
        assert_eq!(grafted, expected);
        assert_eq!(
            graft(&grafted, rendered, &["registry"]).as_deref(),
            Ok(grafted.as_str())
        );
    }
}
