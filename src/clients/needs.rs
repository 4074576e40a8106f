//! What clients must still be told, so that they take the registry as it is.

use super::found::Found;
use super::{insecure, trust};
use crate::config::Config;
use crate::sys;

/// Says whether clients reach the registry by HTTPS.
pub fn is_https(config: &Config) -> bool {
    config.registry_url().starts_with("https:")
}

/// Says whether the name by which clients reach the registry leads to this
/// machine's loopback, whose plain HTTP Docker takes without being told to.
fn is_loopback(config: &Config) -> bool {
    let host = config
        .registry_external_url()
        .and_then(|url| url::Url::parse(&url).ok()?.host_str().map(str::to_owned))
        .unwrap_or_else(|| config.registry_host());
    leads_to_loopback(&host)
}

/// Says whether a host, with or without a port, leads to this machine's loopback.
pub fn leads_to_loopback(name: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match name.rsplit_once(':') {
        Some((host, port)) if is_port(port) && (!host.contains(':') || host.ends_with(']')) => host,
        _ => name,
    };
    let addresses = sys::net::resolve(host.trim_start_matches('[').trim_end_matches(']')).unwrap_or_default();
    !addresses.is_empty() && addresses.iter().all(std::net::IpAddr::is_loopback)
}

/// Says what a client must still be told, so that it takes the registry
/// without a flag of its own; nothing where it does already.
pub fn of(config: &Config, client: Found) -> Vec<String> {
    let address = config.registry_address();
    if is_https(config) {
        // Behind a proxy the certificate is that one's business.
        let own = config.clients_see_own_certificate();
        if !own || trust::is_trusted(client, &address, &config.root().registry_anchor()) {
            return Vec::new();
        }
        return vec![format!(
            "let {client} trust the certificate with: kdk trust-docker-registry"
        )];
    }
    match client {
        Found::Docker if is_loopback(config) || insecure::docker_is_told(&address) => Vec::new(),
        Found::Docker => vec![insecure::docker_line(config)],
        Found::Podman if insecure::podman_is_told(&address) => Vec::new(),
        Found::Podman => vec![format!(
            "podman needs --tls-verify=false for plain HTTP until {} lists this registry; add it with: kdk trust-docker-registry",
            insecure::podman_file()
        )],
    }
}

/// A client that is configured by flags and variables alone.
pub struct Tool {
    /// Its name.
    pub program: &'static str,
    /// The flag by which it takes plain HTTP; nothing where it finds out by itself.
    plain: Option<&'static str>,
    /// Whether it finds out by itself for addresses on loopback.
    knows_loopback: bool,
    /// How it logs in, with a token on its standard input; `FLAG` is that for plain HTTP.
    pub login: &'static str,
    /// The option for a certificate, where `SSL_CERT_FILE` is not set.
    pub certificate: Option<&'static str>,
}

/// Clients of the field, tried at the versions that the tests pin.
pub const TOOLS: [Tool; 6] = [
    Tool {
        program: "crane",
        plain: Some("--insecure"),
        knows_loopback: true,
        login: "crane auth login ADDRESS -u khulnasoft-token --password-stdin FLAG",
        certificate: None,
    },
    Tool {
        program: "oras",
        plain: Some("--plain-http"),
        knows_loopback: false,
        login: "oras login ADDRESS -u khulnasoft-token --password-stdin FLAG",
        certificate: Some("--ca-file FILE"),
    },
    Tool {
        program: "regctl",
        plain: Some("--host reg=ADDRESS,tls=disabled"),
        knows_loopback: false,
        login: "regctl registry login ADDRESS -u khulnasoft-token --pass-stdin FLAG",
        certificate: Some("registry set ADDRESS --cacert \"$(cat FILE)\""),
    },
    Tool {
        program: "helm",
        plain: Some("--plain-http"),
        knows_loopback: false,
        login: "helm registry login ADDRESS -u khulnasoft-token --password-stdin FLAG",
        certificate: Some("--ca-file FILE"),
    },
    Tool {
        program: "cosign",
        plain: Some("--allow-http-registry"),
        knows_loopback: true,
        // Its login has no such flag, and needs none.
        login: "cosign login ADDRESS -u khulnasoft-token --password-stdin",
        certificate: Some("--registry-cacert FILE"),
    },
    Tool {
        program: "ko",
        plain: Some("--insecure-registry"),
        knows_loopback: true,
        login: "ko login ADDRESS -u khulnasoft-token --password-stdin",
        certificate: None,
    },
];

/// Returns the flag by which a tool takes this registry's plain HTTP, where it needs one.
pub fn flag(config: &Config, tool: &Tool) -> Option<String> {
    let knows = tool.knows_loopback && is_loopback(config);
    let flag = tool.plain.filter(|_| !is_https(config) && !knows)?;
    Some(flag.replace("ADDRESS", &config.registry_address()))
}

/// Says what each client that is found on this machine, and that no file of
/// its own can tell, must still be told.
pub fn of_tools(config: &Config) -> Vec<String> {
    let mut all = Vec::new();
    let here = TOOLS
        .iter()
        .filter(|tool| sys::process::find_program(tool.program).is_some());
    if is_https(config) {
        let names: Vec<&str> = here.map(|tool| tool.program).collect();
        if !names.is_empty() && config.clients_see_own_certificate() {
            all.push(format!(
                "{} read the certificate from SSL_CERT_FILE: eval \"$(kdk env)\"",
                names.join(", ")
            ));
        }
        return all;
    }
    for tool in here {
        if let Some(flag) = flag(config, tool) {
            all.push(format!("{} takes plain HTTP with {flag}", tool.program));
        }
    }
    all
}
