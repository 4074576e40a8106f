//! What the front goes by: a file of its own.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use crate::serve::TrustedProxies;

/// Everything the front goes by.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` that it listens on.
    pub listen: String,
    /// `host:port` of the registry behind it.
    pub upstream: String,
    /// Certificate and key, when it serves HTTPS.
    pub tls: Option<(Utf8PathBuf, Utf8PathBuf)>,
    /// URL by which clients reach it, when that differs.
    pub external_url: Option<String>,
    /// URL of the token service; nothing where nobody logs in.
    pub token_service: Option<String>,
    /// Certificates to check the token service with, instead of the system's.
    pub token_service_ca: Option<Utf8PathBuf>,
    /// Proxies that are believed how a client came.
    pub trusted_proxies: TrustedProxies,
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
    /// A value is not acceptable.
    #[error("{path}: {reason}")]
    Value {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: String,
    upstream: String,
    certificate: Option<Utf8PathBuf>,
    key: Option<Utf8PathBuf>,
    external_url: Option<String>,
    token_service: Option<String>,
    token_service_ca: Option<Utf8PathBuf>,
    trusted_proxies: Option<Vec<String>>,
}

impl Config {
    /// Loads the file.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn load(path: &Utf8Path) -> Result<Self, ConfigError> {
        let raw: Raw = serde_yaml::from_str(&crate::sys::fs::read(path)?).map_err(|source| ConfigError::Yaml {
            path: path.to_owned(),
            source,
        })?;
        let refused = |reason: String| ConfigError::Value {
            path: path.to_owned(),
            reason,
        };
        if raw.certificate.is_some() != raw.key.is_some() {
            return Err(refused("certificate and key go together; one is missing".to_owned()));
        }
        let trusted_proxies = match raw.trusted_proxies.as_deref() {
            None => TrustedProxies::default(),
            Some(texts) => TrustedProxies::parse(texts)
                .map_err(|text| refused(format!("trusted_proxies: {text:?} is neither an address nor a network")))?,
        };
        Ok(Self {
            listen: raw.listen,
            upstream: raw.upstream,
            tls: raw.certificate.zip(raw.key),
            external_url: raw.external_url,
            token_service: raw.token_service,
            token_service_ca: raw.token_service_ca,
            trusted_proxies,
        })
    }
}
