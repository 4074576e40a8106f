//! Kinds of values that settings take, and how text becomes one.

use serde_json::{Map, Value};

/// A kind of value. `accept` turns what stands in `kdk.yml` into the one form
/// in which the value is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// true or false; `yes`, `no`, `on` and `off` are understood.
    Bool,
    /// A whole number in a range.
    Int(u64, u64),
    /// A TCP port.
    Port,
    /// Text on one line.
    Text,
    /// Text on one line, or nothing.
    Secret,
    /// PEM blocks, on several lines; private.
    Pem,
    /// A host name or an IP address.
    Host,
    /// A path; a relative one counts from the root.
    Path,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A list of texts.
    List,
    /// A list of maps.
    Maps,
    /// A map, kept as it is.
    Map,
}

impl Kind {
    /// Returns the kind's name for people.
    pub fn name(self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Int(low, high) => format!("a whole number from {low} to {high}"),
            Self::Port => "a port from 1 to 65535".to_owned(),
            Self::Text | Self::Secret => "text on one line".to_owned(),
            Self::Pem => "a PEM block (-----BEGIN …)".to_owned(),
            Self::Host => "a host name or an IP address".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List => "a list of strings".to_owned(),
            Self::Maps => "a list of maps".to_owned(),
            Self::Map => "a map".to_owned(),
        }
    }

    /// Returns the value in its one form.
    ///
    /// # Errors
    /// When it is not of this kind; what would be is [`Kind::name`].
    pub fn accept(self, value: &Value) -> Result<Value, WrongKind> {
        let text = match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let accepted = match self {
            Self::Bool => match value {
                Value::Bool(_) => Some(value.clone()),
                Value::String(word) => boolean(word).map(Value::Bool),
                _ => None,
            },
            Self::Int(low, high) => integer(value)
                .filter(|number| (low..=high).contains(number))
                .map(Value::from),
            Self::Port => integer(value)
                .filter(|port| (1..=65_535).contains(port))
                .map(Value::from),
            Self::Text | Self::Secret => text.filter(|text| one_line(text)).map(Value::from),
            // GitLab's documents write it in one line.
            Self::Pem => text
                .map(|text| text.replace("\\n", "\n"))
                .filter(|text| text.trim_start().starts_with("-----BEGIN "))
                .map(Value::from),
            Self::Host => text.filter(|text| is_host(text)).map(Value::from),
            Self::Path => text.filter(|text| !text.is_empty() && one_line(text)).map(Value::from),
            Self::Choice(words) => {
                let word = if let Value::Bool(flag) = value {
                    Some(flag.to_string())
                } else {
                    text
                };
                word.filter(|word| words.contains(&word.as_str())).map(Value::from)
            }
            Self::List => match value {
                Value::Array(items) => items
                    .iter()
                    .map(|item| Self::Text.accept(item).ok())
                    .collect::<Option<Vec<_>>>()
                    .map(Value::Array),
                _ => None,
            },
            Self::Maps => value
                .as_array()
                .filter(|items| items.iter().all(Value::is_object))
                .map(|_| value.clone()),
            Self::Map => value.is_object().then(|| value.clone()),
        };
        accepted.ok_or(WrongKind { wanted: self })
    }

    /// Reads a value as it is typed on a command line.
    ///
    /// # Errors
    /// When it is not of this kind.
    pub fn parse(self, text: &str) -> Result<Value, WrongKind> {
        let wrong = WrongKind { wanted: self };
        let value = match self {
            Self::List if !text.trim_start().starts_with('[') => Value::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(Value::from)
                    .collect(),
            ),
            Self::List | Self::Maps | Self::Map => serde_yaml::from_str::<Value>(text).map_err(|_| wrong)?,
            _ => Value::from(text),
        };
        self.accept(&value)
    }

    /// Returns the JSON schema of values of this kind.
    pub fn schema(self) -> Value {
        use serde_json::json;
        match self {
            Self::Bool => json!({"type": "boolean"}),
            Self::Int(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
            Self::Port => json!({"type": "integer", "minimum": 1, "maximum": 65535}),
            Self::Text | Self::Secret | Self::Pem | Self::Path | Self::Host => json!({"type": "string"}),
            Self::Choice(words) => {
                let mut all: Vec<Value> = words.iter().copied().map(Value::from).collect();
                all.extend(
                    words
                        .iter()
                        .filter_map(|word| word.parse::<bool>().ok())
                        .map(Value::from),
                );
                json!({"enum": all})
            }
            Self::List => json!({"type": "array", "items": {"type": "string"}}),
            Self::Maps => json!({"type": "array", "items": {"type": "object"}}),
            Self::Map => json!({"type": "object"}),
        }
    }
}

/// A value of the wrong kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongKind {
    /// The kind that it should be of.
    pub wanted: Kind,
}

fn boolean(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Reads a whole number; as text only in its plain form (`007` is none).
fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok().filter(|number: &u64| number.to_string() == *text),
        _ => None,
    }
}

fn one_line(text: &str) -> bool {
    !text.contains(|c: char| c.is_control())
}

fn is_host(text: &str) -> bool {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    if let Some(bare) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return bare.parse::<std::net::Ipv6Addr>().is_ok();
    }
    // No name of DNS ends like an address (RFC 1123, section 2.1).
    let last = text.rsplit('.').next().unwrap_or(text);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Rust types that values are read as.
pub trait FromValue: Sized {
    /// Reads a value that its kind has accepted.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl FromValue for u16 {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_u64().and_then(|number| number.try_into().ok())
    }
}

impl FromValue for u64 {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        if value.is_null() {
            Some(None)
        } else {
            T::from_value(value).map(Some)
        }
    }
}

impl FromValue for Vec<String> {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(String::from_value).collect()
    }
}

impl FromValue for Vec<Value> {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_array().cloned()
    }
}

impl FromValue for Map<String, Value> {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_object().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_kind() {
        for (kind, text, expected) in [
            (Kind::Bool, "yes", Some(Value::from(true))),
            (Kind::Bool, "fals", None),
            (Kind::Port, "5100", Some(Value::from(5100))),
            (Kind::Port, "0", None),
            (Kind::Port, "65536", None),
            (Kind::Port, "007", None),
            (Kind::Host, "kdk.test", Some(Value::from("kdk.test"))),
            (Kind::Host, "::1", Some(Value::from("::1"))),
            (Kind::Host, "a b", None),
            (Kind::Host, "x\nregistry: evil", None),
            (Kind::Text, "5.10", Some(Value::from("5.10"))),
            (Kind::List, "a, b", Some(serde_json::json!(["a", "b"]))),
            (Kind::Map, "{a: 1}", Some(serde_json::json!({"a": 1}))),
            (
                Kind::Choice(&["true", "false", "prefer"]),
                "prefer",
                Some(Value::from("prefer")),
            ),
        ] {
            assert_eq!(kind.parse(text).ok(), expected, "{text}");
        }
    }
}
