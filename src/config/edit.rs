//! Changing `kdk.yml` in place: comments, order and quoting survive.
//!
//! The YAML is edited as a syntax tree. After every edit the text is parsed
//! again and must hold exactly the change that was asked for; the whole must
//! be valid; and the file must still be the one that was loaded. Else
//! nothing is written.

use std::str::FromStr as _;

use serde_json::Value;
use yaml_edit::path::YamlPath as _;
use yaml_edit::{Document, Mapping, ScalarValue, YamlValue};

use super::text::{place, split, without_mark};
use super::{Config, ConfigError, Position};
use crate::root::Root;
use crate::sys::clock::{Clock, backup_stamp};
use crate::sys::fs::{Lock, PUBLIC, back_up, create_private_dir, mode, read, write_atomic};

/// Levels that a key has at most: each one more costs the editor more than the
/// one before, and no setting has a tenth of them.
const LEVELS: usize = 32;

/// Refuses a key of more levels than anybody means.
fn check_depth(key: &str) -> Result<(), String> {
    let levels = key.split('.').count();
    if levels > LEVELS {
        return Err(format!("a key has {LEVELS} levels at most, and this one {levels}"));
    }
    Ok(())
}

/// Finds where a key stands in a YAML text; its nearest section when it does not.
pub fn position(text: &str, key: &str) -> Option<Position> {
    let (head, body) = split(text);
    let document = Document::from_str(body).ok()?;
    let mut mapping: Option<Mapping> = document.as_mapping();
    let mut found = None;
    for part in key.split('.') {
        let Some(entry) = mapping.as_ref().and_then(|mapping| mapping.find_entry_by_key(part)) else {
            break;
        };
        found = entry.key_node().map(|node| node.byte_range().start as usize);
        mapping = entry.value_node().and_then(|value| value.as_mapping().cloned());
    }
    found.map(|offset| at(text, head.len() + offset))
}

fn at(text: &str, offset: usize) -> Position {
    let (line, column) = place(text, offset);
    Position { line, column }
}

/// Sets a key in a YAML text.
///
/// # Errors
/// A reason, when the text cannot be edited so that it holds the value.
pub fn set_in(text: &str, key: &str, value: &Value) -> Result<String, String> {
    check_depth(key)?;
    if !has_content(text) {
        // There is nothing to keep but comments, which stay above.
        let separator = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        let parts: Vec<&str> = key.split('.').collect();
        let mut nested = value.clone();
        for part in parts.iter().rev() {
            nested = Value::Object([((*part).to_owned(), nested)].into_iter().collect());
        }
        let yaml = serde_yaml::to_string(&nested).map_err(|error| error.to_string())?;
        let edited = format!("{text}{separator}{yaml}");
        // The nothing may have been written out, as ~ or null.
        return if parse(&edited)? == nested {
            Ok(edited)
        } else {
            Err("the edited file would not say what it should".to_owned())
        };
    }
    let (head, body) = split(text);
    let document = Document::from_str(body).map_err(|error| error.to_string())?;
    let outcome = match value {
        Value::Bool(flag) => document.try_set_path(key, *flag),
        Value::Number(number) if number.is_i64() => document.try_set_path(key, number.as_i64().unwrap_or_default()),
        Value::String(line) if !line.contains('\n') => match quoting(&document, key) {
            Some('\'') => document.try_set_path(key, ScalarValue::single_quoted(line.as_str())),
            Some(_) => document.try_set_path(key, ScalarValue::double_quoted(line.as_str())),
            None => document.try_set_path(key, line.as_str()),
        },
        other => {
            let node = YamlValue::parse_raw(&other.to_string()).map_err(|error| error.to_string())?;
            document.try_set_path(key, node)
        }
    };
    outcome.map_err(|error| error.to_string())?;
    let mut edited = format!("{head}{document}");
    if text.ends_with('\n') && !edited.ends_with('\n') {
        edited.push('\n');
    }
    let mut expected = parse(text)?;
    put(&mut expected, key, Some(value));
    if parse(&edited)? == expected {
        Ok(edited)
    } else {
        Err("the edited file would not say what it should".to_owned())
    }
}

/// Removes a key from a YAML text; says whether it was there.
///
/// # Errors
/// A reason, when the text cannot be edited so.
pub fn unset_in(text: &str, key: &str) -> Result<Option<String>, String> {
    check_depth(key)?;
    let mut expected = parse(text)?;
    if !put(&mut expected, key, None) {
        return Ok(None);
    }
    let (head, body) = split(text);
    let document = Document::from_str(body).map_err(|error| error.to_string())?;
    document.try_remove_path(key).map_err(|error| error.to_string())?;
    // What was only there for it goes with it.
    let mut inner = key;
    while let Some((outer, _)) = inner.rsplit_once('.') {
        let empty = lookup(&parse(&document.to_string())?, outer)
            .is_some_and(|value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty));
        if !empty {
            break;
        }
        document.try_remove_path(outer).map_err(|error| error.to_string())?;
        inner = outer;
    }
    let edited = format!("{head}{document}");
    let is_gone = lookup(&parse(&edited)?, key).is_none();
    if is_gone && without_empty(parse(&edited)?) == without_empty(expected) {
        Ok(Some(edited))
    } else {
        Err("the edited file would not say what it should".to_owned())
    }
}

fn lookup<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(tree, |node, part| node.get(part))
}

/// Returns the quotes that a value stands in.
fn quoting(document: &Document, key: &str) -> Option<char> {
    let raw = scalar(document, key)?;
    raw.chars().next().filter(|first| matches!(first, '\'' | '"'))
}

/// Returns a scalar as it stands in the text.
fn scalar(document: &Document, key: &str) -> Option<String> {
    let mut mapping = document.as_mapping()?;
    let (sections, name) = key
        .rsplit_once('.')
        .map_or((None, key), |(sections, name)| (Some(sections), name));
    for section in sections.into_iter().flat_map(|sections| sections.split('.')) {
        mapping = mapping.get_mapping(section)?;
    }
    Some(mapping.get(name)?.as_scalar()?.to_string().trim().to_owned())
}

/// Returns a scalar of a YAML text as it stands there, with quotes if any.
pub fn written(text: &str, key: &str) -> Option<String> {
    scalar(&Document::from_str(split(text).1).ok()?, key)
}

fn has_content(text: &str) -> bool {
    !matches!(
        serde_yaml::from_str::<serde_yaml::Value>(without_mark(text)),
        Ok(serde_yaml::Value::Null)
    )
}

fn parse(text: &str) -> Result<Value, String> {
    serde_yaml::from_str(without_mark(text))
        .map(without_merges)
        .map_err(|error| error.to_string())
}

/// Leaves merge keys out: they repeat what is compared where it is anchored.
fn without_merges(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(key, _)| key != "<<")
                .map(|(key, value)| (key, without_merges(value)))
                .collect(),
        ),
        other => other,
    }
}

/// A section that lost its last key may stay as null or as an empty map.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept: serde_json::Map<String, Value> = map
                .into_iter()
                .map(|(key, value)| (key, without_empty(value)))
                .filter(|(_, value)| !value.is_null() && value.as_object().is_none_or(|inner| !inner.is_empty()))
                .collect();
            Value::Object(kept)
        }
        other => other,
    }
}

fn put(tree: &mut Value, key: &str, value: Option<&Value>) -> bool {
    if !tree.is_object() {
        if value.is_none() {
            return false;
        }
        *tree = Value::Object(serde_json::Map::new());
    }
    let Some(map) = tree.as_object_mut() else { return false };
    match (key.split_once('.'), value) {
        (None, Some(value)) => {
            map.insert(key.to_owned(), value.clone());
            true
        }
        (None, None) => map.shift_remove(key).is_some(),
        (Some((first, rest)), Some(_)) => put(map.entry(first).or_insert(Value::Null), rest, value),
        (Some((first, rest)), None) => map.get_mut(first).is_some_and(|inner| put(inner, rest, None)),
    }
}

/// Waits for its turn to change `kdk.yml`; others wait until the lock is dropped.
///
/// # Errors
/// Those of the file system.
pub fn turn(root: &Root) -> Result<Lock, ConfigError> {
    create_private_dir(&root.state())?;
    Ok(Lock::take(&root.state().join("config.lock"))?)
}

/// Replaces `kdk.yml`, whose loaded state is `config`, by `text`; a `private`
/// one is readable by its owner alone from then on. The caller has its
/// [`turn`].
///
/// Of several mistakes one may be mended at a time.
///
/// # Errors
/// When the text is no YAML, mends none of the mistakes that are there, or holds
/// a new one; or the file changed meanwhile.
pub fn replace(config: &Config, text: &str, private: bool) -> Result<(), ConfigError> {
    let root = config.root();
    let path = root.kdk_yml();
    config.check_edited(text)?;
    if read(&path)? != config.text() {
        return Err(ConfigError::Changed(path));
    }
    let stamp = backup_stamp(Clock::System.now());
    back_up(&path, "kdk.yml", &root.backups(), &stamp)?;
    let mode = mode(&path).unwrap_or(PUBLIC);
    write_atomic(&path, text.as_bytes(), if private { mode & 0o700 } else { mode })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# top\nhostname: kdk.test # host\n\nregistry:\n  # the port\n  port: 5000   # inline\n  host: 'registry.test'\n\n# other\ngitaly:\n  enabled: false\n";

    #[test]
    fn a_key_of_more_levels_than_anybody_means_is_refused() {
        let key = |levels: usize| vec!["a"; levels].join(".");
        assert!(set_in("b: 1\n", &key(LEVELS), &Value::from(1)).is_ok());
        assert!(set_in("b: 1\n", &key(LEVELS + 1), &Value::from(1)).is_err());
        assert!(unset_in("b: 1\n", &key(LEVELS + 1)).is_err());
    }

    #[test]
    fn what_cannot_be_taken_out_is_not_said_to_be() {
        // A key with a tag, which the editor takes for another one.
        assert!(unset_in("  \n!@ port: \n prot:x", "port").map_or(true, |text| text.is_none()));
    }

    #[test]
    fn a_nothing_that_is_written_out_is_left_alone() {
        for text in ["~", "null\n", "# c\n~\n"] {
            assert!(set_in(text, "registry.port", &Value::from(5100)).is_err(), "{text}");
        }
        for text in ["", "# c\n", "---\n", "# c"] {
            let edited = set_in(text, "registry.port", &Value::from(5100)).expect("edited");
            assert!(
                edited.starts_with(text.trim_end()) && edited.ends_with("registry:\n  port: 5100\n"),
                "{edited}"
            );
        }
    }

    #[test]
    fn comments_order_and_quoting_survive() {
        let edited = set_in(FILE, "registry.port", &Value::from(5100)).expect("edited");
        assert_eq!(edited, FILE.replace("5000", "5100"));
        let edited = set_in(FILE, "registry.host", &Value::from("a: b #c")).expect("edited");
        assert_eq!(edited, FILE.replace("registry.test", "a: b #c"));
        let edited = set_in(FILE, "registry.self_signed", &Value::from(true)).expect("edited");
        assert_eq!(
            edited,
            FILE.replace("'registry.test'\n", "'registry.test'\n  self_signed: true\n")
        );
    }

    #[test]
    fn awkward_files_are_edited() {
        for (text, expected) in [
            ("", "registry:\n  port: 5100\n"),
            ("# only a comment", "# only a comment\nregistry:\n  port: 5100\n"),
            (
                "---\n# hi\nhostname: a\n",
                "---\n# hi\nhostname: a\nregistry:\n  port: 5100\n",
            ),
            ("registry:\nhostname: a\n", "registry:\n  port: 5100\nhostname: a\n"),
            ("registry: {enabled: true}\n", "registry: {enabled: true, port: 5100}\n"),
            (
                "# mine\n\n---\nhostname: a\n",
                "# mine\n\n---\nhostname: a\nregistry:\n  port: 5100\n",
            ),
            (
                "\u{feff}hostname: a\n",
                "\u{feff}hostname: a\nregistry:\n  port: 5100\n",
            ),
            (
                "%YAML 1.1\n# mine\n---\nhostname: a\n",
                "%YAML 1.1\n# mine\n---\nhostname: a\nregistry:\n  port: 5100\n",
            ),
        ] {
            assert_eq!(
                set_in(text, "registry.port", &Value::from(5100)).as_deref(),
                Ok(expected),
                "{text:?}"
            );
        }
    }

    #[test]
    fn lists_and_maps_are_set() {
        for value in [
            serde_json::json!(["a", "b: c"]),
            serde_json::json!({"HTTP": {"a": "1", "b": [true]}}),
            serde_json::json!([]),
        ] {
            let edited = set_in(FILE, "registry.config", &value).expect("edited");
            assert!(edited.contains("# the port"), "{edited}");
            assert_eq!(parse(&edited).expect("valid")["registry"]["config"], value);
        }
        let pem = Value::from("-----BEGIN X-----\nabc\n-----END X-----\n");
        let edited = set_in(FILE, "registry.internal_key", &pem).expect("edited");
        assert_eq!(parse(&edited).expect("valid")["registry"]["internal_key"], pem);
    }

    #[test]
    fn removing_leaves_the_rest() {
        let edited = unset_in(FILE, "registry.host").expect("edited").expect("was there");
        assert_eq!(edited, FILE.replace("  host: 'registry.test'\n", ""));
        assert_eq!(unset_in(FILE, "registry.nothing"), Ok(None));
        assert_eq!(unset_in(FILE, "webpack.port"), Ok(None));
    }

    #[test]
    fn positions_count_from_one() {
        assert_eq!(position(FILE, "registry.port"), Some(Position { line: 6, column: 3 }));
        assert_eq!(position(FILE, "registry.absent"), Some(Position { line: 4, column: 1 }));
        assert_eq!(position(FILE, "absent"), None);
        let marked = format!("\u{feff}# mine\n---\n{FILE}");
        assert_eq!(
            position(&marked, "registry.port"),
            Some(Position { line: 8, column: 3 })
        );
        let first = position("\u{feff}hostname: a\n", "hostname");
        assert_eq!(first, Some(Position { line: 1, column: 1 }));
        let twice = FILE.replace("  host: ", "  port: 1\n  host: ");
        assert_eq!(crate::config::text::duplicate(&twice), Some((7, 3)));
        assert_eq!(crate::config::text::duplicate(FILE), None);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn what_is_set_is_read_back(text in "[ -~]{0,30}") {
            if let Ok(edited) = set_in(FILE, "registry.issuer", &Value::from(text.clone())) {
                proptest::prop_assert_eq!(&parse(&edited).unwrap()["registry"]["issuer"], &Value::from(text));
                proptest::prop_assert!(edited.contains("# the port"));
            }
        }
    }
}
