//! The settings that the last reconfigure applied, so that the next one can
//! say what changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Action, Plan};
use crate::config::settings::{self, Setting};
use crate::config::{Config, redact::redact};
use crate::sys::fs::{PRIVATE, read_optional, write_atomic};

/// Version of the file's format.
const VERSION: u32 = 1;
/// Version of this kdk.
const OWN: &str = env!("CARGO_PKG_VERSION");

/// Settings as they counted, by key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Applied {
    version: u32,
    /// Version of the kdk that applied them.
    #[serde(default)]
    kdk: String,
    /// Where the root was; what was rendered names places below that.
    #[serde(default)]
    root: Option<Utf8PathBuf>,
    /// Where the images were.
    #[serde(default)]
    storage: Option<Utf8PathBuf>,
    /// Texts that people read.
    settings: BTreeMap<String, String>,
    /// Those that stood in `kdk.yml`.
    given: BTreeSet<String>,
    /// The hashes of files that are kdk's alone, as it wrote them.
    #[serde(default)]
    files: BTreeMap<Utf8PathBuf, String>,
}

/// One setting that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub key: &'static str,
    /// What it was.
    pub from: String,
    /// What it is.
    pub to: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |text: &str| match text {
            "" => "nothing".to_owned(),
            text if text.starts_with("sha256:") => "(secret)".to_owned(),
            text => text.to_owned(),
        };
        let (from, to) = (shown(&self.from), shown(&self.to));
        let long = from.chars().count() + to.chars().count() > 60 || from.contains('\n') || to.contains('\n');
        if from == to || long {
            f.write_str(self.key)
        } else {
            write!(f, "{} {from} → {to}", self.key)
        }
    }
}

/// Returns the hashes of the files that nobody but kdk writes.
fn written(config: &Config, plan: &Plan) -> BTreeMap<Utf8PathBuf, String> {
    let root = config.root();
    let own = [root.registry_config(), root.front(), root.stand_in()];
    let files = plan.files.iter().filter(|file| own.contains(&file.path));
    files
        // What is protected is somebody else's.
        .filter(|file| file.action != Action::Protected)
        .map(|file| (file.path.clone(), hash(&file.new)))
        .collect()
}

fn hash(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}

/// Writes a value as a person would; a secret as its hash.
fn text(setting: &Setting, value: &Value) -> String {
    let plain = match value {
        Value::Null => String::new(),
        Value::String(text) if setting.is_secret() => text.clone(),
        Value::String(_) => redact(value).as_str().unwrap_or_default().to_owned(),
        other if setting.is_secret() => other.to_string(),
        other => redact(other).to_string(),
    };
    if setting.is_secret() && !plain.is_empty() {
        format!("sha256:{}", hash(&plain))
    } else {
        plain
    }
}

impl Applied {
    /// Takes down the settings as they count now, and the files as they are
    /// written for them.
    pub fn of(config: &Config, plan: &Plan) -> Self {
        Self {
            version: VERSION,
            kdk: OWN.to_owned(),
            root: Some(config.root().path().to_owned()),
            storage: config.registry_storage_path(),
            settings: settings::all()
                .map(|setting| (setting.key.to_owned(), text(setting, &config.value(setting))))
                .collect(),
            given: settings::all()
                .map(|setting| setting.key)
                .filter(|key| config.is_given(key))
                .map(str::to_owned)
                .collect(),
            files: written(config, plan),
        }
    }

    /// Returns the version of the kdk that applied them, when it is a later one
    /// than this.
    pub fn later_kdk(&self) -> Option<&str> {
        let numbers = |version: &str| -> Vec<u64> {
            let parts = version.split(['.', '-', '+']);
            parts.map_while(|part| part.parse().ok()).collect()
        };
        (numbers(&self.kdk) > numbers(OWN)).then_some(&*self.kdk)
    }

    /// Returns where the root was, when it is elsewhere now.
    pub fn elsewhere(&self, config: &Config) -> Option<&Utf8Path> {
        self.root.as_deref().filter(|root| *root != config.root().path())
    }

    /// Returns where the images were, when the registry looks elsewhere now.
    pub fn other_storage(&self, config: &Config) -> Option<&Utf8Path> {
        let now = config.registry_storage_path();
        self.storage.as_deref().filter(|was| now.as_deref() != Some(was))
    }

    /// Takes down the files alone: what comes after them failed.
    #[must_use]
    pub fn with_files(self, config: &Config, plan: &Plan) -> Self {
        Self {
            files: written(config, plan),
            ..self
        }
    }

    /// Returns the files that somebody else changed since, and that would be
    /// written anew.
    pub fn edited(&self, plan: &Plan) -> Vec<Utf8PathBuf> {
        let files = plan.files.iter().filter(|file| file.action == Action::Update);
        files
            .filter(|file| {
                self.files
                    .get(&file.path)
                    .is_some_and(|known| *known != hash(&file.old))
            })
            .map(|file| file.path.clone())
            .collect()
    }

    /// Returns what was applied last; nothing where that is not known.
    pub fn load(config: &Config) -> Option<Self> {
        let text = read_optional(&config.root().applied()).ok()??;
        serde_json::from_str::<Self>(&text)
            .ok()
            .filter(|applied| applied.version == VERSION)
    }

    /// Keeps it for the next time.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, config: &Config) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        write_atomic(&config.root().applied(), text.as_bytes(), PRIVATE)?;
        // Backups are of what was there before a change.
        write_atomic(&config.root().kdk_yml_applied(), config.text().as_bytes(), PRIVATE)
    }

    /// Returns which settings in `kdk.yml`, now or before, count otherwise
    /// than they did; what only follows from them is not named.
    pub fn changes(&self, config: &Config) -> Vec<Change> {
        settings::all()
            .filter(|setting| self.given.contains(setting.key) || config.is_given(setting.key))
            .filter_map(|setting| {
                // A setting that a newer kdk brought has changed from nothing.
                let from = self.settings.get(setting.key).cloned().unwrap_or_default();
                let to = text(setting, &config.value(setting));
                (from != to).then_some(Change {
                    key: setting.key,
                    from,
                    to,
                })
            })
            .collect()
    }

    /// Says whether any of these settings counts otherwise than it did.
    pub fn differs(&self, config: &Config, keys: &[&str]) -> bool {
        settings::all()
            .filter(|setting| keys.contains(&setting.key))
            .any(|setting| self.settings.get(setting.key) != Some(&text(setting, &config.value(setting))))
    }
}
