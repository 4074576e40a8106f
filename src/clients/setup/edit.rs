//! How a file that belongs to a client is changed: what is put in, and how
//! exactly that is taken out again.
//!
//! Everything else in the file stays: what others wrote, comments, order.
//! Putting the same in twice changes nothing, by which it is seen whether it
//! is there.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::toml::Toml;
use crate::clients::insecure;
use crate::config::edit as yaml;

/// A change of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// The file is this, and nothing else.
    Whole(String),
    /// Values in a list of a JSON object.
    JsonList {
        /// The list's key.
        key: String,
        /// What it holds beside what others put there.
        values: Vec<String>,
    },
    /// Values in a list of a YAML file.
    YamlList {
        /// The list's key, with dots.
        key: String,
        /// What it holds beside what others put there.
        values: Vec<String>,
    },
    /// Tables and values of a TOML file.
    Toml(Toml),
    /// Lines between marks that name a root.
    Lines {
        /// The root.
        root: Utf8PathBuf,
        /// The lines.
        lines: Vec<String>,
    },
    /// What podman's drop-in for all roots says of one.
    Podman {
        /// The root.
        root: Utf8PathBuf,
        /// Its addresses.
        addresses: Vec<String>,
    },
}

impl Edit {
    /// Returns the text with what is to be in it.
    ///
    /// # Errors
    /// A reason with the line, where the text is not of the file's format.
    pub fn put(&self, text: &str) -> Result<String, String> {
        match self {
            Self::Whole(whole) => Ok(whole.clone()),
            Self::JsonList { key, values } => json(text, key, |list| {
                let new = values.iter().filter(|value| !list.contains(value)).cloned().collect();
                [std::mem::take(list), new].concat()
            }),
            Self::YamlList { key, values } => {
                let mut list = yaml_list(text, key)?;
                let new: Vec<String> = values.iter().filter(|value| !list.contains(value)).cloned().collect();
                if new.is_empty() {
                    return Ok(text.to_owned());
                }
                list.extend(new);
                yaml::set_in(text, key, &Value::from(list))
            }
            Self::Toml(toml) => toml.put(text),
            Self::Lines { root, lines } => {
                if contained(text, root).as_ref() == Some(lines) {
                    return Ok(text.to_owned());
                }
                let mut text = without_lines(text, root, lines);
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                let (begin, end) = marks(root);
                Ok(format!("{text}{begin}\n{}\n{end}\n", lines.join("\n")))
            }
            Self::Podman { root, addresses } => Ok(insecure::with(text, root, addresses)),
        }
    }

    /// Returns a text that others changed since, without what was put in;
    /// nothing where it cannot be told what that is. `before` is the text as
    /// it was when it was put in.
    ///
    /// # Errors
    /// A reason with the line, where the text is not of the file's format.
    pub fn take(&self, text: &str, before: &str) -> Result<Option<String>, String> {
        let without = |list: &mut Vec<String>, values: &[String], kept: &[String]| -> Vec<String> {
            let ours = |value: &String| values.contains(value) && !kept.contains(value);
            list.drain(..).filter(|value| !ours(value)).collect()
        };
        match self {
            Self::Whole(whole) => Ok((whole == text).then(String::new)),
            Self::JsonList { key, values } => {
                let kept = json_list(before, key).unwrap_or_default();
                json(text, key, |list| without(list, values, &kept)).map(Some)
            }
            Self::YamlList { key, values } => {
                let kept = yaml_list(before, key).unwrap_or_default();
                let rest = without(&mut yaml_list(text, key)?, values, &kept);
                if rest.is_empty() {
                    return Ok(Some(yaml::unset_in(text, key)?.unwrap_or_else(|| text.to_owned())));
                }
                yaml::set_in(text, key, &Value::from(rest)).map(Some)
            }
            Self::Toml(toml) => toml.take(text, before).map(Some),
            Self::Lines { root, lines } => Ok(Some(without_lines(text, root, lines))),
            Self::Podman { root, .. } => Ok(Some(insecure::with(text, root, &[]))),
        }
    }

    /// Says whether what was put into a text is known by itself, without a note.
    pub fn is_known_in(&self, text: &str) -> bool {
        match self {
            Self::Whole(whole) => whole == text,
            Self::Lines { .. } | Self::Podman { .. } => self
                .take(text, "")
                .is_ok_and(|rest| rest.is_some_and(|rest| rest != text)),
            _ => false,
        }
    }
}

/// Parses a JSON object; nothing at all is an empty one.
fn object(text: &str) -> Result<serde_json::Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(serde_json::Map::new());
    }
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err("it is no JSON object".to_owned()),
    }
}

fn json_list(text: &str, key: &str) -> Result<Vec<String>, String> {
    list(object(text)?.get(key), key)
}

fn list(value: Option<&Value>, key: &str) -> Result<Vec<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => serde_json::from_value(value.clone()).map_err(|_| format!("{key} is no list of texts")),
    }
}

/// Changes a list of a JSON object; one that becomes empty goes.
fn json(text: &str, key: &str, change: impl FnOnce(&mut Vec<String>) -> Vec<String>) -> Result<String, String> {
    let mut object = object(text)?;
    let before = list(object.get(key), key)?;
    let after = change(&mut before.clone());
    if after == before {
        return Ok(text.to_owned());
    }
    if after.is_empty() {
        object.shift_remove(key);
    } else {
        object.insert(key.to_owned(), after.into());
    }
    // As wide as whoever wrote it has it.
    let indent = text.lines().find_map(|line| {
        let width = line.len() - line.trim_start().len();
        (width > 0).then(|| line[..width].to_owned())
    });
    let indent = indent.unwrap_or_else(|| "  ".to_owned());
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    Value::Object(object)
        .serialize(&mut serializer)
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
    Ok(format!("{text}\n"))
}

fn yaml_list(text: &str, key: &str) -> Result<Vec<String>, String> {
    let tree: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let found = key.split('.').try_fold(&tree, |tree, part| tree.get(part));
    list(found, key)
}

/// What stands above and below the lines of a root.
fn marks(root: &Utf8PathBuf) -> (String, String) {
    (format!("# kdk: for {root}"), format!("# kdk: end of {root}"))
}

/// Returns the lines of a root.
fn contained(text: &str, root: &Utf8PathBuf) -> Option<Vec<String>> {
    let (begin, end) = marks(root);
    let mut lines = text.lines().skip_while(|line| **line != begin);
    lines.next()?;
    Some(lines.take_while(|line| **line != end).map(str::to_owned).collect())
}

/// Returns the text without the lines of a root. Where somebody took the mark
/// at their end away, what follows the begin goes as far as it is what was put in.
fn without_lines(text: &str, root: &Utf8PathBuf, lines: &[String]) -> String {
    let (begin, end) = marks(root);
    let mut kept = String::new();
    let mut rest: Vec<&str> = text.split_inclusive('\n').collect();
    let bare = |line: &str| line.trim_end_matches('\n').to_owned();
    while let Some(at) = rest.iter().position(|line| bare(line) == begin) {
        kept.extend(rest.drain(..at));
        rest.remove(0);
        let last = rest.iter().position(|line| bare(line) == end);
        let next = rest.iter().position(|line| bare(line) == begin);
        let until = match (last, next) {
            (Some(last), next) if next.is_none_or(|next| last < next) => last + 1,
            _ => rest.iter().take_while(|line| lines.contains(&bare(line))).count(),
        };
        rest.drain(..until);
    }
    kept.extend(rest);
    kept
}
