//! The effective configuration in words, and a look at the files it names.

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use camino::Utf8Path;

use super::database::Mode;
use super::{AuthConfig, Config, Endpoint, ForwardConfig, Probe};
use crate::registry::oci::references::Platforms;
use crate::serve::{Forward, tls};

/// One line of an explanation: what it is about, and how it is.
pub type Line = (&'static str, String);

impl AuthConfig {
    /// Returns the files that it names.
    pub fn files(&self) -> [Option<&Utf8Path>; 2] {
        match self {
            Self::Token(token) => [token.rootcertbundle.as_deref(), token.jwks.as_deref()],
            Self::Htpasswd(file) => [Some(&file.path), None],
        }
    }
}

impl Config {
    /// Says in words what the server goes by. Secrets are left out.
    pub fn explain(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        let http = &self.http;
        let on = |switch: bool| if switch { "on" } else { "off" };
        lines.push(("listens on", http.addr.clone()));
        lines.push((
            "tls",
            http.tls.as_ref().map_or_else(
                || if http.h2c { "off, HTTP/2 without it" } else { "off" }.to_owned(),
                |tls| {
                    let clients = match (tls.client_cas.is_empty(), tls.client_optional) {
                        (true, _) => String::new(),
                        (false, false) => format!(", clients show a certificate of {}", tls.client_cas[0]),
                        (false, true) => format!(", clients may show a certificate of {}", tls.client_cas[0]),
                    };
                    format!(
                        "{}, {} and later, HTTP/2 {}{clients}",
                        tls.certificate,
                        match tls.minimum {
                            tls::MinimumTls::Tls12 => "TLS 1.2",
                            tls::MinimumTls::Tls13 => "TLS 1.3",
                        },
                        on(http.http2)
                    )
                },
            ),
        ));
        let urls = match (&http.host, http.relative_urls) {
            (_, true) => "paths only".to_owned(),
            (Some(host), false) => format!("below {host}"),
            (None, false) => "from the request's Host, or X-Forwarded-* of trusted proxies".to_owned(),
        };
        lines.push(("locations", format!("{urls}{}", prefixed(&http.prefix))));
        let secret = if http.secret.is_some() {
            "given"
        } else {
            "made and kept beside the images"
        };
        lines.push(("upload secret", secret.to_owned()));
        let storage = &self.storage;
        lines.push((
            "storage",
            if storage.in_memory {
                "in memory, lost at the end".to_owned()
            } else {
                storage.root.to_string()
            },
        ));
        lines.push(("metadata", self.explain_database()));
        lines.push(("deletion", on(storage.delete).to_owned()));
        if storage.readonly {
            lines.push(("maintenance", "read-only: every write is refused".to_owned()));
        }
        lines.push((
            "upload purging",
            storage.upload_purging.map_or_else(
                || "off".to_owned(),
                |purging| {
                    let dry = if purging.dry_run { ", dry run" } else { "" };
                    format!("after {}, every {}{dry}", time(purging.age), time(purging.interval))
                },
            ),
        ));
        lines.push(("authorisation", self.explain_auth()));
        for check in &self.health {
            let what = match &check.probe {
                Probe::Storage => "the storage answers".to_owned(),
                Probe::Database => "the metadata database answers".to_owned(),
                Probe::File(path) => format!("{path} does not exist"),
                Probe::Http { uri, status, .. } => format!("{uri} answers {status}"),
                Probe::Tcp { address, .. } => format!("{address} takes connections"),
            };
            lines.push((
                "health check",
                format!(
                    "{what}, every {}, {} failures in a row",
                    time(check.interval),
                    check.threshold
                ),
            ));
        }
        for endpoint in &self.endpoints {
            lines.push((
                "notifications",
                format!(
                    "{} to {}, {} tries from {} apart",
                    endpoint.name,
                    endpoint.shown_url(),
                    u64::from(endpoint.max_retries) + 1,
                    time(endpoint.backoff)
                ),
            ));
        }
        lines.push(("validation", self.explain_validation()));
        lines.push((
            "debug listener",
            match (&http.debug_addr, &http.metrics) {
                (None, _) => "off".to_owned(),
                (Some(address), None) => address.clone(),
                (Some(address), Some(path)) => format!("{address}, metrics at {path}"),
            },
        ));
        lines.push((
            "log",
            format!(
                "{:?} and worse, as {:?}, access log {}",
                self.log.level,
                self.log.format,
                on(self.log.access)
            )
            .to_lowercase(),
        ));
        lines
    }

    /// Says why requests for tokens must not be sent on as configured.
    pub fn forward_problem(&self) -> Option<String> {
        let address = self.http.addr.to_socket_addrs().ok().and_then(|mut all| all.next());
        let made = Forward::new(self.forward()?.target.clone(), None, self.http.tls.is_some());
        let problem = made.and_then(|made| made.check(address)).err()?;
        Some(format!("auth.token.forward: {problem}"))
    }

    /// Returns where requests for tokens are sent on to.
    pub fn forward(&self) -> Option<&ForwardConfig> {
        match &self.auth {
            Some(AuthConfig::Token(token)) => token.forward.as_ref(),
            _ => None,
        }
    }

    fn explain_database(&self) -> String {
        let database = &self.database;
        let collection = match (database.gc.blobs, database.gc.manifests) {
            (true, true) => "online garbage collection",
            (true, false) => "online garbage collection of blobs only",
            (false, true) => "online garbage collection of manifests only",
            (false, false) => "no online garbage collection",
        };
        match database.mode {
            Mode::Files => "in files".to_owned(),
            Mode::Database => format!("in the database {database}, {collection}"),
            Mode::Prefer => {
                format!("in the database {database}, {collection}, unless the storage has them in files")
            }
        }
    }

    fn explain_auth(&self) -> String {
        match &self.auth {
            None => "none: everybody may do everything".to_owned(),
            Some(AuthConfig::Htpasswd(file)) => format!("by name and password of {}", file.path),
            Some(AuthConfig::Token(token)) => {
                let keys: Vec<&str> = [&token.rootcertbundle, &token.jwks]
                    .into_iter()
                    .flatten()
                    .map(|path| path.as_str())
                    .collect();
                let realm = match (&token.forward, &token.autoredirect) {
                    (Some(forward), _) => format!("this server, which asks {}", forward.target),
                    (None, Some(path)) => format!("https://(the host that was asked){path}"),
                    (None, None) => token.realm.clone(),
                };
                format!(
                    "by tokens of {:?} for {:?} from {realm}, signed with {}",
                    token.issuer,
                    token.service,
                    keys.join(" or ")
                )
            }
        }
    }

    fn explain_validation(&self) -> String {
        let rules = &self.validation;
        let mut parts = vec![match &rules.platforms {
            Platforms::All => "indexes need all their entries".to_owned(),
            Platforms::None => "indexes may be sparse".to_owned(),
            Platforms::Listed(listed) => format!("indexes need their entries for {} platforms", listed.len()),
        }];
        if let Some(limit) = rules.reference_limit {
            parts.push(format!("at most {limit} references"));
        }
        if let Some(limit) = rules.size_limit {
            parts.push(format!("manifests of at most {limit} bytes"));
        }
        if let Some(urls) = &rules.urls {
            parts.push(if urls.allow.is_empty() && urls.deny.is_empty() {
                "no URLs of layers".to_owned()
            } else {
                "URLs of layers by pattern".to_owned()
            });
        }
        parts.join(", ")
    }
}

fn prefixed(prefix: &str) -> String {
    if prefix.is_empty() {
        String::new()
    } else {
        format!(", below {prefix}/")
    }
}

fn time(duration: Duration) -> String {
    let span = jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX);
    format!("{span:#}")
}

impl Endpoint {
    /// Returns its URL without a password.
    pub fn shown_url(&self) -> String {
        match url::Url::parse(&self.url) {
            Ok(mut parsed) if parsed.password().is_some() => {
                // A URL with a password has a place for one.
                let _ = parsed.set_password(Some("redacted"));
                parsed.to_string()
            }
            _ => self.url.clone(),
        }
    }
}
