//! The file as it is written; `check` turns it into the configuration.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::Deserialize;

use super::duration::GoDuration;
/// Keys that may stand there without a word: what they ask for is so anyway.
const ACCEPTED: [&str; 1] = ["storage.redirect"];

/// Keys of other registries that change nothing here; `*` stands for any of a list.
const INEFFECTIVE: [&str; 25] = [
    "compatibility.schema1.signingkeyfile",
    "health.database.timeout",
    "notifications.fanouttimeout",
    "notifications.endpoints.*.queuepurgetimeout",
    "redis",
    "database.draintimeout",
    "database.preparedstatements",
    "database.pool.maxidle",
    "database.primary",
    "database.loadbalancing",
    "database.backgroundmigrations",
    "database.metrics",
    "log.reportcaller",
    "log.accesslog.formatter",
    "log.hooks",
    "storage.filesystem.maxthreads",
    "storage.tag",
    "storage.cache.blobdescriptorsize",
    "http.tls.ciphersuites",
    "http.debug.pprof",
    "rate_limiter",
    "profiling",
    "reporting",
    "middleware",
    "policy",
];

fn is_among(key: &str, known: &[&str]) -> bool {
    let part = |part| if str::parse::<usize>(part).is_ok() { "*" } else { part };
    let key = key.split('.').map(part).collect::<Vec<_>>().join(".");
    let is_below = |known: &str| key.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'));
    known.iter().any(|known| key == *known || is_below(known))
}

/// Says whether a key is known to have no effect.
pub fn is_ineffective(key: &str) -> bool {
    is_among(key, &INEFFECTIVE)
}

/// Says whether an unknown key is one that may stand there without a word.
pub fn is_accepted(key: &str) -> bool {
    is_among(key, &ACCEPTED)
}

/// Reads a section that may be empty: there, but without any setting.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

/// Reads text that YAML may take for a number.
pub fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    use serde::de::Error as _;
    match serde_yaml::Value::deserialize(deserializer)? {
        serde_yaml::Value::Null => Ok(None),
        serde_yaml::Value::String(text) => Ok(Some(text)),
        serde_yaml::Value::Number(number) => Ok(Some(number.to_string())),
        serde_yaml::Value::Bool(word) => Ok(Some(word.to_string())),
        _ => Err(D::Error::custom("a text is expected")),
    }
}

pub fn some_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(text(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
pub struct Root {
    pub version: serde_yaml::Value,
    #[serde(default)]
    pub log: Log,
    pub storage: Storage,
    /// A section that guards never reads as absent.
    #[serde(default, deserialize_with = "present")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub http: Http,
    #[serde(default)]
    pub health: Health,
    #[serde(default)]
    pub notifications: Notifications,
    #[serde(default)]
    pub database: super::database::RawDatabase,
    #[serde(default)]
    pub gc: super::database::RawGc,
    #[serde(default)]
    pub validation: Validation,
    #[serde(default)]
    pub catalog: Catalog,
    #[serde(default)]
    pub tags: Tags,
    #[serde(default)]
    pub compatibility: Compatibility,
    #[serde(default, deserialize_with = "present")]
    pub proxy: Option<serde_yaml::Value>,
}

#[derive(Deserialize, Default)]
pub struct Catalog {
    pub maxentries: Option<usize>,
}

#[derive(Deserialize, Default)]
pub struct Tags {
    pub maxtags: Option<usize>,
}

#[derive(Deserialize, Default)]
pub struct Compatibility {
    #[serde(default)]
    pub schema1: Schema1,
}

#[derive(Deserialize, Default)]
pub struct Schema1 {
    #[serde(default)]
    pub enabled: bool,
}

#[derive(Deserialize, Default)]
pub struct Validation {
    #[serde(default)]
    pub disabled: bool,
    pub enabled: Option<bool>,
    #[serde(default)]
    pub manifests: ManifestRules,
}

#[derive(Deserialize, Default)]
pub struct ManifestRules {
    pub referencelimit: Option<usize>,
    pub payloadsizelimit: Option<usize>,
    #[serde(default)]
    pub urls: Urls,
    #[serde(default)]
    pub indexes: Indexes,
}

#[derive(Deserialize, Default)]
pub struct Urls {
    #[serde(default)]
    pub allow: Vec<String>,
    #[serde(default)]
    pub deny: Vec<String>,
}

#[derive(Deserialize, Default)]
pub struct Indexes {
    pub platforms: Option<String>,
    #[serde(default)]
    pub platformlist: Vec<Platform>,
}

#[derive(Deserialize)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
}

#[derive(Deserialize, Default)]
pub struct Log {
    pub level: Option<String>,
    pub output: Option<String>,
    pub formatter: Option<String>,
    #[serde(default)]
    pub fields: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub accesslog: AccessLog,
}

#[derive(Deserialize, Default)]
pub struct AccessLog {
    #[serde(default)]
    pub disabled: bool,
}

#[derive(Deserialize)]
pub struct Storage {
    #[serde(default, deserialize_with = "present")]
    pub filesystem: Option<Filesystem>,
    #[serde(default, deserialize_with = "present")]
    pub inmemory: Option<serde_yaml::Value>,
    #[serde(default, deserialize_with = "present")]
    pub s3: Option<serde_yaml::Value>,
    #[serde(default, deserialize_with = "present")]
    pub s3_v2: Option<serde_yaml::Value>,
    #[serde(default, deserialize_with = "present")]
    pub gcs: Option<serde_yaml::Value>,
    #[serde(default, deserialize_with = "present")]
    pub azure: Option<serde_yaml::Value>,
    #[serde(default, deserialize_with = "present")]
    pub azure_v2: Option<serde_yaml::Value>,
    #[serde(default, deserialize_with = "present")]
    pub swift: Option<serde_yaml::Value>,
    #[serde(default, deserialize_with = "present")]
    pub oss: Option<serde_yaml::Value>,
    #[serde(default)]
    pub delete: Switch,
    #[serde(default)]
    pub maintenance: Maintenance,
    #[serde(default)]
    pub cache: Cache,
}

#[derive(Deserialize, Default)]
pub struct Filesystem {
    pub rootdirectory: Option<Utf8PathBuf>,
}

#[derive(Deserialize, Default)]
pub struct Switch {
    #[serde(default)]
    pub enabled: bool,
}

#[derive(Deserialize, Default)]
pub struct Maintenance {
    #[serde(default)]
    pub readonly: Switch,
    pub uploadpurging: Option<Purging>,
}

#[derive(Deserialize)]
pub struct Purging {
    pub enabled: Option<bool>,
    pub age: Option<GoDuration>,
    pub interval: Option<GoDuration>,
    #[serde(default)]
    pub dryrun: bool,
}

#[derive(Deserialize, Default)]
pub struct Cache {
    pub blobdescriptor: Option<String>,
}

#[derive(Deserialize, Default)]
pub struct Auth {
    pub token: Option<Token>,
    pub htpasswd: Option<Htpasswd>,
    #[serde(default, deserialize_with = "present")]
    pub silly: Option<serde_yaml::Value>,
}

#[derive(Deserialize)]
pub struct Token {
    #[serde(default, deserialize_with = "some_text")]
    pub realm: String,
    #[serde(deserialize_with = "some_text")]
    pub service: String,
    #[serde(deserialize_with = "some_text")]
    pub issuer: String,
    pub rootcertbundle: Option<Utf8PathBuf>,
    #[serde(default)]
    pub autoredirect: bool,
    pub autoredirectpath: Option<String>,
    pub forward: Option<String>,
    pub forwardca: Option<Utf8PathBuf>,
    pub jwks: Option<Utf8PathBuf>,
    #[serde(default)]
    pub signingalgorithms: Vec<String>,
}

#[derive(Deserialize)]
pub struct Htpasswd {
    pub realm: String,
    pub path: Utf8PathBuf,
}

#[derive(Deserialize, Default)]
pub struct Http {
    pub addr: Option<String>,
    pub net: Option<String>,
    pub host: Option<String>,
    pub prefix: Option<String>,
    pub trustedproxies: Option<Vec<String>>,
    #[serde(default)]
    pub http2: Http2,
    #[serde(default)]
    pub h2c: Switch,
    #[serde(default)]
    pub relativeurls: bool,
    #[serde(default, deserialize_with = "text")]
    pub secret: Option<String>,
    pub draintimeout: Option<GoDuration>,
    #[serde(default)]
    pub tls: Tls,
    #[serde(default)]
    pub headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub debug: Debug,
}

#[derive(Deserialize, Default)]
pub struct Http2 {
    #[serde(default)]
    pub disabled: bool,
}

#[derive(Deserialize, Default)]
pub struct Prometheus {
    #[serde(default)]
    pub enabled: bool,
    pub path: Option<String>,
}

#[derive(Deserialize, Default)]
pub struct Tls {
    pub certificate: Option<Utf8PathBuf>,
    pub key: Option<Utf8PathBuf>,
    pub minimumtls: Option<String>,
    #[serde(default)]
    pub clientcas: Vec<Utf8PathBuf>,
    pub clientauth: Option<String>,
    pub letsencrypt: Option<serde_yaml::Value>,
}

#[derive(Deserialize, Default)]
pub struct Debug {
    pub addr: Option<String>,
    #[serde(default)]
    pub prometheus: Prometheus,
    pub tls: Option<serde_yaml::Value>,
}

#[derive(Deserialize, Default)]
pub struct Health {
    #[serde(default)]
    pub storagedriver: StorageCheck,
    #[serde(default)]
    pub database: StorageCheck,
    #[serde(default)]
    pub file: Vec<FileCheck>,
    #[serde(default)]
    pub http: Vec<HttpCheck>,
    #[serde(default)]
    pub tcp: Vec<TcpCheck>,
}

#[derive(Deserialize)]
pub struct FileCheck {
    pub file: Utf8PathBuf,
    pub interval: Option<GoDuration>,
}

#[derive(Deserialize)]
pub struct HttpCheck {
    pub uri: String,
    #[serde(default)]
    pub headers: BTreeMap<String, Vec<String>>,
    pub statuscode: Option<u16>,
    pub timeout: Option<GoDuration>,
    pub interval: Option<GoDuration>,
    pub threshold: Option<u32>,
}

#[derive(Deserialize)]
pub struct TcpCheck {
    pub addr: String,
    pub timeout: Option<GoDuration>,
    pub interval: Option<GoDuration>,
    pub threshold: Option<u32>,
}

#[derive(Deserialize, Default)]
pub struct StorageCheck {
    #[serde(default)]
    pub enabled: bool,
    pub interval: Option<GoDuration>,
    pub threshold: Option<u32>,
}

#[derive(Deserialize, Default)]
pub struct Notifications {
    #[serde(default)]
    pub endpoints: Vec<RawEndpoint>,
    #[serde(default)]
    pub events: Events,
}

#[derive(Deserialize, Default)]
pub struct Events {
    #[serde(default)]
    pub includereferences: bool,
}

#[derive(Deserialize)]
pub struct RawEndpoint {
    pub name: String,
    pub url: String,
    #[serde(default)]
    pub disabled: bool,
    #[serde(default)]
    pub headers: BTreeMap<String, Vec<String>>,
    pub timeout: Option<GoDuration>,
    pub threshold: Option<u32>,
    pub maxretries: Option<u32>,
    pub backoff: Option<GoDuration>,
    #[serde(default)]
    pub ignoredmediatypes: Vec<String>,
    #[serde(default)]
    pub ignore: Ignore,
    pub queuesizelimit: Option<usize>,
}

#[derive(Deserialize, Default)]
pub struct Ignore {
    #[serde(default)]
    pub mediatypes: Vec<String>,
    #[serde(default)]
    pub actions: Vec<String>,
}

/// Spreads headers over pairs of a name and a value.
pub fn flat(headers: BTreeMap<String, Vec<String>>) -> Vec<(String, String)> {
    headers
        .into_iter()
        .flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value)))
        .collect()
}
