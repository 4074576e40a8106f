//! The one declaration per setting, and everything that is known of one.
//!
//! `settings!` takes declarations and yields a table and a typed reader
//! per setting; parsing, `kdk config`, the example file, the schema, the
//! reference page and completion are folds over the table.

use serde_json::Value;

use super::Config;
use super::types::Kind;

/// A setting of `kdk.yml`.
pub struct Setting {
    /// Its key, such as `registry.port`.
    pub key: &'static str,
    /// What it is for; one or more sentences.
    pub doc: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What the default is computed from; empty when it is fixed.
    pub computed_from: &'static str,
    /// The value when `kdk.yml` gives none. Null: there is none.
    pub default: fn(&Config) -> Value,
}

impl Setting {
    /// Returns the section's path, empty for a setting at the top.
    pub fn section(&self) -> &'static str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Returns the last part of the key.
    pub fn name(&self) -> &'static str {
        self.key.rsplit_once('.').map_or(self.key, |(_, name)| name)
    }

    /// Says whether the value must not be shown unasked.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::Pem)
    }
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key)
    }
}

/// Declares a group of settings: a reader, a type, a key, a kind, a default.
///
/// `from "…"` names what a computed default depends on.
macro_rules! settings {
    ($table:ident; $($(#[doc = $doc:literal])+ $reader:ident: $type:ty = $key:literal, $kind:expr, $(from $from:literal)? |$config:pat_param| $default:expr;)+) => {
        /// The settings of this group, in the order of the documents.
        pub static $table: &[$crate::config::settings::Setting] = &[$($crate::config::settings::Setting {
            key: $key,
            doc: concat!($($doc, "\n"),+),
            kind: $kind,
            computed_from: concat!($($from)?),
            default: |$config| ::serde_json::json!($default),
        },)+];

        impl $crate::config::Config {
            $($(#[doc = $doc])+
            pub fn $reader(&self) -> $type {
                self.read($key)
            })+
        }
    };
}
pub(super) use settings;

/// Returns every setting, in the order of the documents.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    super::schema::GROUPS.iter().copied().flatten()
}

/// Finds a setting by its key; `foo?` means `foo.enabled`, as in KDK.
pub fn find(key: &str) -> Option<&'static Setting> {
    let key = key
        .strip_suffix('?')
        .map_or_else(|| key.to_owned(), |section| format!("{section}.enabled"));
    all().find(|setting| setting.key == key)
}

/// Says whether a setting is a key's own, stands in its section, or holds it.
pub fn is_related(setting: &str, key: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    within(setting, key) || within(key, setting)
}

/// Finds the setting that is a map and holds a key inside it.
pub fn map_around(key: &str) -> Option<&'static Setting> {
    all().find(|setting| {
        setting.kind == Kind::Map && key.strip_prefix(setting.key).is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Says whether a key is a section.
pub fn is_section(key: &str) -> bool {
    all().any(|setting| setting.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// Returns the known key nearest to an unknown one.
pub fn nearest(key: &str) -> Option<&'static str> {
    // What Rails listens on stands at the top.
    if let Some(own) = key.strip_prefix("rails.").and_then(find) {
        return Some(own.key);
    }
    let last = key.rsplit('.').next().unwrap_or(key);
    all()
        .map(|setting| {
            let whole = strsim::damerau_levenshtein(key, setting.key);
            // The right name in the wrong section is a near miss as well.
            let moved = if setting.name() == last && last.len() > 3 {
                2
            } else {
                usize::MAX
            };
            (whole.min(moved), setting.key)
        })
        .filter(|(distance, known)| *distance <= (known.len() / 4).clamp(1, 3))
        .min()
        .map(|(_, known)| known)
}
