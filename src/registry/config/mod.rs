//! The registry's configuration: distribution's `config.yml` and the
//! `REGISTRY_…` variables that override it.
//!
//! Unknown keys are reported, never fatal: a file written for another version
//! of the registry must start this one.

mod check;
pub mod database;
pub mod duration;
mod explain;
mod locate;
mod overrides;
mod raw;
mod texts;
mod wrong;

use camino::{Utf8Path, Utf8PathBuf};
use std::time::Duration;

use crate::registry::oci::references::Platforms;
use crate::serve::TrustedProxies;
use crate::serve::log::{Format, Level};
use crate::serve::tls::MinimumTls;
pub use database::DatabaseConfig;

/// Everything the server goes by.
#[derive(Clone, Debug)]
pub struct Config {
    /// How it logs.
    pub log: LogConfig,
    /// Where images are kept.
    pub storage: StorageConfig,
    /// Where metadata may be kept instead of in the storage.
    pub database: DatabaseConfig,
    /// How requests are authorised; nothing means all may do all.
    pub auth: Option<AuthConfig>,
    /// How it listens and answers.
    pub http: HttpConfig,
    /// Health checks.
    pub health: Vec<HealthCheck>,
    /// What manifests must be like.
    pub validation: ValidationConfig,
    /// Entries of a catalog page at most.
    pub catalog_limit: usize,
    /// Tags of a page at most.
    pub tags_limit: usize,
    /// Whether events say what a manifest refers to.
    pub include_references: bool,
    /// Where events go.
    pub endpoints: Vec<Endpoint>,
    /// Whether the storage's lock files are binding.
    pub enforce_lockfiles: bool,
    /// Whether the file speaks of Redis, which has no effect.
    pub has_redis: bool,
    /// Things in the file that have no effect, for the log.
    pub warnings: Vec<String>,
}

/// How the server logs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Least important level that is written.
    pub level: Level,
    /// How lines are written.
    pub format: Format,
    /// Fields on every line.
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// Whether requests are logged.
    pub access: bool,
}

/// Where and how images are kept.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Top of the tree on disk.
    pub root: Utf8PathBuf,
    /// Whether the tree lasts only as long as the process.
    pub in_memory: bool,
    /// Whether manifests and blobs may be deleted.
    pub delete: bool,
    /// Whether writes are refused.
    pub readonly: bool,
    /// When unfinished uploads are removed; nothing means never.
    pub upload_purging: Option<UploadPurging>,
    /// Whether a descriptor cache is asked for (only its log line is visible).
    pub cache: Option<String>,
}

/// When unfinished uploads are removed.
#[derive(Clone, Copy, Debug)]
pub struct UploadPurging {
    /// Age from which an upload is removed.
    pub age: Duration,
    /// Time between two rounds.
    pub interval: Duration,
    /// Whether removal is only logged.
    pub dry_run: bool,
}

/// How requests are authorised.
#[derive(Clone, Debug)]
pub enum AuthConfig {
    /// By bearer token.
    Token(Box<TokenConfig>),
    /// By name and password.
    Htpasswd(HtpasswdConfig),
}

/// Settings of token authentication.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Where clients get tokens.
    pub realm: String,
    /// Path on the host that was asked, where clients get tokens instead.
    pub autoredirect: Option<String>,
    /// The token service, to which requests for tokens are sent on; clients then get them here.
    pub forward: Option<ForwardConfig>,
    /// Name of this service in tokens.
    pub service: String,
    /// Who makes the tokens.
    pub issuer: String,
    /// Certificates whose keys sign tokens.
    pub rootcertbundle: Option<Utf8PathBuf>,
    /// Keys that sign tokens, as a JSON Web Key Set.
    pub jwks: Option<Utf8PathBuf>,
    /// Signature algorithms that are accepted.
    pub algorithms: Vec<jsonwebtoken::Algorithm>,
    /// Whether ES512 is accepted, too.
    pub es512: bool,
}

/// Where requests for tokens are sent on to.
#[derive(Clone, Debug)]
pub struct ForwardConfig {
    /// URL of the token service.
    pub target: url::Url,
    /// Certificates to check it with, instead of the system's.
    pub authority: Option<Utf8PathBuf>,
}

/// Settings of authentication by name and password.
#[derive(Clone, Debug)]
pub struct HtpasswdConfig {
    /// What clients are told to log in to.
    pub realm: String,
    /// File of names and bcrypt hashes.
    pub path: Utf8PathBuf,
}

/// What manifests must be like.
#[derive(Clone, Debug, Default)]
pub struct ValidationConfig {
    /// References that a manifest may have at most.
    pub reference_limit: Option<usize>,
    /// Bytes that a manifest may have at most, below the limit of all registries.
    pub size_limit: Option<usize>,
    /// Which URLs of foreign layers are taken; nothing means all.
    pub urls: Option<UrlRules>,
    /// Which entries of an index must be there.
    pub platforms: Platforms,
}

/// Which URLs of foreign layers are taken. Without any pattern none is, as
/// with the Go registries.
#[derive(Clone, Debug, Default)]
pub struct UrlRules {
    /// Patterns of which one must match, where there are any.
    pub allow: Vec<regex::Regex>,
    /// Patterns of which none may match.
    pub deny: Vec<regex::Regex>,
}

impl UrlRules {
    /// Says whether a URL may be taken.
    pub fn permit(&self, url: &str) -> bool {
        let any = |patterns: &[regex::Regex]| patterns.iter().any(|pattern| pattern.is_match(url));
        let allowed = if self.allow.is_empty() {
            !self.deny.is_empty()
        } else {
            any(&self.allow)
        };
        allowed && !any(&self.deny)
    }
}

/// How the server listens and answers.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct HttpConfig {
    /// `host:port`, or a path with `net: unix`.
    pub addr: String,
    /// Whether `addr` is a unix socket's path.
    pub unix: bool,
    /// URL by which clients reach the server, when it differs.
    pub host: Option<String>,
    /// Proxies that are believed how a client came.
    pub trusted_proxies: TrustedProxies,
    /// Whether `Location` headers hold paths only.
    pub relative_urls: bool,
    /// Secret that signs upload sessions.
    pub secret: Option<String>,
    /// How long requests under way may take at a stop.
    pub drain: Duration,
    /// Certificate and key for TLS.
    pub tls: Option<TlsConfig>,
    /// Headers on every answer.
    pub headers: Vec<(String, String)>,
    /// Path before `/v2/`, without a slash at its end; empty for none.
    pub prefix: String,
    /// Whether HTTP/2 is offered over TLS.
    pub http2: bool,
    /// Whether HTTP/2 is understood without TLS.
    pub h2c: bool,
    /// `host:port` of the listener for health and variables.
    pub debug_addr: Option<String>,
    /// Path of the metrics on that listener.
    pub metrics: Option<String>,
}

/// Certificate and key for TLS.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Certificate chain, PEM.
    pub certificate: Utf8PathBuf,
    /// Private key, PEM.
    pub key: Utf8PathBuf,
    /// Lowest accepted version.
    pub minimum: MinimumTls,
    /// Authorities whose certificates clients must show.
    pub client_cas: Vec<Utf8PathBuf>,
    /// Whether a client without a certificate is let in.
    pub client_optional: bool,
}

/// One health check.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// What is checked.
    pub probe: Probe,
    /// Time between two checks.
    pub interval: Duration,
    /// Failures in a row that make the service unhealthy.
    pub threshold: u32,
}

/// What a health check looks at.
#[derive(Clone, Debug)]
pub enum Probe {
    /// The storage must answer.
    Storage,
    /// The metadata database must answer, where there is one.
    Database,
    /// A file must not exist.
    File(Utf8PathBuf),
    /// A URL must answer with a status.
    Http {
        /// The URL.
        uri: String,
        /// Headers of the request.
        headers: Vec<(String, String)>,
        /// The status that is expected.
        status: u16,
        /// How long an answer may take.
        timeout: Duration,
    },
    /// An address must take connections.
    Tcp {
        /// `host:port`.
        address: String,
        /// How long that may take.
        timeout: Duration,
    },
}

impl std::fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConfig")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A receiver of events.
#[derive(Clone)]
pub struct Endpoint {
    /// Its name, for the log.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Headers sent to it.
    pub headers: Vec<(String, String)>,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// How often delivery is tried.
    pub max_retries: u32,
    /// First pause between two tries.
    pub backoff: Duration,
    /// Media types whose events are not sent.
    pub ignored_media_types: Vec<String>,
    /// Actions whose events are not sent.
    pub ignored_actions: Vec<String>,
    /// Events that wait at most.
    pub queue_limit: usize,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is no YAML, or a value has the wrong type.
    #[error("{path}: {source}")]
    Yaml {
        /// The file.
        path: Utf8PathBuf,
        /// What the parser says, with line and column.
        #[source]
        source: serde_yaml::Error,
    },
    /// A value is not acceptable.
    #[error("{path}{}: {key}: {reason}", line.map_or(String::new(), |line| format!(":{line}")))]
    Value {
        /// The file.
        path: Utf8PathBuf,
        /// Its line, where the key stands in the file.
        line: Option<usize>,
        /// The key's path.
        key: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
}

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub path: Utf8PathBuf,
    /// Variables, of which `REGISTRY_…` override what the file says; the last of a name counts.
    pub environment: Vec<(String, String)>,
}

impl Source {
    /// Loads the configuration.
    ///
    /// # Errors
    /// When the file cannot be read or understood, or a value is not acceptable.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let text = crate::sys::fs::read(&self.path)?;
        Config::parse(&self.path, &text, &self.environment)
    }
}

impl Config {
    /// Reads a configuration from text; `path` is for messages.
    ///
    /// # Errors
    /// As [`Source::load`].
    pub fn parse(path: &Utf8Path, text: &str, environment: &[(String, String)]) -> Result<Self, ConfigError> {
        let wrong = |line, key, reason| ConfigError::Value {
            path: path.to_owned(),
            line,
            key,
            reason,
        };
        let yaml = |source: serde_yaml::Error| match texts::too_large(&source) {
            Some((key, reason)) => wrong(source.location().map(|at| at.line()), key, reason),
            None => ConfigError::Yaml {
                path: path.to_owned(),
                source,
            },
        };
        let mut tree = texts::read(text).map_err(yaml)?;
        if !tree.is_mapping() {
            let reason = "is missing: the file holds no settings; write version: 0.1, storage and http";
            return Err(wrong(None, "version".to_owned(), reason.to_owned()));
        }
        let (mut warnings, named) = overrides::apply(&mut tree, environment);
        let variable = |key: &str| {
            let is_it = |(path, _): &&overrides::Named| key == path || path.starts_with(&format!("{key}."));
            named.iter().rev().find(is_it).map(|(_, name)| name.as_str())
        };
        warnings.extend(duration::bare(&tree));
        let mut unknown = Vec::new();
        let read = serde_ignored::deserialize::<_, _, raw::Root>(tree, |key| {
            // What may be absent has a part of its own in the path.
            unknown.push(key.to_string().replace(".?", ""));
        });
        let root = match read {
            Ok(root) => root,
            // Straight from the text errors carry line and column.
            Err(error) => match serde_yaml::from_str::<raw::Root>(text) {
                Err(error) => return Err(yaml(error)),
                Ok(_) => return Err(Self::misled(path, text, environment, &error)),
            },
        };
        let has_redis = unknown.iter().any(|key| key == "redis" || key.starts_with("redis."));
        warnings.extend(unknown.into_iter().filter(|key| !raw::is_accepted(key)).map(|key| {
            let line = locate::exact(text, &key).map_or(String::new(), |line| format!(" (line {line})"));
            let unknown = if let Some(name) = variable(&key) {
                format!("environment variable {name}")
            } else {
                format!("configuration key {key}{line}")
            };
            match key.as_str() {
                "http.debug.pprof" => format!("{unknown} has no effect in this registry: it writes no profiles"),
                _ if raw::is_ineffective(&key) => format!("{unknown} has no effect in this registry"),
                _ if variable(&key).is_some() => format!("{unknown} names no setting and is ignored"),
                _ => format!("unknown {unknown} is ignored"),
            }
        }));
        let checked = check::check(root, warnings).map_err(|wrong::Wrong { key, reason }| {
            let line = locate::line(text, &key).filter(|_| variable(&key).is_none());
            let named = variable(&key).map(|name| format!("environment variable {name} ({key})"));
            wrong(line, named.unwrap_or(key), reason)
        });
        checked.map(|config| Self {
            has_redis,
            enforce_lockfiles: environment
                .iter()
                .any(|(name, value)| name == "REGISTRY_FF_ENFORCE_LOCKFILES" && value == "true"),
            ..config
        })
    }

    /// Says which variable brought a value of the wrong kind.
    fn misled(path: &Utf8Path, text: &str, environment: &[(String, String)], error: &serde_yaml::Error) -> ConfigError {
        let is_it = |variable: &&(String, String)| {
            let mut tree = serde_yaml::from_str(text).unwrap_or_default();
            overrides::apply(&mut tree, std::slice::from_ref(*variable));
            serde_yaml::from_value::<raw::Root>(tree).is_err()
        };
        let name = environment.iter().find(is_it).map_or("REGISTRY_…", |(name, _)| name);
        ConfigError::Value {
            path: path.to_owned(),
            line: None,
            key: format!("environment variable {name}"),
            reason: error.to_string(),
        }
    }
}
