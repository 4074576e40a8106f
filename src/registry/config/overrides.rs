//! `REGISTRY_…` environment variables: `REGISTRY_HTTP_ADDR` sets `http.addr`.

use serde_yaml::{Mapping, Value};

use super::texts;

/// Variables that are no settings: the Go registries' own, those of podman,
/// skopeo and buildah, and those that `kdk env` prints.
const NOT_SETTINGS: [&str; 4] = [
    "REGISTRY_CONFIGURATION_PATH",
    "REGISTRY_AUTH_FILE",
    "REGISTRY_HOST",
    "REGISTRY_PORT",
];
/// What the names of feature flags begin with.
const FLAGS: &str = "REGISTRY_FF_";

/// A setting and the variable that it came from.
pub type Named = (String, String);

/// Applies the variables in lexical order; returns what could not be applied,
/// and which setting came from which of them.
///
/// Values are read as YAML. Parts of the name match existing keys without
/// regard to case; numbers are indexes of lists.
pub fn apply(tree: &mut Value, environment: &[(String, String)]) -> (Vec<String>, Vec<Named>) {
    let mut settings: Vec<_> = environment
        .iter()
        .filter(|(name, _)| {
            name.starts_with("REGISTRY_") && !name.starts_with(FLAGS) && !NOT_SETTINGS.contains(&name.as_str())
        })
        .collect();
    // The last of a name is set last.
    settings.sort_by(|a, b| a.0.cmp(&b.0));
    let (mut warnings, mut named) = (Vec::new(), Vec::new());
    spread(tree);
    for (name, text) in settings {
        let mut parts: Vec<String> = name["REGISTRY_".len()..].split('_').map(str::to_lowercase).collect();
        as_keys(&mut parts);
        let value = texts::of_variable(&parts, text);
        if set(tree, &parts, value) {
            named.push((parts.join("."), name.clone()));
        } else {
            warnings.push(format!("environment variable {name} names no setting and is ignored"));
        }
        spread(tree);
    }
    (warnings, named)
}

/// Writes the short form of a driver or a way to authorise in full: `auth:
/// htpasswd` means the section of that name.
fn spread(tree: &mut Value) {
    for section in ["auth", "storage"] {
        if let Some(node) = tree.get_mut(section)
            && let Some(name) = node.as_str().filter(|name| !name.is_empty())
        {
            let key = Value::String(name.to_owned());
            *node = Value::Mapping([(key, Value::Null)].into_iter().collect());
        }
    }
}

/// Go's names of fields where they differ from the file's keys, and below
/// which key they stand.
const FIELDS: [(&str, &str, &str); 6] = [
    ("health", "filecheckers", "file"),
    ("health", "httpcheckers", "http"),
    ("health", "tcpcheckers", "tcp"),
    ("notifications", "eventconfig", "events"),
    ("", "ratelimiter", "rate_limiter"),
    ("", "profiler", "profiling"),
];

/// Writes Go's field names as the file's keys.
fn as_keys(parts: &mut [String]) {
    let above = parts.first().cloned().unwrap_or_default();
    for (section, field, key) in FIELDS {
        let at = usize::from(!section.is_empty());
        if (section.is_empty() || section == above)
            && let Some(part) = parts.get_mut(at)
            && part == field
        {
            key.clone_into(part);
        }
    }
}

fn set(node: &mut Value, parts: &[String], value: Value) -> bool {
    let Some((first, rest)) = parts.split_first() else {
        *node = value;
        return true;
    };
    if first.is_empty() {
        return false;
    }
    // A list may begin with its first item.
    if node.is_null() && first == "0" {
        *node = Value::Sequence(Vec::new());
    }
    if let Value::Sequence(items) = node {
        let Ok(index) = first.parse::<usize>() else {
            return false;
        };
        if index > items.len() {
            return false;
        }
        let mut item = items.get(index).cloned().unwrap_or_default();
        let done = set(&mut item, rest, value);
        if done && index == items.len() {
            items.push(item);
        } else if done {
            items[index] = item;
        }
        return done;
    }
    if node.is_null() {
        *node = Value::Mapping(Mapping::new());
    }
    let Value::Mapping(map) = node else { return false };
    // A key may itself hold underscores (`s3_v2`): try the longest match first.
    for length in (1..=parts.len()).rev() {
        let joined = parts[..length].join("_");
        let known = map
            .keys()
            .find(|key| key.as_str().is_some_and(|key| key.eq_ignore_ascii_case(&joined)))
            .cloned();
        if let Some(entry) = known.and_then(|key| map.get_mut(&key)) {
            return set(entry, &parts[length..], value);
        }
    }
    let mut child = Value::Null;
    set(&mut child, rest, value) && map.insert(Value::String(first.clone()), child).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_beyond_a_list_and_keys_with_underscores() {
        let text = "notifications: {endpoints: [{name: a}]}\nstorage: {s3_v2: {bucket: a}}\n";
        let mut tree: Value = serde_yaml::from_str(text).expect("valid");
        let before = tree["notifications"].clone();
        let environment = [
            ("REGISTRY_NOTIFICATIONS_ENDPOINTS_7_NAME", "b"),
            ("REGISTRY_NOTIFICATIONS_ENDPOINTS_X_NAME", "b"),
            ("REGISTRY_STORAGE_S3_V2_BUCKET", "b"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let (warnings, _) = apply(&mut tree, &environment);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("ENDPOINTS_7_NAME") && warnings[1].contains("ENDPOINTS_X_NAME"));
        assert_eq!(tree["notifications"], before);
        assert_eq!(tree["storage"]["s3_v2"]["bucket"], Value::from("b"));
        assert!(tree["storage"].get("s3").is_none());
    }

    #[test]
    fn variables_override_by_path() {
        let mut tree: Value =
            serde_yaml::from_str("http: {addr: ':5000'}\nnotifications: {endpoints: [{name: a}]}\n").expect("valid");
        let environment = [
            // The last of a name counts.
            ("REGISTRY_HTTP_ADDR", "zzz"),
            ("REGISTRY_HTTP_ADDR", "127.0.0.1:0"),
            ("REGISTRY_STORAGE_DELETE_ENABLED", "false"),
            ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "b"),
            ("REGISTRY_HTTP_ADDR_X", "1"),
            ("REGISTRY_HEALTH_FILECHECKERS_0_FILE", "/tmp/down"),
            ("REGISTRY_HEALTH_STORAGEDRIVER_ENABLED", "true"),
            ("REGISTRY_AUTH", "htpasswd"),
            ("REGISTRY_AUTH_HTPASSWD_REALM", "people"),
            ("OTHER", "x"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let (warnings, _) = apply(&mut tree, &environment);
        assert_eq!(tree["http"]["addr"], Value::from("127.0.0.1:0"));
        assert_eq!(tree["storage"]["delete"]["enabled"], Value::from(false));
        assert_eq!(tree["notifications"]["endpoints"][0]["name"], Value::from("b"));
        assert_eq!(tree["auth"]["htpasswd"]["realm"], Value::from("people"));
        assert_eq!(tree["health"]["file"][0]["file"], Value::from("/tmp/down"));
        assert_eq!(tree["health"]["storagedriver"]["enabled"], Value::from(true));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}
