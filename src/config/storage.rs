//! `registry.storage`: a driver with its parameters, and sections beside it.

use serde_json::{Map, Value};

/// The drivers that a registry may have.
pub const DRIVERS: [&str; 9] = [
    "filesystem",
    "inmemory",
    "s3",
    "s3_v2",
    "gcs",
    "azure",
    "azure_v2",
    "swift",
    "oss",
];
/// Sections that stand beside a driver.
const SIBLINGS: [&str; 5] = ["cache", "delete", "redirect", "maintenance", "tag"];

/// Merges maps deeply; anything else is replaced, null removes.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.shift_remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => *base = over,
    }
}

/// Returns the directory of the images, where they are in files: that of the
/// section, or else `path`.
pub fn directory(given: Option<&Map<String, Value>>, path: String) -> Option<String> {
    let Some(given) = given else { return Some(path) };
    let others = given.keys().filter(|key| DRIVERS.contains(&key.as_str()));
    if others.clone().any(|driver| driver != "filesystem") {
        return None;
    }
    let named = given.get("filesystem").and_then(|driver| driver.get("rootdirectory"));
    Some(named.and_then(Value::as_str).map_or(path, str::to_owned))
}

/// Puts the section over what kdk would write without it. Another driver
/// takes the place of files.
pub fn merged(given: &Map<String, Value>, mut ours: Value) -> Value {
    let has_driver = given.keys().any(|key| DRIVERS.contains(&key.as_str()));
    if has_driver && !given.contains_key("filesystem") {
        merge(&mut ours, serde_json::json!({"filesystem": null}));
    }
    merge(&mut ours, Value::Object(given.clone()));
    ours
}

/// Finds what is wrong with the section: keys and what is the matter. `redirect`
/// and `read_only` are settings that say the same, where they are given.
pub fn faults(given: &Map<String, Value>, redirect: Option<bool>, read_only: Option<bool>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let drivers: Vec<&String> = given.keys().filter(|key| DRIVERS.contains(&key.as_str())).collect();
    if let [first, .., last] = drivers.as_slice() {
        found.push((
            format!("registry.storage.{last}"),
            format!(
                "registry.storage.{first} and registry.storage.{last} exclude each other: a registry has one driver"
            ),
        ));
    }
    for key in given.keys() {
        if !DRIVERS.contains(&key.as_str()) && !SIBLINGS.contains(&key.as_str()) {
            found.push((
                format!("registry.storage.{key}"),
                format!("registry.storage.{key} is no driver; there are {}", DRIVERS.join(", ")),
            ));
        }
    }
    let disabled = given.get("redirect").and_then(|redirect| redirect["disable"].as_bool());
    if let (Some(disabled), Some(redirect)) = (disabled, redirect)
        && disabled == redirect
    {
        found.push((
            "registry.storage.redirect".to_owned(),
            format!("registry.storage.redirect.disable is {disabled} and registry.redirect is {redirect}: they say the opposite; keep one"),
        ));
    }
    let inner = given
        .get("maintenance")
        .and_then(|all| all["readonly"]["enabled"].as_bool());
    if let (Some(inner), Some(read_only)) = (inner, read_only)
        && inner != read_only
    {
        found.push((
            "registry.storage.maintenance".to_owned(),
            format!("registry.storage.maintenance.readonly.enabled is {inner} and registry.read_only_maintenance_enabled is {read_only}; keep one"),
        ));
    }
    found
}
