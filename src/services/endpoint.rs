//! Where services listen, by what their rendered files say.

use crate::config::Config;
use crate::sys;
use crate::sys::net::host_port;

/// What a rendered file says about where its service listens.
///
/// The service goes by the file, not by `kdk.yml`, which may have changed
/// since, or the file is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    pub(super) fn listen(&self) -> String {
        host_port(&self.host, self.port)
    }

    /// Returns the URL of a path, as reached from this machine.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, reachable(&self.host, self.port))
    }

    /// Returns the URL by a name of the host.
    pub(super) fn named(&self, host: &str) -> String {
        format!("{}://{}", self.scheme, host_port(host, self.port))
    }

    fn parse(scheme: &'static str, address: &str) -> Option<Self> {
        let (host, port) = address.rsplit_once(':')?;
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        Some(Self {
            scheme,
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }
}

fn rendered(path: &camino::Utf8Path) -> Option<serde_json::Value> {
    let mut tree: serde_yaml::Value = serde_yaml::from_str(&sys::fs::read_optional(path).ok()??).ok()?;
    tree.apply_merge().ok()?;
    serde_json::to_value(tree).ok()
}

/// Returns where the registry listens: by its file, else by the settings.
pub fn registry_endpoint(config: &Config) -> Endpoint {
    let by_file = || {
        let tree = rendered(&config.root().registry_config())?;
        let scheme = if tree["http"]["tls"]["certificate"].is_string() {
            "https"
        } else {
            "http"
        };
        Endpoint::parse(scheme, tree["http"]["addr"].as_str()?)
    };
    by_file().unwrap_or_else(|| {
        if config.registry_has_front() {
            return Endpoint {
                scheme: "http",
                host: "127.0.0.1".to_owned(),
                port: config.registry_backend_port(),
            };
        }
        Endpoint {
            scheme: config.registry_scheme(),
            host: config.registry_listen_address(),
            port: config.registry_port(),
        }
    })
}

/// Returns where clients reach the registry: itself, or the front before it.
pub fn public_endpoint(config: &Config) -> Endpoint {
    if !config.registry_has_front() {
        return registry_endpoint(config);
    }
    let by_file = || {
        let tree = rendered(&config.root().front())?;
        let scheme = if tree["certificate"].is_string() {
            "https"
        } else {
            "http"
        };
        Endpoint::parse(scheme, tree["listen"].as_str()?)
    };
    by_file().unwrap_or_else(|| Endpoint {
        scheme: config.registry_scheme(),
        host: config.registry_listen_address(),
        port: config.registry_port(),
    })
}

/// Returns `host:port` by which clients reach the registry that runs: by the
/// rendered file, where that is not what the settings say by now.
pub fn public_address(config: &Config) -> String {
    match config.registry_external_url() {
        Some(_) => config.registry_address(),
        None => host_port(&config.registry_host(), public_endpoint(config).port),
    }
}

/// Returns the URL at which clients ask for tokens, as reached from this machine.
pub fn token_url(config: &Config) -> String {
    let prefix = if config.registry_has_front() {
        None
    } else {
        rendered(&config.root().registry_config()).and_then(|tree| {
            tree["http"]["prefix"]
                .as_str()
                .map(|prefix| prefix.trim_end_matches('/').to_owned())
        })
    };
    let prefix = prefix.unwrap_or_default();
    public_endpoint(config).url(&format!("{prefix}/jwt/auth?service=container_registry"))
}

/// Returns the token service to which clients' requests are sent on, by the
/// file of whoever does.
pub fn token_service(config: &Config) -> Option<String> {
    if config.registry_is_elsewhere() {
        return None;
    }
    if config.registry_has_front() {
        let tree = rendered(&config.root().front())?;
        return Some(tree["token_service"].as_str()?.to_owned());
    }
    let tree = rendered(&config.root().registry_config())?;
    Some(tree["auth"]["token"]["forward"].as_str()?.to_owned())
}

/// Any answer counts as ready, so the path need not be right.
pub(super) fn rails_prefix(config: &Config) -> String {
    let root = config.relative_url_root();
    let root = root.trim_matches('/');
    if root.is_empty() {
        String::new()
    } else {
        format!("/{root}")
    }
}

pub(super) fn rails_endpoint(config: &Config) -> Endpoint {
    let by_file = || {
        let tree = rendered(&config.root().khulnasoft_yml())?;
        let https = tree["development"]["khulnasoft"]["https"].as_bool().unwrap_or(false);
        let own = rendered(&config.root().stand_in())?;
        Endpoint::parse(if https { "https" } else { "http" }, own["listen"].as_str()?)
    };
    by_file().unwrap_or_else(|| Endpoint {
        scheme: if config.https_enabled() { "https" } else { "http" },
        host: config.listen_address(),
        port: config.port(),
    })
}

/// Returns where KhulnaSoft's pages are: by its files, where those are not what
/// the settings say by now.
pub fn rails_url(config: &Config) -> String {
    if config.rails_mode() != "embedded" {
        return config.rails_url();
    }
    let endpoint = rails_endpoint(config);
    if endpoint.port == config.port() {
        return config.url();
    }
    format!("{}{}", endpoint.named(&config.hostname()), rails_prefix(config))
}

/// Returns where a listener can be reached from this machine.
pub fn reachable(listen: &str, port: u16) -> String {
    let host = match listen {
        "0.0.0.0" => "127.0.0.1",
        "::" | "[::]" => "::1",
        other => other,
    };
    host_port(host, port)
}
