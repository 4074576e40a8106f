//! Whether the clients of this machine take the registry as it is.

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use crate::clients::{Found, needs};
use crate::config::Config;
use crate::sys;

/// Variables by which a shell talks to another engine than this machine's.
const MACHINE: [&str; 4] = [
    "DOCKER_MACHINE_NAME",
    "DOCKER_HOST",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
];

/// Looks at docker and podman, and at the variables of this shell.
pub fn check(scene: &Scene) -> Verdict {
    let config = match scene.registry() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let here: Vec<Found> = [Found::Docker, Found::Podman]
        .into_iter()
        .filter(|client| client.is_here())
        .collect();
    let mut found: Vec<Finding> = here
        .iter()
        .flat_map(|client| needs::of(config, *client))
        .map(|need| {
            Finding::warning("client-untold", need)
                .why("it refuses the registry until it is told")
                .suggest(&["trust-docker-registry"])
        })
        .collect();
    if sys::env::var("DOCKER_MACHINE_NAME").is_some() {
        found.push(
            Finding::warning("docker-machine", "this shell talks to an engine of docker-machine")
                .why("there, 127.0.0.1 and the names of this machine's hosts file lead elsewhere")
                .by_hand(format!("unset {}", MACHINE.join(" "))),
        );
    }
    found.extend(proxy(config));
    match (found.is_empty(), here.is_empty()) {
        (true, true) => Verdict::Skipped("neither docker nor podman is on the PATH".to_owned()),
        _ => found.into(),
    }
}

/// Says so when this shell's requests to the registry go to a proxy.
fn proxy(config: &Config) -> Option<Finding> {
    let either = |name: &str| sys::env::var(name).or_else(|| sys::env::var(&name.to_uppercase()));
    let scheme = if needs::is_https(config) {
        "https_proxy"
    } else {
        "http_proxy"
    };
    let proxy = either(scheme).filter(|proxy| !proxy.is_empty())?;
    let address = config.registry_address();
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    let exempt = either("no_proxy").unwrap_or_default();
    let covers = |entry: &str| {
        let entry = entry.trim().trim_start_matches("*.").trim_start_matches('.');
        !entry.is_empty() && (entry == "*" || host == entry || host.ends_with(&format!(".{entry}")))
    };
    // Go and curl take loopback out by themselves, others do not.
    (!exempt.split(',').any(covers)).then(|| {
        Finding::warning(
            "proxy-catches",
            format!("{scheme} sends requests for {host} to {proxy}"),
        )
        .by_hand(format!("export no_proxy=\"${{no_proxy:+$no_proxy,}}{host}\""))
    })
}
