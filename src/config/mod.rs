//! `kdk.yml`: settings, their defaults, where each value comes from.
//!
//! The file is parsed once, checked wholly against the table of settings,
//! and then read lazily: a default may depend on other settings.

pub mod edit;
mod elsewhere;
pub mod generate;
mod others;
pub mod redact;
pub mod schema;
pub mod settings;
pub mod storage;
pub mod text;
pub mod types;
mod validate;

use std::fmt;
use std::io;

use camino::Utf8PathBuf;
use serde_json::{Map, Value};

use crate::root::Root;
use settings::Setting;
use types::FromValue;

/// A place in a file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column in characters.
    pub column: usize,
}

/// Why `kdk.yml` cannot be used. Every problem names file, line and column.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no YAML, or no map.
    #[error("{path}{}: {reason}", position.map(At).unwrap_or_default())]
    Yaml {
        /// The file.
        path: Utf8PathBuf,
        /// Where.
        position: Option<Position>,
        /// What the parser says.
        reason: String,
    },
    /// Settings are wrong.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
    /// A key was asked for that is no setting.
    #[error("there is no setting {key:?}")]
    UnknownKey {
        /// The key.
        key: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// There is no file, in a directory whose services were started by one.
    #[error("{path} is gone")]
    Gone {
        /// The file.
        path: Utf8PathBuf,
        /// What it was when it was applied last.
        backup: Option<Utf8PathBuf>,
    },
    /// The file changed while it was being edited.
    #[error("{0} changed meanwhile; nothing was written")]
    Changed(Utf8PathBuf),
    /// The edit would not have given what was asked for.
    #[error("{path} cannot be edited automatically ({reason}); nothing was written")]
    NotEditable {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        reason: String,
    },
}

#[derive(Default)]
struct At(Position);

impl Default for Position {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}:{}", self.0.line, self.0.column)
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: Utf8PathBuf,
    /// Where in it, when it stands there.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if let Some(position) = self.position {
            write!(f, "{}", At(position))?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `kdk.yml`, at this line.
    File(usize),
    /// Computed from other settings.
    Computed(&'static str),
    /// The default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(line) => write!(f, "kdk.yml:{line}"),
            Self::Computed(from) => write!(f, "computed from {from}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The settings of a root.
#[derive(Clone, Debug)]
pub struct Config {
    root: Root,
    text: String,
    tree: Map<String, Value>,
}

impl Config {
    /// Loads and checks a root's `kdk.yml`.
    ///
    /// # Errors
    /// When it cannot be read, is no YAML, or holds wrong settings.
    pub fn load(root: &Root) -> Result<Self, ConfigError> {
        Self::parse(root, Self::text_of(root)?)
    }

    /// Reads the text of a root's `kdk.yml`.
    ///
    /// # Errors
    /// When it is gone, or cannot be read.
    pub fn text_of(root: &Root) -> Result<String, ConfigError> {
        let path = root.kdk_yml();
        crate::sys::fs::read_optional(&path)?.ok_or_else(|| {
            let backup = Some(root.kdk_yml_applied()).filter(|applied| applied.exists());
            ConfigError::Gone { path, backup }
        })
    }

    /// Says what is wrong with the settings.
    pub fn problems(&self) -> Vec<Problem> {
        validate::problems(self)
    }

    /// Checks what these settings are to become: right, or with fewer mistakes
    /// and no new one.
    ///
    /// # Errors
    /// When it is no YAML, or not better.
    pub fn check_edited(&self, text: &str) -> Result<(), ConfigError> {
        let before = self.problems();
        let left = Self::parse_unchecked(&self.root, text.to_owned())?.problems();
        let is_new = |problem: &Problem| before.iter().all(|old| old.message != problem.message);
        if left.is_empty() || left.len() < before.len() && !left.iter().any(is_new) {
            return Ok(());
        }
        Err(ConfigError::Problems(left))
    }

    /// Reads and checks settings from text.
    ///
    /// # Errors
    /// When it is no YAML or holds wrong settings.
    pub fn parse(root: &Root, text: String) -> Result<Self, ConfigError> {
        let config = Self::parse_unchecked(root, text)?;
        let problems = config.problems();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Problems(problems))
        }
    }

    /// Reads settings from text without judging them.
    pub(crate) fn parse_unchecked(root: &Root, text: String) -> Result<Self, ConfigError> {
        let error = |position, reason| ConfigError::Yaml {
            path: root.kdk_yml(),
            position,
            reason,
        };
        let mut tree: serde_yaml::Value = serde_yaml::from_str(text::without_mark(&text)).map_err(|failure| {
            let reason = failure.to_string();
            // Of a key that is there twice the parser names the section.
            let second = if reason.contains("duplicate entry") {
                text::duplicate(&text)
            } else {
                None
            };
            let place = second.or_else(|| failure.location().map(|place| (place.line(), place.column())));
            let position = place.map(|(line, column)| Position { line, column });
            // The place stands before the message already.
            let reason = reason.split(" at line ").next().unwrap_or(&reason).to_owned();
            error(
                position,
                format!("not valid YAML: {reason}; mend it with: kdk config edit"),
            )
        })?;
        tree.apply_merge().map_err(|failure| error(None, failure.to_string()))?;
        let tree = match serde_json::to_value(&tree) {
            Ok(Value::Object(map)) => map,
            Ok(Value::Null) => Map::new(),
            Ok(_) => {
                return Err(error(
                    Some(Position::default()),
                    "kdk.yml must be a map of settings".to_owned(),
                ));
            }
            Err(_) => return Err(error(None, "every key must be text".to_owned())),
        };
        Ok(Self {
            root: root.clone(),
            text,
            tree,
        })
    }

    /// Returns settings that are all at their defaults.
    pub fn defaults(root: &Root) -> Self {
        Self {
            root: root.clone(),
            text: String::new(),
            tree: Map::new(),
        }
    }

    /// Returns settings at their defaults that stand for a text which cannot be read.
    pub(crate) fn with_text(self, text: String) -> Self {
        Self { text, ..self }
    }

    /// Returns the root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Returns the file's text as it was loaded.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns what stands in the file under a key, unless that is null.
    fn given(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let mut node = self.tree.get(parts.next()?)?;
        for part in parts {
            node = node.get(part)?;
        }
        (!node.is_null()).then_some(node)
    }

    /// Returns the effective value of a setting; null when it has none.
    pub fn value(&self, setting: &Setting) -> Value {
        self.given(setting.key)
            .and_then(|value| setting.kind.accept(value).ok())
            .unwrap_or_else(|| (setting.default)(self))
    }

    fn read<T: FromValue>(&self, key: &'static str) -> T {
        let setting = settings::find(key).expect("readers are declared with their setting");
        T::from_value(&self.value(setting)).expect("a setting's reader has the type of its kind and default")
    }

    /// Says where a setting's value comes from.
    pub fn origin(&self, setting: &Setting) -> Origin {
        match self.given(setting.key) {
            Some(_) => Origin::File(edit::position(&self.text, setting.key).map_or(1, |position| position.line)),
            None if setting.computed_from.is_empty() => Origin::Default,
            None => Origin::Computed(setting.computed_from),
        }
    }

    /// Says whether the file gives a value for a key.
    pub fn is_given(&self, key: &str) -> bool {
        self.given(key).is_some()
    }

    /// Returns the file's sections that this tool does not manage.
    pub fn unmanaged(&self) -> Vec<&str> {
        self.tree
            .keys()
            .map(String::as_str)
            .filter(|key| settings::find(key).is_none() && !schema::SECTIONS.contains(key))
            .collect()
    }

    /// Returns `http://host:port/relative` of KhulnaSoft.
    pub fn url(&self) -> String {
        let scheme = if self.https_enabled() { "https" } else { "http" };
        let root = self.relative_url_root();
        let root = root.trim_matches('/');
        let separator = if root.is_empty() { "" } else { "/" };
        format!(
            "{scheme}://{}{separator}{root}",
            crate::sys::net::host_port(&self.hostname(), self.port())
        )
    }

    /// Returns the scheme that the registry itself speaks.
    pub fn registry_scheme(&self) -> &'static str {
        if self.registry_self_signed() { "https" } else { "http" }
    }

    /// Returns `host:port` with which images are named.
    pub fn registry_address(&self) -> String {
        match self.registry_external_url().and_then(|url| url::Url::parse(&url).ok()) {
            Some(url) => {
                let host = url.host_str().unwrap_or_default().to_owned();
                url.port().map_or(host.clone(), |port| format!("{host}:{port}"))
            }
            None => crate::sys::net::host_port(&self.registry_host(), self.registry_port()),
        }
    }

    /// Returns the directory of the images; nothing where they are elsewhere.
    pub fn registry_storage_path(&self) -> Option<Utf8PathBuf> {
        if self.registry_is_elsewhere() {
            return None;
        }
        let given = self.registry_storage();
        storage::directory(given.as_ref(), self.registry_path()).map(|path| self.path(&path))
    }

    /// Says whether clients see the certificate that kdk makes.
    pub fn clients_see_own_certificate(&self) -> bool {
        self.registry_self_signed() && self.registry_external_url().is_none()
    }

    /// Returns `scheme://host[:port]` by which clients reach the registry.
    pub fn registry_url(&self) -> String {
        self.registry_external_url().map_or_else(
            || format!("{}://{}", self.registry_scheme(), self.registry_address()),
            |url| url.trim_end_matches('/').to_owned(),
        )
    }

    /// Says whether the built-in registry runs, and not another one.
    pub fn registry_is_embedded(&self) -> bool {
        self.registry_bin().is_none()
            && self.registry_image().is_none()
            && self.registry_version() == "embedded"
            && self.registry_mode() == "embedded"
    }

    /// Returns the certificate and the key of KhulnaSoft's own HTTPS.
    pub fn https_pair(&self) -> (Utf8PathBuf, Utf8PathBuf) {
        (self.path(&self.https_certificate()), self.path(&self.https_key()))
    }

    /// Says whether clients get tokens at the registry's own address, which
    /// sends their requests on to the token service.
    pub fn registry_forwards(&self) -> bool {
        self.registry_is_embedded() && self.registry_auth_enabled() && !self.is_given("registry.token_realm")
    }

    /// Says whether another registry than the built-in one stands behind a
    /// front, which holds the address and hands out tokens there.
    pub fn registry_has_front(&self) -> bool {
        self.runs_registry()
            && !self.registry_is_embedded()
            && self.registry_front()
            && self.registry_auth_enabled()
            && !self.is_given("registry.token_realm")
    }

    /// Says whether another registry than the built-in one must be told of
    /// KhulnaSoft's own certificate, to deliver its notifications.
    pub fn registry_needs_bundle(&self) -> bool {
        self.runs_registry() && !self.registry_is_embedded() && self.https_enabled() && self.rails_mode() == "embedded"
    }

    /// Says whether clients get tokens at the registry's own address.
    pub fn has_one_origin(&self) -> bool {
        self.registry_forwards() || self.registry_has_front()
    }

    /// Returns where the registry itself reaches the token service.
    pub fn token_service_url(&self) -> String {
        if self.rails_mode() != "embedded" {
            return format!("{}/jwt/auth", self.rails_url().trim_end_matches('/'));
        }
        let listen = self.listen_address();
        let host = match listen.as_str() {
            // It listens on both families there.
            "0.0.0.0" | "::" | "[::]" => "127.0.0.1".to_owned(),
            // The certificate has these names only.
            other if self.https_enabled() && !["localhost", "127.0.0.1"].contains(&other) => self.hostname(),
            other => other.to_owned(),
        };
        let root = self.relative_url_root();
        let root = root.trim_matches('/');
        let separator = if root.is_empty() { "" } else { "/" };
        let scheme = if self.https_enabled() { "https" } else { "http" };
        format!(
            "{scheme}://{}{separator}{root}/jwt/auth",
            crate::sys::net::host_port(&host, self.port())
        )
    }

    /// Returns the path of a setting that may be relative to the root.
    pub fn path(&self, value: &str) -> Utf8PathBuf {
        if let (Some(rest), Some(home)) = (value.strip_prefix("~/"), crate::sys::env::home()) {
            return home.join(rest);
        }
        self.root.join(value)
    }
}
