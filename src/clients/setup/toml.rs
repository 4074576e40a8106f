//! Changes of TOML files, with all that others wrote in them kept.

use serde::{Deserialize, Serialize};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

/// What a TOML file is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toml {
    /// All that follows stands in each table of this list of tables.
    #[serde(default)]
    pub each: Option<String>,
    /// Values that keys have.
    #[serde(default)]
    pub sets: Vec<Set>,
    /// Values that keys have where they have none.
    #[serde(default)]
    pub defaults: Vec<Set>,
    /// What lists hold beside what others put there.
    #[serde(default)]
    pub adds: Vec<Add>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// Where it stands: the tables, and the key.
    pub at: Vec<String>,
    /// What it is: a boolean, a whole number, a text, or a list of texts.
    pub value: serde_json::Value,
}

/// A list, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add {
    /// Where it stands: the tables, and the key.
    pub at: Vec<String>,
    /// What it holds.
    pub values: Vec<String>,
    /// Whether these are mounts: one that others put at the same place stays alone there.
    #[serde(default)]
    pub are_mounts: bool,
}

impl Toml {
    /// Sets a key.
    #[must_use]
    pub fn set(mut self, at: &[&str], value: impl Into<serde_json::Value>) -> Self {
        self.sets.push(Set {
            at: owned(at),
            value: value.into(),
        });
        self
    }

    /// Sets a key where it is not set.
    #[must_use]
    pub fn default_to(mut self, at: &[&str], value: impl Into<serde_json::Value>) -> Self {
        self.defaults.push(Set {
            at: owned(at),
            value: value.into(),
        });
        self
    }

    /// Adds to a list.
    #[must_use]
    pub fn add(mut self, at: &[&str], values: Vec<String>) -> Self {
        self.adds.push(Add {
            at: owned(at),
            values,
            are_mounts: false,
        });
        self
    }

    /// Adds to a list of mounts.
    #[must_use]
    pub fn mount(mut self, at: &[&str], values: Vec<String>) -> Self {
        self.adds.push(Add {
            at: owned(at),
            values,
            are_mounts: true,
        });
        self
    }

    /// Returns the text with what is to be in it.
    ///
    /// # Errors
    /// A reason with the line, where the text is no TOML, or a table no table.
    pub fn put(&self, text: &str) -> Result<String, String> {
        let mut document = parse(text)?;
        if let Some(name) = self.each.as_ref().filter(|name| document.get(name).is_none()) {
            document.insert(name, Item::ArrayOfTables([Table::new()].into_iter().collect()));
        }
        self.in_each(&mut document, |table| {
            for set in &self.sets {
                let (tables, key) = split(&set.at);
                let table = reach(table, tables, true)?.ok_or("it cannot be changed")?;
                let value = value_of(&set.value);
                if table.get(key).is_none_or(|there| !is(there, &value)) {
                    table.insert(key, Item::Value(value));
                }
            }
            for set in &self.defaults {
                let (tables, key) = split(&set.at);
                let table = reach(table, tables, true)?.ok_or("it cannot be changed")?;
                if table.get(key).is_none() {
                    table.insert(key, Item::Value(value_of(&set.value)));
                }
            }
            for add in &self.adds {
                let (tables, key) = split(&add.at);
                let table = reach(table, tables, true)?.ok_or("it cannot be changed")?;
                let list = table.entry(key).or_insert(Item::Value(Array::new().into()));
                let name = add.at.join(".");
                let list = list.as_array_mut().ok_or_else(|| format!("{name} is no list"))?;
                for value in &add.values {
                    let is_there = |there: &str| there == value || (add.are_mounts && place(there) == place(value));
                    if !list.iter().filter_map(Value::as_str).any(is_there) {
                        list.push(value.as_str());
                    }
                }
            }
            Ok(())
        })?;
        Ok(document.to_string())
    }

    /// Returns the text without what was put into `before`.
    ///
    /// # Errors
    /// A reason with the line, where the text is no TOML.
    pub fn take(&self, text: &str, before: &str) -> Result<String, String> {
        let mut document = parse(text)?;
        let mut old = parse(before).unwrap_or_default();
        self.in_each(&mut document, |table| {
            let old = self.counterpart(table, &mut old);
            let mut old = old;
            let mut was = |at: &[String]| -> Option<Item> {
                let (tables, key) = split(at);
                let table = reach(&mut **old.as_mut()?, tables, false).ok()??;
                table.get(key).cloned()
            };
            for set in self.sets.iter().chain(&self.defaults) {
                let (tables, key) = split(&set.at);
                let before = was(&set.at);
                let Some(table) = reach(table, tables, false)? else {
                    continue;
                };
                if table.get(key).is_some_and(|there| is(there, &value_of(&set.value))) {
                    match before {
                        Some(before) => table.insert(key, before),
                        None => table.remove(key),
                    };
                }
            }
            for add in &self.adds {
                let (tables, key) = split(&add.at);
                let before = was(&add.at);
                let Some(table) = reach(table, tables, false)? else {
                    continue;
                };
                let Some(list) = table.get_mut(key).and_then(Item::as_array_mut) else {
                    continue;
                };
                let kept = before.as_ref().and_then(Item::as_array);
                let is_kept =
                    |value: &str| kept.is_some_and(|kept| kept.iter().any(|there| there.as_str() == Some(value)));
                list.retain(|there| {
                    there
                        .as_str()
                        .is_none_or(|text| is_kept(text) || !add.values.iter().any(|value| value == text))
                });
                if list.is_empty() && before.is_none() {
                    table.remove(key);
                }
            }
            let places = self.sets.iter().chain(&self.defaults).map(|set| &set.at);
            for at in places.chain(self.adds.iter().map(|add| &add.at)) {
                prune(table, split(at).0);
            }
            Ok(())
        })?;
        Ok(document.to_string())
    }

    /// Does something in each table that is meant.
    fn in_each(
        &self,
        document: &mut DocumentMut,
        mut change: impl FnMut(&mut dyn TableLike) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(name) = &self.each else {
            return change(document.as_table_mut());
        };
        let Some(item) = document.get_mut(name) else {
            return Ok(());
        };
        let tables = item.as_array_of_tables_mut();
        let tables = tables.ok_or_else(|| format!("{name} is no list of tables"))?;
        tables.iter_mut().try_for_each(|table| change(table))
    }

    /// Returns what a table was before: the one of the same token, or name.
    fn counterpart<'a>(&self, table: &dyn TableLike, old: &'a mut DocumentMut) -> Option<&'a mut dyn TableLike> {
        let Some(name) = &self.each else {
            return Some(old.as_table_mut());
        };
        let text = |table: &dyn TableLike, key: &str| table.get(key).and_then(Item::as_str).map(str::to_owned);
        let key = ["token", "name"].into_iter().find(|key| table.contains_key(key))?;
        let wanted = text(table, key);
        let tables = old.get_mut(name).and_then(Item::as_array_of_tables_mut)?;
        let found = tables.iter_mut().find(|table| text(*table, key) == wanted)?;
        Some(found)
    }
}

/// Returns where in a container something is mounted.
fn place(mount: &str) -> &str {
    let mut parts = mount.split(':');
    let first = parts.next().unwrap_or_default();
    parts.next().unwrap_or(first)
}

fn owned(at: &[&str]) -> Vec<String> {
    at.iter().map(|part| (*part).to_owned()).collect()
}

fn split(at: &[String]) -> (&[String], &str) {
    at.split_last()
        .map_or((&[], ""), |(key, tables)| (tables, key.as_str()))
}

fn parse(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let line = line.map(|line| format!(" at line {line}")).unwrap_or_default();
        format!("{}{line}", error.message())
    })
}

/// Returns the table at a place; makes it where it is not there and may be made.
fn reach<'a>(
    table: &'a mut dyn TableLike,
    path: &[String],
    make: bool,
) -> Result<Option<&'a mut dyn TableLike>, String> {
    let mut table = table;
    for (number, name) in path.iter().enumerate() {
        if table.get(name).is_none() {
            if !make {
                return Ok(None);
            }
            let mut new = Table::new();
            // Only the innermost has a head of its own.
            new.set_implicit(number + 1 < path.len());
            table.insert(name, Item::Table(new));
        }
        let inner = table.get_mut(name).and_then(Item::as_table_like_mut);
        table = inner.ok_or_else(|| format!("{} is no table", path[..=number].join(".")))?;
    }
    Ok(Some(table))
}

/// Takes out tables in which nothing is left.
fn prune(table: &mut dyn TableLike, path: &[String]) {
    for length in (1..=path.len()).rev() {
        let (parents, name) = split(&path[..length]);
        if let Ok(Some(parent)) = reach(table, parents, false)
            && parent
                .get(name)
                .and_then(Item::as_table_like)
                .is_some_and(TableLike::is_empty)
        {
            parent.remove(name);
        }
    }
}

fn value_of(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Bool(flag) => (*flag).into(),
        serde_json::Value::Number(number) => number.as_i64().unwrap_or_default().into(),
        serde_json::Value::Array(list) => list
            .iter()
            .filter_map(serde_json::Value::as_str)
            .collect::<Array>()
            .into(),
        other => other.as_str().unwrap_or_default().into(),
    }
}

/// Says whether a key has a value, however it is written.
fn is(there: &Item, value: &Value) -> bool {
    let texts = |array: &Array| -> Vec<Option<String>> {
        array.iter().map(|value| value.as_str().map(str::to_owned)).collect()
    };
    match (there.as_value(), value) {
        (Some(Value::String(there)), Value::String(value)) => there.value() == value.value(),
        (Some(Value::Boolean(there)), Value::Boolean(value)) => there.value() == value.value(),
        (Some(Value::Integer(there)), Value::Integer(value)) => there.value() == value.value(),
        (Some(Value::Array(there)), Value::Array(value)) => texts(there) == texts(value),
        _ => false,
    }
}
