//! Settings whose value is a text exactly as it is written, as Go's parsers
//! read it: a password `1e5` is no number, `True` no truth value.

use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_yaml::Value;

/// Where they stand.
const TEXTS: [&[&str]; 10] = [
    &["auth", "htpasswd", "realm"],
    &["auth", "token", "issuer"],
    &["auth", "token", "realm"],
    &["auth", "token", "service"],
    &["database", "dbname"],
    &["database", "host"],
    &["database", "password"],
    &["database", "user"],
    &["http", "host"],
    &["http", "secret"],
];

/// Reads a file's tree, in which texts are as they are written.
///
/// # Errors
///
/// When it is not YAML.
pub fn read(file: &str) -> Result<Value, serde_yaml::Error> {
    let mut tree = serde_yaml::from_str(file)?;
    restore(&mut tree, file);
    Ok(tree)
}

/// Returns the setting whose value is a number that none has, and what is wrong
/// with it. The parser's own words would repeat it, and it may be a secret.
pub fn too_large(error: &serde_yaml::Error) -> Option<(String, String)> {
    let message = error.to_string();
    let (key, rest) = message.split_once(": invalid type: integer `")?;
    let (_, kind) = rest.split_once("` as ")?;
    let reason = "is a number of more than 64 bits; if it is a text, put it into quotes";
    kind.contains("128").then(|| (key.to_owned(), reason.to_owned()))
}

/// Gives back to a tree what was read as a number or a truth value in a file.
fn restore(tree: &mut Value, file: &str) {
    for path in TEXTS {
        let node = path.iter().try_fold(&mut *tree, |node, key| node.get_mut(key));
        if let Some(node) = node
            && matches!(node, Value::Number(_) | Value::Bool(_))
            && let Ok(Some(text)) = At(path).deserialize(serde_yaml::Deserializer::from_str(file))
        {
            *node = Value::String(text);
        }
    }
}

/// Reads a variable: what is to be a text as it is, everything else as YAML. In
/// quotes, YAML's rules hold for texts, too.
pub fn of_variable(parts: &[String], text: &str) -> Value {
    let is_text = TEXTS.iter().any(|path| parts.iter().eq(path.iter()));
    if is_text && !text.is_empty() && !text.starts_with(['"', '\'']) {
        return Value::String(text.to_owned());
    }
    serde_yaml::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Finds the text of a scalar below some keys.
struct At<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            Option::deserialize(deserializer)
        } else {
            deserializer.deserialize_map(self)
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a section")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Value>()? {
            match self.0.split_first() {
                Some((first, rest)) if key.as_str() == Some(first) => found = map.next_value_seed(At(rest))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use crate::registry::config::Config;

    const STORAGE: &str = "version: 0.1\nstorage: {inmemory: {}}\nhttp:\n  addr: 127.0.0.1:5000\n";

    fn password(file: &str, environment: &[(&str, &str)]) -> Option<String> {
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let text = format!("{STORAGE}{file}");
        let config = Config::parse(Utf8Path::new("config.yml"), &text, &environment).expect("valid");
        config.database.password
    }

    #[test]
    fn a_number_too_large_is_refused_and_not_repeated() {
        let text = format!("{STORAGE}database:\n  password: {}\n", "9".repeat(30));
        let error = Config::parse(Utf8Path::new("config.yml"), &text, &[]).expect_err("too large");
        assert_eq!(
            error.to_string(),
            "config.yml:6: database.password: is a number of more than 64 bits; if it is a text, put it into quotes"
        );
    }

    #[test]
    fn texts_stay_as_they_are_written() {
        for text in [
            "1e5",
            "1.10",
            "0x1F",
            "+5",
            "True",
            "007",
            "12_3",
            ".5",
            "no",
            "99999999999999999999e9",
        ] {
            let file = format!("database:\n  user: somebody\n  password: {text}\n  port: 5432\n");
            assert_eq!(password(&file, &[]).as_deref(), Some(text));
            let file = format!("  secret: {text}\ndatabase: {{password: {text}, user: x}}\n");
            assert_eq!(password(&file, &[]).as_deref(), Some(text));
        }
        assert_eq!(password("database: {password: ~}\n", &[]), None);
        for text in ["1e5", "1.10", "True", "~", "null", "a: b", "{x}", "x #y", "@z", "5'\""] {
            let set = [("REGISTRY_DATABASE_PASSWORD", text)];
            assert_eq!(password("database: {password: x}\n", &set).as_deref(), Some(text));
            assert_eq!(password("", &set).as_deref(), Some(text));
        }
        let quoted = [("REGISTRY_DATABASE_PASSWORD", "\"a b\"")];
        assert_eq!(password("", &quoted).as_deref(), Some("a b"));
        assert_eq!(password("", &[("REGISTRY_DATABASE_PASSWORD", "")]), None);
    }
}
