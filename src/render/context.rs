//! What templates can name.

use std::io;

use camino::Utf8Path;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Config;
use crate::sys;
use crate::sys::net::host_port;

/// Secrets that are generated once and kept.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// Signs upload sessions.
    pub http_secret: String,
    /// Proves the registry to the receiver of its events.
    pub notification_secret: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets([redacted])")
    }
}

impl Secrets {
    /// Loads the kept secrets; nothing when none are kept.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn load(path: &Utf8Path) -> io::Result<Option<Self>> {
        let Some(text) = sys::fs::read_optional(path)? else {
            return Ok(None);
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path} is damaged: {error}; move it away to have new secrets made"),
            )
        })
    }

    /// Makes new secrets.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> io::Result<Self> {
        let random = || -> io::Result<String> {
            let mut bytes = [0_u8; 32];
            crate::sys::random::fill(&mut bytes)?;
            Ok(HEXLOWER.encode(&bytes))
        };
        Ok(Self {
            http_secret: random()?,
            notification_secret: random()?,
        })
    }

    /// Keeps the secrets, readable by their owner alone.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Utf8Path) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            sys::fs::create_private_dir(parent)?;
        }
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        sys::fs::write_atomic(path, text.as_bytes(), sys::fs::PRIVATE)
    }

    /// Returns secrets that are none, for tests and documents.
    pub fn example() -> Self {
        Self {
            http_secret: "example-http-secret".into(),
            notification_secret: "example-notification-secret".into(),
        }
    }
}

/// Builds the context from settings and secrets.
pub fn context(config: &Config, secrets: &Secrets) -> Value {
    let root = config.root();
    let (certificate, certificate_key) = config.https_pair();
    json!({
        "khulnasoft": {
            "host": config.hostname(),
            "port": config.port(),
            "https": config.https_enabled(),
            "relative_url_root": config.relative_url_root(),
            "url": config.url(),
            "listen": host_port(&config.listen_address(), config.port()),
            "identity": root.identity(),
            "certificate": certificate,
            "certificate_key": certificate_key,
            "default_container_registry": config.default_container_registry(),
            "public_repositories": config.rails_public_repositories(),
        },
        "registry": registry(config, secrets),
        "runner": {
            "url": config.runner_url(),
            "token": config.runner_token().unwrap_or_default(),
            "executor": config.runner_executor(),
            "image": config.runner_image(),
            "privileged": config.runner_privileged(),
            "pull_policy": config.runner_pull_policy(),
            "volumes": runner_volumes(),
            "extra_hosts": config.runner_extra_hosts(),
        },
    })
}

fn registry(config: &Config, secrets: &Secrets) -> Value {
    let root = config.root();
    let (certificate, certificate_key) = root.registry_pair();
    let external = config
        .registry_external_url()
        .and_then(|url| url::Url::parse(&url).ok());
    let rails_host = external
        .as_ref()
        .and_then(url::Url::host_str)
        .map_or_else(|| config.registry_host(), str::to_owned);
    let rails_port = external.as_ref().map_or(Some(config.registry_port()), url::Url::port);
    json!({
        "enabled": config.registry_enabled(),
        "addr": addr(config),
        "public_addr": host_port(&config.registry_listen_address(), config.registry_port()),
        "tls": config.registry_self_signed() && !config.registry_has_front(),
        "token_service": config.token_service_url(),
        "rails_host": rails_host,
        "rails_port": rails_port,
        "api_url": config.registry_api_url(),
        "external_url": config.registry_external_url(),
        "key": config.path(&config.registry_key()),
        "path": config.registry_storage_path(),
        "issuer": config.registry_issuer(),
        "token_realm": config.registry_token_realm(),
        "token_forward": config.registry_forwards().then(|| config.token_service_url()),
        "token_forward_ca": config.rails_ca_file().map(|path| config.path(&path)),
        "token_expire_delay": config.registry_token_expire_delay(),
        "rootcertbundle": config.path(&config.registry_rootcertbundle()),
        "self_signed": config.registry_self_signed(),
        "trusted_certificate": (config.runs_registry() && config.registry_self_signed()).then(|| certificate.clone()),
        "certificate": certificate,
        "certificate_key": certificate_key,
        "auth_enabled": config.registry_auth_enabled(),
        "schema1": config.registry_schema1(),
        "read_only": config.registry_read_only(),
        "redirect": config.registry_redirect(),
        "relative_urls": config.registry_relative_urls(),
        "debug_addr": config.registry_debug_addr(),
        "health_storage": config.registry_health_storage(),
        "storage": config.registry_storage(),
        "storage_section": config.registry_storage().map(|given| storage_section(config, &given)),
        "http_secret": config.registry_http_secret().unwrap_or_else(|| secrets.http_secret.clone()),
        "notification_secret": notification_secret(config, secrets),
        "endpoints": endpoints(config, secrets),
        "database_enabled": database_enabled(config),
        "database_host": config.registry_database_host(),
        "database_port": config.registry_database_port(),
        "database_user": database_user(config),
        "database_password": config.registry_database_password(),
        "database_dbname": config.registry_database_dbname(),
        "database_sslmode": config.registry_database_sslmode(),
    })
}

/// An image knows no name of who runs it, which counts where none is given.
fn database_user(config: &Config) -> Option<String> {
    let own = || config.registry_image().and_then(|_| sys::process::user_name());
    config.registry_database_user().or_else(own)
}

/// Where the registry itself listens.
fn addr(config: &Config) -> String {
    let (host, port) = if config.registry_has_front() {
        ("127.0.0.1".to_owned(), config.registry_backend_port())
    } else {
        (config.registry_listen_address(), config.registry_port())
    };
    // From a network of its own a container's port is published at that address.
    let is_published = config.registry_image().is_some() && !sys::net::CONTAINERS_SHARE_NETWORK;
    host_port(if is_published { "0.0.0.0" } else { &host }, port)
}

/// By which the registry proves itself to the receiver of its events.
fn notification_secret(config: &Config, secrets: &Secrets) -> String {
    let given = config.registry_notification_secret();
    given.unwrap_or_else(|| secrets.notification_secret.clone())
}

/// Returns the storage section, with what is not given as without it.
fn storage_section(config: &Config, given: &serde_json::Map<String, Value>) -> Value {
    let mut ours = json!({
        "filesystem": {"rootdirectory": config.path(&config.registry_path())},
        "cache": {"blobdescriptor": "inmemory"},
        "delete": {"enabled": true},
        "maintenance": {"uploadpurging": {"enabled": true, "age": "8h", "interval": "1h", "dryrun": false}},
    });
    if !config.registry_redirect() {
        ours["redirect"] = json!({"disable": true});
    }
    if config.registry_read_only() {
        ours["maintenance"]["readonly"] = json!({"enabled": true});
    }
    crate::config::storage::merged(given, ours)
}

/// `true` and `false` are booleans to the registry, `prefer` is a word.
fn database_enabled(config: &Config) -> Value {
    match config.registry_database_enabled().as_str() {
        "true" => true.into(),
        "false" => false.into(),
        other => other.into(),
    }
}

fn endpoints(config: &Config, secrets: &Secrets) -> Vec<Value> {
    let mut all = Vec::new();
    if config.registry_notifications_enabled() {
        let mut rails = json!({
            "name": "khulnasoft-rails",
            "url": format!("{}/api/v4/container_registry_event/events", config.rails_url().trim_end_matches('/')),
            "headers": {"Authorization": [notification_secret(config, secrets)]},
            "timeout": "500ms",
            "threshold": 5,
            "backoff": "1s",
        });
        if config.rails_mode() != "embedded" {
            // To these a real KhulnaSoft answers 400.
            rails["ignore"] = json!({"actions": ["mount", "rename"]});
        }
        all.push(rails);
    }
    all.extend(config.registry_notification_endpoints());
    all
}

/// Jobs that run Docker inside find the certificates where the host's Docker does.
fn runner_volumes() -> Vec<String> {
    let home = sys::env::home().unwrap_or_else(|| "/root".into());
    vec![
        format!("{home}/.docker/certs.d:/etc/docker/certs.d"),
        "/certs/client".into(),
        "/cache".into(),
    ]
}
