//! The file as it is written; [`Root::check`] turns it into the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use super::duration::GoDuration;
use super::{
    AuthConfig, Config, ConfigError, Endpoint, HealthConfig, HttpConfig, LogConfig, StorageConfig, TlsConfig,
    TokenConfig, UploadPurging,
};
use crate::serve::log::{Format, Level};
use crate::serve::tls::MinimumTls;

/// How long requests under way may take at a stop, unless the file says.
const DRAIN: Duration = Duration::from_secs(30);

/// Keys that are read by other registries, or come later, and need no warning.
const ACCEPTED: [&str; 17] = [
    "validation",
    "redis",
    "database.host",
    "database.port",
    "database.dbname",
    "database.sslmode",
    "database.user",
    "database.password",
    "gc",
    "compatibility.schema1",
    "storage.filesystem.maxthreads",
    "storage.tag",
    "catalog",
    "tags",
    "rate_limiter",
    "profiling",
    "http.http2",
];

/// Says whether an unknown key is one that may stand there without a word.
pub fn is_accepted(key: &str) -> bool {
    ACCEPTED
        .iter()
        .any(|known| key == *known || key.strip_prefix(known).is_some_and(|rest| rest.starts_with('.')))
}

#[derive(Deserialize)]
pub struct Root {
    version: serde_yaml::Value,
    #[serde(default)]
    log: Log,
    storage: Storage,
    #[serde(default)]
    auth: Option<Auth>,
    #[serde(default)]
    http: Http,
    #[serde(default)]
    health: Health,
    #[serde(default)]
    notifications: Notifications,
    #[serde(default)]
    database: Database,
}

/// The metadata database; only whether it is asked for matters here.
#[derive(Deserialize, Default)]
struct Database {
    #[serde(default)]
    enabled: serde_yaml::Value,
}

#[derive(Deserialize, Default)]
struct Log {
    level: Option<String>,
    formatter: Option<String>,
    #[serde(default)]
    fields: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    accesslog: AccessLog,
}

#[derive(Deserialize, Default)]
struct AccessLog {
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
struct Storage {
    filesystem: Option<Filesystem>,
    inmemory: Option<serde_yaml::Value>,
    s3: Option<serde_yaml::Value>,
    s3_v2: Option<serde_yaml::Value>,
    gcs: Option<serde_yaml::Value>,
    azure: Option<serde_yaml::Value>,
    azure_v2: Option<serde_yaml::Value>,
    #[serde(default)]
    delete: Switch,
    #[serde(default)]
    maintenance: Maintenance,
    #[serde(default)]
    cache: Cache,
}

#[derive(Deserialize)]
struct Filesystem {
    rootdirectory: Option<Utf8PathBuf>,
}

#[derive(Deserialize, Default)]
struct Switch {
    #[serde(default)]
    enabled: bool,
}

#[derive(Deserialize, Default)]
struct Maintenance {
    #[serde(default)]
    readonly: Switch,
    uploadpurging: Option<Purging>,
}

#[derive(Deserialize)]
struct Purging {
    enabled: Option<bool>,
    age: Option<GoDuration>,
    interval: Option<GoDuration>,
    #[serde(default)]
    dryrun: bool,
}

#[derive(Deserialize, Default)]
struct Cache {
    blobdescriptor: Option<String>,
}

#[derive(Deserialize)]
struct Auth {
    token: Option<Token>,
    htpasswd: Option<serde_yaml::Value>,
    silly: Option<serde_yaml::Value>,
}

#[derive(Deserialize)]
struct Token {
    realm: String,
    service: String,
    issuer: String,
    rootcertbundle: Utf8PathBuf,
    #[serde(default)]
    autoredirect: bool,
}

#[derive(Deserialize, Default)]
struct Http {
    addr: Option<String>,
    net: Option<String>,
    host: Option<String>,
    #[serde(default)]
    relativeurls: bool,
    secret: Option<String>,
    draintimeout: Option<GoDuration>,
    #[serde(default)]
    tls: Tls,
    #[serde(default)]
    headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    debug: Debug,
}

#[derive(Deserialize, Default)]
struct Tls {
    certificate: Option<Utf8PathBuf>,
    key: Option<Utf8PathBuf>,
    minimumtls: Option<String>,
    clientcas: Option<Vec<String>>,
    letsencrypt: Option<serde_yaml::Value>,
}

#[derive(Deserialize, Default)]
struct Debug {
    addr: Option<String>,
}

#[derive(Deserialize, Default)]
struct Health {
    #[serde(default)]
    storagedriver: StorageCheck,
}

#[derive(Deserialize, Default)]
struct StorageCheck {
    #[serde(default)]
    enabled: bool,
    interval: Option<GoDuration>,
    threshold: Option<u32>,
}

#[derive(Deserialize, Default)]
struct Notifications {
    #[serde(default)]
    endpoints: Vec<RawEndpoint>,
}

#[derive(Deserialize)]
struct RawEndpoint {
    name: String,
    url: String,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    headers: BTreeMap<String, Vec<String>>,
    timeout: Option<GoDuration>,
    threshold: Option<u32>,
    maxretries: Option<u32>,
    backoff: Option<GoDuration>,
    #[serde(default)]
    ignoredmediatypes: Vec<String>,
    #[serde(default)]
    ignore: Ignore,
}

#[derive(Deserialize, Default)]
struct Ignore {
    #[serde(default)]
    mediatypes: Vec<String>,
    #[serde(default)]
    actions: Vec<String>,
}

fn flat(headers: BTreeMap<String, Vec<String>>) -> Vec<(String, String)> {
    headers
        .into_iter()
        .flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value)))
        .collect()
}

impl Root {
    /// Checks values and fills in defaults.
    pub fn check(self, path: &Utf8Path, mut warnings: Vec<String>) -> Result<Config, ConfigError> {
        let error = |key: &str, reason: String| ConfigError::Value {
            path: path.to_owned(),
            key: key.to_owned(),
            reason,
        };
        let version = match &self.version {
            serde_yaml::Value::String(text) => text.clone(),
            serde_yaml::Value::Number(number) => number.to_string(),
            other => return Err(error("version", format!("{other:?} is no version; write 0.1"))),
        };
        if version != "0.1" {
            return Err(error("version", format!("{version} is not supported; write 0.1")));
        }
        let level = match self.log.level.as_deref() {
            None => Level::Info,
            Some(name) => Level::parse(name).ok_or_else(|| {
                error(
                    "log.level",
                    format!("{name:?} is no level; use error, warn, info or debug"),
                )
            })?,
        };
        let format = match self.log.formatter.as_deref() {
            None | Some("json" | "logstash") => Format::Json,
            Some("text") => Format::Text,
            Some(other) => {
                return Err(error(
                    "log.formatter",
                    format!("{other:?} is no format; use json or text"),
                ));
            }
        };
        let storage = &self.storage;
        let others = [
            &storage.inmemory,
            &storage.s3,
            &storage.s3_v2,
            &storage.gcs,
            &storage.azure,
            &storage.azure_v2,
        ];
        if others.into_iter().any(Option::is_some) {
            return Err(error(
                "storage",
                "this version serves storage.filesystem only, and one driver at a time".into(),
            ));
        }
        let root = self
            .storage
            .filesystem
            .ok_or_else(|| {
                error(
                    "storage",
                    "no storage driver is configured; this version serves storage.filesystem".into(),
                )
            })?
            .rootdirectory
            .unwrap_or_else(|| "/var/lib/registry".into());
        // What guards the registry must not be passed over in silence.
        if let Some(auth) = &self.auth
            && (auth.htpasswd.is_some() || auth.silly.is_some() || auth.token.is_none())
        {
            return Err(error("auth", "this version authorises by auth.token only".into()));
        }
        // Serving without it would show an empty registry where there is a full one.
        match &self.database.enabled {
            serde_yaml::Value::Bool(true) => {
                return Err(error(
                    "database.enabled",
                    "this version keeps metadata in files; set it to false".into(),
                ));
            }
            serde_yaml::Value::String(word) if word == "prefer" => {
                warnings.push("database.enabled: prefer: there is no database, metadata are kept in files".into());
            }
            _ => {}
        }
        let tls = &self.http.tls;
        if tls.clientcas.as_ref().is_some_and(|list| !list.is_empty()) || tls.letsencrypt.is_some() {
            return Err(error(
                "http.tls",
                "clientcas and letsencrypt are not supported by this version".into(),
            ));
        }
        let auth = match self.auth.and_then(|auth| auth.token) {
            None => None,
            Some(token) => {
                if token.autoredirect {
                    warnings.push("auth.token.autoredirect has no effect in this version".into());
                }
                let (realm, service) = (token.realm, token.service);
                if realm.contains(['"', '\\']) || service.contains(['"', '\\']) {
                    return Err(error(
                        "auth.token",
                        "realm and service must not hold quotes or backslashes".into(),
                    ));
                }
                Some(AuthConfig::Token(TokenConfig {
                    realm,
                    service,
                    issuer: token.issuer,
                    rootcertbundle: token.rootcertbundle,
                }))
            }
        };
        let unix = match self.http.net.as_deref() {
            None | Some("tcp") => false,
            Some("unix") => true,
            Some(other) => return Err(error("http.net", format!("{other:?} is not known; use tcp or unix"))),
        };
        let addr = self
            .http
            .addr
            .ok_or_else(|| error("http.addr", "is missing; write host:port".into()))?;
        let minimum = match self.http.tls.minimumtls.as_deref() {
            None | Some("tls1.2") => MinimumTls::Tls12,
            Some("tls1.3") => MinimumTls::Tls13,
            Some(other) => {
                return Err(error(
                    "http.tls.minimumtls",
                    format!("{other:?} is not supported; use tls1.2 or tls1.3"),
                ));
            }
        };
        let tls = match (self.http.tls.certificate, self.http.tls.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(TlsConfig {
                certificate,
                key,
                minimum,
            }),
            _ => {
                return Err(error(
                    "http.tls",
                    "certificate and key go together; one is missing".into(),
                ));
            }
        };
        let upload_purging = self
            .storage
            .maintenance
            .uploadpurging
            .as_ref()
            .is_none_or(|purging| purging.enabled != Some(false))
            .then(|| {
                let given = self.storage.maintenance.uploadpurging;
                let age = given
                    .as_ref()
                    .and_then(|purging| purging.age)
                    .map_or(Duration::from_hours(168), |age| age.0);
                let interval = given
                    .as_ref()
                    .and_then(|purging| purging.interval)
                    .map_or(Duration::from_hours(24), |interval| interval.0);
                UploadPurging {
                    age,
                    interval: interval.max(Duration::from_secs(1)),
                    dry_run: given.is_some_and(|purging| purging.dryrun),
                }
            });
        let endpoints = self
            .notifications
            .endpoints
            .into_iter()
            .filter(|endpoint| !endpoint.disabled)
            .map(|raw| Endpoint {
                name: raw.name,
                url: raw.url,
                headers: flat(raw.headers),
                timeout: raw.timeout.map_or(Duration::from_secs(1), |timeout| timeout.0),
                // Distribution's threshold pauses deliveries and then goes on; twice as many tries do as much.
                max_retries: raw
                    .maxretries
                    .or(raw.threshold.map(|threshold| threshold * 2))
                    .unwrap_or(10),
                backoff: raw.backoff.map_or(Duration::from_secs(1), |backoff| backoff.0),
                ignored_media_types: [raw.ignoredmediatypes, raw.ignore.mediatypes].concat(),
                ignored_actions: raw.ignore.actions,
            })
            .collect();
        Ok(Config {
            log: LogConfig {
                level,
                format,
                fields: self.log.fields,
                access: !self.log.accesslog.disabled,
            },
            storage: StorageConfig {
                root,
                delete: self.storage.delete.enabled,
                readonly: self.storage.maintenance.readonly.enabled,
                upload_purging,
                cache: self.storage.cache.blobdescriptor,
            },
            auth,
            http: HttpConfig {
                addr,
                unix,
                host: self.http.host,
                relative_urls: self.http.relativeurls,
                secret: self.http.secret.filter(|secret| !secret.is_empty()),
                drain: self
                    .http
                    .draintimeout
                    .map(|limit| limit.0)
                    .filter(|limit| !limit.is_zero())
                    .unwrap_or(DRAIN),
                tls,
                headers: flat(self.http.headers),
                debug_addr: self.http.debug.addr,
            },
            health: HealthConfig {
                storage_driver: self.health.storagedriver.enabled,
                interval: self
                    .health
                    .storagedriver
                    .interval
                    .map_or(Duration::from_secs(10), |interval| interval.0),
                threshold: self.health.storagedriver.threshold.unwrap_or(3),
            },
            endpoints,
            warnings,
        })
    }
}
