//! The metadata database and its online garbage collection, as GitLab's
//! registry is told of them (`database` and `gc`).

use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Deserialize;

use super::duration::GoDuration;
use super::wrong::{Wrong, wrong};

/// Whether metadata are kept in a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In files.
    #[default]
    Files,
    /// In the database.
    Database,
    /// In the database, unless the storage is known to have them in files.
    Prefer,
}

/// How the connection to the database is secured (libpq, "SSL Support").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Not at all.
    Disable,
    /// Encrypted when the server can.
    #[default]
    Prefer,
    /// Encrypted, whoever the server is.
    Require,
    /// Encrypted, with a certificate of a known authority.
    VerifyCa,
    /// Encrypted, with a certificate for the server's name.
    VerifyFull,
}

/// Where the metadata database is, and how it is used.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// Whether it is used.
    pub mode: Mode,
    /// Name, address, or directory of the unix socket.
    pub host: String,
    /// TCP port, and part of the socket's name.
    pub port: u16,
    /// Role; empty for the name of the process's user.
    pub user: String,
    /// Its password.
    pub password: Option<String>,
    /// Name of the database.
    pub name: String,
    /// How the connection is secured.
    pub ssl_mode: SslMode,
    /// Client certificate and key, PEM.
    pub ssl_client: Option<(Utf8PathBuf, Utf8PathBuf)>,
    /// Authorities that vouch for the server, PEM.
    pub ssl_root: Option<Utf8PathBuf>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long what one request does there may take.
    pub request_timeout: Duration,
    /// Connections at most.
    pub connections: usize,
    /// How long a connection is used; nothing means without end.
    pub lifetime: Option<Duration>,
    /// How long a connection may be idle; nothing means without end.
    pub idle: Option<Duration>,
    /// Online garbage collection.
    pub gc: GcConfig,
}

impl std::fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DatabaseConfig({self})")
    }
}

impl std::fmt::Display for DatabaseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}:{}", self.name, self.host, self.port)
    }
}

/// How garbage is collected while the registry serves.
#[derive(Clone, Debug)]
pub struct GcConfig {
    /// Whether unneeded blobs are removed.
    pub blobs: bool,
    /// Whether unneeded manifests are removed.
    pub manifests: bool,
    /// Pause between two looks for a blob.
    pub blobs_interval: Duration,
    /// Pause between two looks for a manifest.
    pub manifests_interval: Duration,
    /// Longest pause while there is nothing to do.
    pub max_backoff: Duration,
    /// Whether pauses grow while there is nothing to do.
    pub idle_backoff: bool,
    /// How long one review may take.
    pub transaction_timeout: Duration,
    /// How long removing one blob's data may take.
    pub storage_timeout: Duration,
    /// Time from an event to its review, when it is not the database's default.
    pub review_after: Option<Duration>,
}

/// The section `database` as it is written.
#[derive(Deserialize, Default)]
pub struct RawDatabase {
    #[serde(default)]
    enabled: serde_yaml::Value,
    #[serde(default)]
    host: String,
    port: Option<u16>,
    #[serde(default, deserialize_with = "super::raw::some_text")]
    user: String,
    #[serde(default, deserialize_with = "super::raw::text")]
    password: Option<String>,
    #[serde(default, deserialize_with = "super::raw::some_text")]
    dbname: String,
    sslmode: Option<String>,
    sslcert: Option<Utf8PathBuf>,
    sslkey: Option<Utf8PathBuf>,
    sslrootcert: Option<Utf8PathBuf>,
    connecttimeout: Option<GoDuration>,
    requesttimeout: Option<GoDuration>,
    #[serde(default)]
    pool: RawPool,
}

#[derive(Deserialize, Default)]
struct RawPool {
    maxopen: Option<usize>,
    maxlifetime: Option<GoDuration>,
    maxidletime: Option<GoDuration>,
}

/// The section `gc` as it is written.
#[derive(Deserialize, Default)]
pub struct RawGc {
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    noidlebackoff: bool,
    maxbackoff: Option<GoDuration>,
    transactiontimeout: Option<GoDuration>,
    #[serde(default, deserialize_with = "super::raw::text")]
    reviewafter: Option<String>,
    #[serde(default)]
    blobs: RawWorker,
    #[serde(default)]
    manifests: RawWorker,
}

#[derive(Deserialize, Default)]
struct RawWorker {
    #[serde(default)]
    disabled: bool,
    interval: Option<GoDuration>,
    storagetimeout: Option<GoDuration>,
}

/// Connections when nothing else is said: enough to keep a disk busy, and few
/// beside PostgreSQL's own limit of 100. Each plans its statements for itself.
const CONNECTIONS: usize = 10;

/// Checks the two sections.
pub fn check(raw: RawDatabase, gc: &RawGc) -> Result<DatabaseConfig, Wrong> {
    let mode = match &raw.enabled {
        serde_yaml::Value::Null | serde_yaml::Value::Bool(false) => Mode::Files,
        serde_yaml::Value::Bool(true) => Mode::Database,
        serde_yaml::Value::String(word) => match word.as_str() {
            "true" => Mode::Database,
            "false" | "" => Mode::Files,
            "prefer" => Mode::Prefer,
            other => return wrong("database.enabled", format!("{other:?}; use true, false or prefer")),
        },
        _ => return wrong("database.enabled", "use true, false or prefer"),
    };
    let ssl_mode = match raw.sslmode.as_deref() {
        None | Some("" | "prefer" | "allow") => SslMode::Prefer,
        Some("disable") => SslMode::Disable,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(other) => {
            return wrong(
                "database.sslmode",
                format!("{other:?}; use disable, prefer, require, verify-ca or verify-full"),
            );
        }
    };
    let ssl_client = match (raw.sslcert, raw.sslkey) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return wrong("database.sslkey", "is missing beside sslcert"),
        (None, Some(_)) => return wrong("database.sslcert", "is missing beside sslkey"),
    };
    if mode != Mode::Files && raw.dbname.is_empty() {
        return wrong("database.dbname", "name the database");
    }
    // Zero is Go's way to say nothing.
    let some_time = |given: Option<GoDuration>| given.map(|given| given.0).filter(|given| !given.is_zero());
    let time = |given: Option<GoDuration>, default: Duration| some_time(given).unwrap_or(default);
    let review_after = match gc.reviewafter.as_deref() {
        None | Some("" | "0") => None,
        // GitLab's way to say: at once.
        Some("-1") => Some(Duration::ZERO),
        Some(text) => match super::duration::parse(text) {
            Ok(time) => Some(time),
            Err(error) => return wrong("gc.reviewafter", error.to_string()),
        },
    };
    Ok(DatabaseConfig {
        mode,
        host: if raw.host.is_empty() {
            "localhost".to_owned()
        } else {
            raw.host
        },
        port: raw.port.unwrap_or(5432),
        user: raw.user,
        password: raw.password.filter(|password| !password.is_empty()),
        name: raw.dbname,
        ssl_mode,
        ssl_client,
        ssl_root: raw.sslrootcert,
        connect_timeout: time(raw.connecttimeout, Duration::from_secs(5)),
        request_timeout: time(raw.requesttimeout, Duration::from_secs(10)),
        connections: raw.pool.maxopen.filter(|most| *most > 0).unwrap_or(CONNECTIONS),
        lifetime: some_time(raw.pool.maxlifetime),
        idle: some_time(raw.pool.maxidletime),
        gc: GcConfig {
            blobs: !gc.disabled && !gc.blobs.disabled,
            manifests: !gc.disabled && !gc.manifests.disabled,
            blobs_interval: time(gc.blobs.interval, Duration::from_secs(5)),
            manifests_interval: time(gc.manifests.interval, Duration::from_secs(5)),
            max_backoff: time(gc.maxbackoff, Duration::from_hours(24)),
            idle_backoff: !gc.noidlebackoff,
            transaction_timeout: time(gc.transactiontimeout, Duration::from_secs(10)),
            storage_timeout: time(gc.blobs.storagetimeout, Duration::from_secs(5)),
            review_after,
        },
    })
}
