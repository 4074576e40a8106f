//! The parts of `khulnasoft.yml` that the stand-in goes by.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

/// Everything the stand-in goes by.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` that it listens on.
    pub listen: String,
    /// URL that people and the registry reach it by.
    pub url: String,
    /// Path prefix of all its pages, empty or `/…`.
    pub relative_url_root: String,
    /// Certificate and key, when it serves HTTPS.
    pub tls: Option<(Utf8PathBuf, Utf8PathBuf)>,
    /// File of users and tokens.
    pub identity: Utf8PathBuf,
    /// Repositories that everybody may pull; `*` at the end stands for the rest.
    pub public_repositories: Vec<String>,
    /// The registry, when it is enabled.
    pub registry: Option<RegistryConfig>,
}

impl std::fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryConfig")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What Rails knows of the registry.
#[derive(Clone)]
pub struct RegistryConfig {
    /// `host[:port]` that images are named with.
    pub address: String,
    /// URL by which Rails reaches it.
    pub api_url: String,
    /// Certificate to trust there.
    pub certificate: Option<Utf8PathBuf>,
    /// Key that signs tokens.
    pub key: Utf8PathBuf,
    /// Certificates, of which one is for that key.
    pub certificates: Option<Utf8PathBuf>,
    /// Issuer of tokens.
    pub issuer: String,
    /// Secret that the registry's events carry.
    pub notification_secret: Option<String>,
    /// How long tokens are valid, in minutes.
    pub token_expire_delay: u64,
}

/// Why the configuration cannot be used.
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
        /// What the parser says.
        #[source]
        source: serde_yaml::Error,
    },
    /// A section is missing.
    #[error("{path}: {missing} is missing; run: kdk reconfigure")]
    Missing {
        /// The file.
        path: Utf8PathBuf,
        /// What is missing.
        missing: &'static str,
    },
}

#[derive(Deserialize)]
struct Raw {
    khulnasoft: Khulnasoft,
    registry: Option<Registry>,
}

#[derive(Deserialize)]
struct Khulnasoft {
    #[serde(default)]
    https: bool,
    #[serde(default)]
    relative_url_root: Option<String>,
}

#[derive(Deserialize)]
struct Registry {
    #[serde(default)]
    enabled: bool,
    host: String,
    port: Option<u16>,
    api_url: String,
    key: Utf8PathBuf,
    issuer: String,
    notification_secret: Option<String>,
    token_expire_delay: Option<u64>,
}

#[derive(Deserialize)]
struct StandIn {
    listen: String,
    url: String,
    identity: Utf8PathBuf,
    certificate: Option<Utf8PathBuf>,
    key: Option<Utf8PathBuf>,
    registry_certificate: Option<Utf8PathBuf>,
    token_certificates: Option<Utf8PathBuf>,
    #[serde(default)]
    public_repositories: Vec<String>,
}

impl Config {
    /// Loads Rails' file, of which the section is `development`, as for a
    /// KDK, and the stand-in's own.
    ///
    /// # Errors
    /// When a file cannot be read or understood.
    pub fn load(path: &Utf8Path, own: &Utf8Path) -> Result<Self, ConfigError> {
        let yaml = |path: &Utf8Path, source| ConfigError::Yaml {
            path: path.to_owned(),
            source,
        };
        let stand_in: StandIn = serde_yaml::from_str(&crate::sys::fs::read(own)?).map_err(|error| yaml(own, error))?;
        let text = crate::sys::fs::read(path)?;
        let mut tree: serde_yaml::Value = serde_yaml::from_str(&text).map_err(|error| yaml(path, error))?;
        tree.apply_merge().map_err(|error| yaml(path, error))?;
        let section = ["development", "production"]
            .iter()
            .find_map(|name| tree.get(*name))
            .cloned();
        let section = section.ok_or(ConfigError::Missing {
            path: path.to_owned(),
            missing: "the section development",
        })?;
        let raw: Raw = serde_yaml::from_value(section).map_err(|error| yaml(path, error))?;
        let relative_url_root = raw.khulnasoft.relative_url_root.unwrap_or_default();
        let relative_url_root = relative_url_root.trim_matches('/');
        let separator = if relative_url_root.is_empty() { "" } else { "/" };
        let registry = raw
            .registry
            .filter(|registry| registry.enabled)
            .map(|registry| RegistryConfig {
                address: registry.port.map_or_else(
                    || registry.host.clone(),
                    |port| crate::sys::net::host_port(&registry.host, port),
                ),
                api_url: registry.api_url.trim_end_matches('/').to_owned(),
                certificate: stand_in.registry_certificate,
                key: registry.key,
                certificates: stand_in.token_certificates,
                issuer: registry.issuer,
                notification_secret: registry.notification_secret,
                token_expire_delay: registry.token_expire_delay.unwrap_or(5),
            });
        Ok(Self {
            listen: stand_in.listen,
            url: stand_in.url,
            relative_url_root: format!("{separator}{relative_url_root}"),
            tls: stand_in.certificate.zip(stand_in.key).filter(|_| raw.khulnasoft.https),
            identity: stand_in.identity,
            public_repositories: stand_in.public_repositories,
            registry,
        })
    }
}
