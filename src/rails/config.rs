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

/// What Rails knows of the registry.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// `host[:port]` that images are named with.
    pub address: String,
    /// URL by which Rails reaches it.
    pub api_url: String,
    /// Certificate to trust there.
    pub certificate: Option<Utf8PathBuf>,
    /// Key that signs tokens.
    pub key: Utf8PathBuf,
    /// Issuer of tokens.
    pub issuer: String,
    /// Secret that the registry's events carry.
    pub notification_secret: Option<String>,
    /// How long tokens hold, in minutes.
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
    kdk: Option<Kdk>,
}

#[derive(Deserialize)]
struct Khulnasoft {
    host: String,
    port: u16,
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
struct Kdk {
    listen: String,
    identity: Utf8PathBuf,
    certificate: Option<Utf8PathBuf>,
    key: Option<Utf8PathBuf>,
    registry_certificate: Option<Utf8PathBuf>,
    #[serde(default)]
    public_repositories: Vec<String>,
}

impl Config {
    /// Loads a file; the section is `development`, as for a KDK.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn load(path: &Utf8Path) -> Result<Self, ConfigError> {
        let yaml = |source| ConfigError::Yaml {
            path: path.to_owned(),
            source,
        };
        let mut tree: serde_yaml::Value = serde_yaml::from_str(&crate::sys::fs::read(path)?).map_err(yaml)?;
        tree.apply_merge().map_err(yaml)?;
        let section = ["development", "production"]
            .iter()
            .find_map(|name| tree.get(*name))
            .cloned();
        let section = section.ok_or(ConfigError::Missing {
            path: path.to_owned(),
            missing: "the section development",
        })?;
        let raw: Raw = serde_yaml::from_value(section).map_err(yaml)?;
        let kdk = raw.kdk.ok_or(ConfigError::Missing {
            path: path.to_owned(),
            missing: "the section kdk",
        })?;
        let relative_url_root = raw
            .khulnasoft
            .relative_url_root
            .unwrap_or_default()
            .trim_end_matches('/')
            .to_owned();
        let scheme = if raw.khulnasoft.https { "https" } else { "http" };
        let registry = raw
            .registry
            .filter(|registry| registry.enabled)
            .map(|registry| RegistryConfig {
                address: registry.port.map_or_else(
                    || registry.host.clone(),
                    |port| crate::sys::net::host_port(&registry.host, port),
                ),
                api_url: registry.api_url.trim_end_matches('/').to_owned(),
                certificate: kdk.registry_certificate,
                key: registry.key,
                issuer: registry.issuer,
                notification_secret: registry.notification_secret,
                token_expire_delay: registry.token_expire_delay.unwrap_or(5),
            });
        Ok(Self {
            listen: kdk.listen,
            url: format!(
                "{scheme}://{}{relative_url_root}",
                crate::sys::net::host_port(&raw.khulnasoft.host, raw.khulnasoft.port)
            ),
            relative_url_root,
            tls: kdk.certificate.zip(kdk.key).filter(|_| raw.khulnasoft.https),
            identity: kdk.identity,
            public_repositories: kdk.public_repositories,
            registry,
        })
    }
}
