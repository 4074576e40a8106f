//! From what stands in the file to what the server goes by: values are
//! checked, defaults filled in.

use std::str::FromStr as _;
use std::time::Duration;

use camino::Utf8PathBuf;
use jsonwebtoken::Algorithm;

use super::duration::GoDuration;
use super::raw::{self, flat};
use super::wrong::{Wrong, wrong};
use super::{
    AuthConfig, Config, Endpoint, ForwardConfig, HealthCheck, HtpasswdConfig, HttpConfig, LogConfig, Probe,
    StorageConfig, TlsConfig, TokenConfig, UploadPurging, UrlRules, ValidationConfig,
};
use crate::registry::oci::references::Platforms;
use crate::serve::log::{Format, Level};
use crate::serve::tls::MinimumTls;
use crate::serve::{Forward, TrustedProxies};

/// How long requests under way may take at a stop, unless the file says.
const DRAIN: Duration = Duration::from_secs(30);
/// Entries of a catalog page, unless the file says.
const CATALOG_LIMIT: usize = 1000;
/// Tags of a page, unless the file says; Renovate and Rails ask for that many.
const TAGS_LIMIT: usize = 10_000;
/// Events that wait for an endpoint, unless the file says.
const QUEUE_LIMIT: usize = 3000;
/// The algorithms of tokens, unless the file says; never `none`, never a shared secret.
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Checks values and fills in defaults.
pub fn check(root: raw::Root, mut warnings: Vec<String>) -> Result<Config, Wrong> {
    let version = match &root.version {
        serde_yaml::Value::String(text) => text.clone(),
        serde_yaml::Value::Number(number) => number.to_string(),
        other => return wrong("version", format!("{other:?} is no version; write 0.1")),
    };
    if version != "0.1" {
        return wrong("version", format!("{version} is not supported; write 0.1"));
    }
    if root.proxy.is_some() {
        return wrong(
            "proxy",
            "this version does not mirror other registries; remove the section",
        );
    }
    if root.compatibility.schema1.enabled {
        warnings.push("compatibility.schema1.enabled has no effect: Schema 1 manifests are not supported".into());
    }
    Ok(Config {
        log: log(root.log)?,
        storage: storage(root.storage, &mut warnings)?,
        auth: root.auth.map(auth).transpose()?,
        http: http(root.http, &mut warnings)?,
        database: super::database::check(root.database, &root.gc)?,
        health: health(root.health),
        validation: validation(root.validation)?,
        catalog_limit: root.catalog.maxentries.unwrap_or(CATALOG_LIMIT).max(1),
        tags_limit: root.tags.maxtags.unwrap_or(TAGS_LIMIT).max(1),
        enforce_lockfiles: false,
        has_redis: false,
        include_references: root.notifications.events.includereferences,
        endpoints: endpoints(root.notifications)?,
        warnings,
    })
}

fn log(log: raw::Log) -> Result<LogConfig, Wrong> {
    let level = match log.level.as_deref() {
        None => Level::Info,
        Some(name) => match Level::parse(name) {
            Some(level) => level,
            None => {
                return wrong(
                    "log.level",
                    format!("{name:?} is no level; use error, warn, info or debug"),
                );
            }
        },
    };
    let format = match log.formatter.as_deref() {
        None | Some("json" | "logstash") => Format::Json,
        Some("text") => Format::Text,
        Some(other) => return wrong("log.formatter", format!("{other:?} is no format; use json or text")),
    };
    match log.output.as_deref() {
        None | Some("" | "stdout") => {}
        Some(other) => return wrong("log.output", format!("{other:?} is not supported; use stdout")),
    }
    Ok(LogConfig {
        level,
        format,
        fields: log.fields,
        access: !log.accesslog.disabled,
    })
}

fn storage(storage: raw::Storage, warnings: &mut Vec<String>) -> Result<StorageConfig, Wrong> {
    let others = [
        ("s3", &storage.s3),
        ("s3_v2", &storage.s3_v2),
        ("gcs", &storage.gcs),
        ("azure", &storage.azure),
        ("azure_v2", &storage.azure_v2),
        ("swift", &storage.swift),
        ("oss", &storage.oss),
    ];
    if let Some((name, _)) = others.into_iter().find(|(_, driver)| driver.is_some()) {
        return wrong(
            &format!("storage.{name}"),
            "this version serves storage.filesystem and storage.inmemory, one at a time",
        );
    }
    let (root, in_memory) = match (storage.filesystem, storage.inmemory) {
        (Some(_), Some(_)) => return wrong("storage", "two drivers are configured; keep one"),
        (Some(filesystem), None) => {
            let root = filesystem.rootdirectory.unwrap_or_else(|| "/var/lib/registry".into());
            if root.as_str().is_empty() {
                return wrong(
                    "storage.filesystem.rootdirectory",
                    "is empty; name the directory of the images",
                );
            }
            (root, false)
        }
        (None, Some(_)) => (Utf8PathBuf::new(), true),
        (None, None) => {
            return wrong(
                "storage",
                "no storage driver is configured; this version serves storage.filesystem and storage.inmemory",
            );
        }
    };
    match storage.cache.blobdescriptor.as_deref() {
        None | Some("" | "inmemory") => {}
        Some("redis") => warnings.push("storage.cache.blobdescriptor: redis is read as inmemory".into()),
        Some(other) => {
            return wrong(
                "storage.cache.blobdescriptor",
                format!("{other:?} is not known; use inmemory"),
            );
        }
    }
    let purging = storage.maintenance.uploadpurging;
    let enabled = purging.as_ref().is_none_or(|purging| purging.enabled != Some(false));
    let upload_purging = enabled.then(|| UploadPurging {
        age: purging
            .as_ref()
            .and_then(|purging| purging.age)
            .map_or(Duration::from_hours(168), |age| age.0),
        interval: purging
            .as_ref()
            .and_then(|purging| purging.interval)
            .map_or(Duration::from_hours(24), |interval| interval.0)
            .max(Duration::from_secs(1)),
        dry_run: purging.is_some_and(|purging| purging.dryrun),
    });
    Ok(StorageConfig {
        root,
        in_memory,
        delete: storage.delete.enabled,
        readonly: storage.maintenance.readonly.enabled,
        upload_purging,
        cache: storage.cache.blobdescriptor,
    })
}

fn auth(auth: raw::Auth) -> Result<AuthConfig, Wrong> {
    // What guards the registry must not be passed over in silence.
    match (auth.token, auth.htpasswd, auth.silly) {
        (Some(given), None, None) => token(given).map(Box::new).map(AuthConfig::Token),
        (None, Some(htpasswd), None) => {
            if htpasswd.realm.contains(['"', '\\']) {
                return wrong("auth.htpasswd.realm", "must not hold quotes or backslashes");
            }
            Ok(AuthConfig::Htpasswd(HtpasswdConfig {
                realm: htpasswd.realm,
                path: htpasswd.path,
            }))
        }
        (None, None, Some(_)) => wrong(
            "auth.silly",
            "guards nothing and is not supported; use token or htpasswd",
        ),
        (None, None, None) => wrong("auth", "is empty; use token or htpasswd, or remove it"),
        _ => wrong("auth", "more than one kind is configured; keep one"),
    }
}

fn token(token: raw::Token) -> Result<TokenConfig, Wrong> {
    if token.realm.is_empty() && !token.autoredirect {
        return wrong("auth.token.realm", "is missing; write the URL of the token service");
    }
    if token.realm.contains(['"', '\\']) || token.service.contains(['"', '\\']) {
        return wrong("auth.token", "realm and service must not hold quotes or backslashes");
    }
    if token.rootcertbundle.is_none() && token.jwks.is_none() {
        return wrong(
            "auth.token.rootcertbundle",
            "is missing; name a file of certificates, or of keys with jwks",
        );
    }
    let mut algorithms = Vec::new();
    let es512 = token.signingalgorithms.is_empty() || token.signingalgorithms.iter().any(|name| name == "ES512");
    for name in token.signingalgorithms.iter().filter(|name| *name != "ES512") {
        match Algorithm::from_str(name) {
            Ok(algorithm) if ALGORITHMS.contains(&algorithm) => algorithms.push(algorithm),
            _ => {
                return wrong(
                    "auth.token.signingalgorithms",
                    format!("{name:?} is not supported; use RS256, RS384, RS512, ES256, ES384, ES512 or EdDSA"),
                );
            }
        }
    }
    if token.signingalgorithms.is_empty() {
        algorithms.extend(ALGORITHMS);
    }
    let forward = match (token.forward, token.forwardca) {
        (Some(text), authority) => match Forward::target(&text) {
            Ok(target) => Some(ForwardConfig { target, authority }),
            Err(error) => return wrong("auth.token.forward", error.to_string()),
        },
        (None, Some(_)) => return wrong("auth.token.forwardca", "has no use without auth.token.forward"),
        (None, None) => None,
    };
    Ok(TokenConfig {
        forward,
        autoredirect: token
            .autoredirect
            .then(|| token.autoredirectpath.unwrap_or_else(|| "/auth/token".to_owned())),
        realm: token.realm,
        service: token.service,
        issuer: token.issuer,
        rootcertbundle: token.rootcertbundle,
        jwks: token.jwks,
        algorithms,
        es512,
    })
}

fn http(http: raw::Http, warnings: &mut Vec<String>) -> Result<HttpConfig, Wrong> {
    let unix = match http.net.as_deref() {
        None | Some("" | "tcp") => false,
        Some("unix") => true,
        Some(other) => return wrong("http.net", format!("{other:?} is not known; use tcp or unix")),
    };
    let Some(addr) = http.addr else {
        return wrong("http.addr", "is missing; write host:port");
    };
    if !unix
        && addr
            .rsplit_once(':')
            .is_none_or(|(_, port)| port.parse::<u16>().is_err())
    {
        return wrong(
            "http.addr",
            format!("{addr:?} is no address; write host:port, with a port of at most 65535"),
        );
    }
    if http.tls.letsencrypt.is_some() {
        return wrong(
            "http.tls.letsencrypt",
            "is not supported; give certificate and key files",
        );
    }
    if http.debug.tls.is_some() {
        warnings.push("http.debug.tls has no effect: the debug listener speaks plain HTTP".into());
    }
    let prefix = http.prefix.unwrap_or_default();
    let prefix = prefix.trim_end_matches('/');
    if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.contains(['?', '#', '%', ' '])) {
        return wrong(
            "http.prefix",
            format!("{prefix:?} is no path; write it like /registry/"),
        );
    }
    let trusted_proxies = match http.trustedproxies.as_deref().map(TrustedProxies::parse) {
        None => TrustedProxies::default(),
        Some(Ok(proxies)) => proxies,
        Some(Err(text)) => {
            return wrong(
                "http.trustedproxies",
                format!("{text:?} is neither an address nor a network such as 10.0.0.0/8"),
            );
        }
    };
    let metrics = http.debug.prometheus;
    Ok(HttpConfig {
        addr,
        unix,
        host: http.host,
        trusted_proxies,
        relative_urls: http.relativeurls,
        secret: http.secret.filter(|secret| !secret.is_empty()),
        drain: http
            .draintimeout
            .map(|limit| limit.0)
            .filter(|limit| !limit.is_zero())
            .unwrap_or(DRAIN),
        tls: tls(http.tls)?,
        headers: flat(http.headers),
        prefix: prefix.to_owned(),
        http2: !http.http2.disabled,
        h2c: http.h2c.enabled,
        debug_addr: http.debug.addr,
        metrics: metrics
            .enabled
            .then(|| metrics.path.unwrap_or_else(|| "/metrics".to_owned())),
    })
}

fn tls(tls: raw::Tls) -> Result<Option<TlsConfig>, Wrong> {
    let minimum = match tls.minimumtls.as_deref() {
        None | Some("" | "tls1.2") => MinimumTls::Tls12,
        Some("tls1.3") => MinimumTls::Tls13,
        Some(other) => {
            return wrong(
                "http.tls.minimumtls",
                format!("{other:?} is not supported; use tls1.2 or tls1.3"),
            );
        }
    };
    let client_optional = match tls.clientauth.as_deref() {
        None | Some("" | "require-and-verify-client-cert") => false,
        Some("verify-client-cert-if-given") => true,
        Some(other) => {
            return wrong(
                "http.tls.clientauth",
                format!(
                    "{other:?} is not supported; use require-and-verify-client-cert or verify-client-cert-if-given"
                ),
            );
        }
    };
    let is_meant = [tls.minimumtls, tls.clientauth]
        .into_iter()
        .flatten()
        .any(|text| !text.is_empty());
    match (tls.certificate, tls.key) {
        (None, None) if is_meant => wrong(
            "http.tls",
            "needs certificate and key: without them nothing is encrypted",
        ),
        (None, None) if tls.clientcas.is_empty() => Ok(None),
        (None, None) => wrong("http.tls.clientcas", "needs TLS; give certificate and key"),
        (Some(certificate), Some(key)) => Ok(Some(TlsConfig {
            certificate,
            key,
            minimum,
            client_cas: tls.clientcas,
            client_optional,
        })),
        _ => wrong("http.tls", "certificate and key go together; one is missing"),
    }
}

fn health(health: raw::Health) -> Vec<HealthCheck> {
    let interval = |given: Option<GoDuration>| {
        given
            .map_or(Duration::from_secs(10), |interval| interval.0)
            .max(Duration::from_millis(10))
    };
    let timeout = |given: Option<GoDuration>| nonzero(given).unwrap_or(Duration::from_secs(5));
    let mut checks = Vec::new();
    if health.storagedriver.enabled {
        checks.push(HealthCheck {
            probe: Probe::Storage,
            interval: interval(health.storagedriver.interval),
            threshold: health.storagedriver.threshold.unwrap_or(3).max(1),
        });
    }
    if health.database.enabled {
        checks.push(HealthCheck {
            probe: Probe::Database,
            interval: interval(health.database.interval),
            threshold: health.database.threshold.unwrap_or(3).max(1),
        });
    }
    checks.extend(health.file.into_iter().map(|check| HealthCheck {
        probe: Probe::File(check.file),
        interval: interval(check.interval),
        threshold: 1,
    }));
    checks.extend(health.http.into_iter().map(|check| HealthCheck {
        probe: Probe::Http {
            uri: check.uri,
            headers: flat(check.headers),
            status: check.statuscode.unwrap_or(200),
            timeout: timeout(check.timeout),
        },
        interval: interval(check.interval),
        threshold: check.threshold.unwrap_or(1).max(1),
    }));
    checks.extend(health.tcp.into_iter().map(|check| HealthCheck {
        probe: Probe::Tcp {
            address: check.addr,
            timeout: timeout(check.timeout),
        },
        interval: interval(check.interval),
        threshold: check.threshold.unwrap_or(1).max(1),
    }));
    checks
}

fn validation(given: raw::Validation) -> Result<ValidationConfig, Wrong> {
    if given.disabled || given.enabled == Some(false) {
        return Ok(ValidationConfig::default());
    }
    let rules = given.manifests;
    let patterns = |key: &str, patterns: Vec<String>| {
        patterns
            .iter()
            .map(|pattern| {
                regex::Regex::new(pattern).map_err(|error| Wrong {
                    key: key.to_owned(),
                    reason: format!("{pattern:?}: {error}"),
                })
            })
            .collect::<Result<Vec<_>, _>>()
    };
    let platforms = match rules.indexes.platforms.as_deref() {
        None | Some("" | "all") => Platforms::All,
        Some("none") => Platforms::None,
        Some("list") => Platforms::Listed(
            rules
                .indexes
                .platformlist
                .into_iter()
                .map(|platform| (platform.os, platform.architecture))
                .collect(),
        ),
        Some(other) => {
            return wrong(
                "validation.manifests.indexes.platforms",
                format!("{other:?} is not known; use all, none or list"),
            );
        }
    };
    Ok(ValidationConfig {
        reference_limit: rules.referencelimit.filter(|limit| *limit > 0),
        size_limit: rules.payloadsizelimit.filter(|limit| *limit > 0),
        urls: Some(UrlRules {
            allow: patterns("validation.manifests.urls.allow", rules.urls.allow)?,
            deny: patterns("validation.manifests.urls.deny", rules.urls.deny)?,
        }),
        platforms,
    })
}

/// Returns a time; zero is Go's way to say nothing.
fn nonzero(given: Option<GoDuration>) -> Option<Duration> {
    given.map(|given| given.0).filter(|given| !given.is_zero())
}

fn endpoints(notifications: raw::Notifications) -> Result<Vec<Endpoint>, Wrong> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (number, raw) in notifications.endpoints.into_iter().enumerate() {
        if raw.disabled {
            continue;
        }
        if !url::Url::parse(&raw.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            return wrong(
                &format!("notifications.endpoints.{number}.url"),
                format!("{:?} is no http or https URL", raw.url),
            );
        }
        if endpoints.iter().any(|other| other.name == raw.name) {
            return wrong(
                &format!("notifications.endpoints.{number}.name"),
                format!("{:?} is another endpoint's name already; give each its own", raw.name),
            );
        }
        endpoints.push(Endpoint {
            name: raw.name,
            url: raw.url,
            headers: flat(raw.headers),
            timeout: nonzero(raw.timeout).unwrap_or(Duration::from_secs(1)),
            // Distribution's threshold pauses deliveries and then goes on; twice as many tries do as much.
            max_retries: raw
                .maxretries
                .or(raw.threshold.map(|threshold| threshold.saturating_mul(2)))
                .unwrap_or(10),
            backoff: nonzero(raw.backoff).unwrap_or(Duration::from_secs(1)),
            ignored_media_types: [raw.ignoredmediatypes, raw.ignore.mediatypes].concat(),
            ignored_actions: raw.ignore.actions,
            queue_limit: raw.queuesizelimit.filter(|limit| *limit > 0).unwrap_or(QUEUE_LIMIT),
        });
    }
    Ok(endpoints)
}
