//! Whether the clients of this machine take the registry as it is.

use super::finding::{Finding, Verdict};
use super::held;
use super::scene::Scene as Root;
use crate::clients::setup::apply::{State, state};
use crate::clients::setup::{self, Scene};
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
pub fn check(scene: &Root) -> Verdict {
    let config = match scene.used_registry() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let here: Vec<Found> = [Found::Docker, Found::Podman]
        .into_iter()
        .filter(|client| client.is_here())
        .collect();
    let mut found: Vec<Finding> = here.iter().filter_map(|client| untold(config, *client)).collect();
    if sys::env::var("DOCKER_MACHINE_NAME").is_some() {
        found.push(
            Finding::warning("docker-machine", "this shell talks to an engine of docker-machine")
                .why("there, 127.0.0.1 and the names of this machine's hosts file lead elsewhere")
                .by_hand(format!("unset {}", MACHINE.join(" "))),
        );
    }
    found.extend(held::refused(scene, config, &here));
    found.extend(proxy(config));
    match (found.is_empty(), here.is_empty()) {
        (true, true) => Verdict::Skipped("neither docker nor podman is on the PATH".to_owned()),
        _ => found.into(),
    }
}

/// Says what a client was not told, by what is to be in its files.
fn untold(config: &Config, client: Found) -> Option<Finding> {
    // Whatever is served there, Docker takes from loopback.
    if client == Found::Docker && needs::leads_to_loopback(&config.registry_address()) {
        return None;
    }
    let program = client.program();
    let setup = ["setup", program, "--apply"];
    let plan = setup::find(program)?.plan(&Scene::of(config)).ok()?;
    match state(&plan) {
        Ok(State::Set) => None,
        Ok(_) if plan.files.is_empty() => None,
        Ok(_) => {
            let need = needs::of(config, client).pop();
            let evidence = need.unwrap_or_else(|| {
                format!("{program} knows the registry as it was before, or not by all of its names")
            });
            let found = Finding::warning("client-untold", evidence).why("it refuses the registry until it is told");
            Some(found.suggest(&setup))
        }
        Err(error) => {
            let found = Finding::problem("client-file-damaged", error.to_string());
            Some(
                found
                    .why("the client does not start with it")
                    .by_hand(format!("mend the file, then: kdk setup {program} --apply")),
            )
        }
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
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let exempt = either("no_proxy").unwrap_or_default();
    let shown = url::Url::parse(&proxy)
        .ok()
        .and_then(|proxy| Some(proxy.host_str()?.to_owned()));
    // Go and curl take loopback out by themselves, others do not.
    (!exempt.split(',').any(|entry| covers(entry.trim(), host))).then(|| {
        // The proxy's own name and password are nobody's business.
        let shown = shown.as_deref().unwrap_or("a proxy");
        Finding::warning(
            "proxy-catches",
            format!("{scheme} sends requests for {host} to {shown}"),
        )
        .by_hand(format!("export no_proxy=\"${{no_proxy:+$no_proxy,}}{host}\""))
    })
}

/// Says whether an entry of `no_proxy` stands for a host, as Go and curl read it.
fn covers(entry: &str, host: &str) -> bool {
    if entry == "*" {
        return true;
    }
    if let (Ok(network), Ok(address)) = (entry.parse::<ipnet::IpNet>(), host.parse::<std::net::IpAddr>()) {
        return network.contains(&address);
    }
    let entry = match entry.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() && !name.contains(':') => name,
        _ => entry,
    };
    let entry = entry.trim_start_matches('*').trim_start_matches('.');
    entry == host || !entry.is_empty() && host.ends_with(&format!(".{entry}"))
}
