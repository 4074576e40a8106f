//! Edits of `kdk.yml`: a key, a value, and the text that they go into.

#![no_main]

mod bounds;

use kdk::config::edit::{position, set_in, unset_in, written};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn lookup<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(tree, |node, part| node.get(part))
}

fuzz_target!(|input: &str| {
    let mut parts = input.splitn(3, '\n');
    let (Some(key), Some(value), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    let is_key = !key.is_empty() && key.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    if !is_key {
        return;
    }
    let _ = (position(text, key), written(text, key));
    let value: Value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    if let Ok(edited) = set_in(text, key, &value) {
        let tree: Value = serde_yaml::from_str(&edited).expect("what was edited is YAML");
        assert_eq!(lookup(&tree, key), Some(&value), "{edited}");
        // What is set can be taken out again.
        if let Ok(Some(without)) = unset_in(&edited, key) {
            let tree: Value = serde_yaml::from_str(&without).unwrap_or_default();
            assert_eq!(lookup(&tree, key), None, "{without}");
        }
    }
    let _ = unset_in(text, key);
});
