//! Who is in the way of what does not run; and AirPlay, which is in the way unseen.

use std::net::SocketAddr;
use std::time::Duration;

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use crate::clients::shell::word;
use crate::config::Config;
use crate::roots::Roots;
use crate::services;
use crate::sys::net;

/// How long a listener may take to say what it is.
const PATIENCE: Duration = Duration::from_millis(500);

/// Looks at the ports of services that do not run, and at what answers by the registry's name.
pub fn check(scene: &Scene) -> Verdict {
    let config = match scene.config() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let mut found = Vec::new();
    for spec in scene.down(config) {
        let place = spec.listen.as_deref().and_then(|listen| listen.rsplit_once(':'));
        let Some((host, port)) = place.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) else {
            continue;
        };
        let Ok(address) = net::own_address(host) else { continue };
        if net::try_listen(SocketAddr::new(address, port)).is_ok() {
            continue;
        }
        found.push(taken(config, &spec.name, services::port_key(config, &spec.name), port));
    }
    if config.runs_registry() && airplay(config) {
        found.push(
            Finding::problem(
                "airplay",
                "the AirPlay Receiver of macOS answers in the registry's place",
            )
            .why("clients that reach it first are told 403 Forbidden")
            .by_hand("turn it off in System Settings > General > AirDrop & Handoff, or take another port"),
        );
    }
    found.into()
}

fn taken(config: &Config, name: &str, key: &str, port: u16) -> Finding {
    let by = net::port_holder(port).map_or_else(
        || "another process".to_owned(),
        |holder| format!("{} (process {})", holder.name, holder.pid),
    );
    let roots = Roots::open().ok().flatten();
    let other = roots
        .as_ref()
        .and_then(|roots| roots.claimed(port, config.root().path()));
    let other_port = port.saturating_add(100).to_string();
    let finding = Finding::problem("port-taken", format!("port {port} of {name} is taken by {by}"))
        .suggest(&["config", "set", key, &other_port])
        .suggest(&["reconfigure"])
        .suggest(&["start"]);
    match other {
        Some(root) => finding.by_hand(format!(
            "the root {root} has it; free it with: kdk --root {} stop",
            word(root.as_str())
        )),
        None => finding,
    }
}

/// Says whether it answers on an address to which the registry's name or localhost leads.
fn airplay(config: &Config) -> bool {
    let mut addresses = net::resolve("localhost").unwrap_or_default();
    addresses.extend(net::resolve(&config.registry_host()).unwrap_or_default());
    addresses.sort_unstable();
    addresses.dedup();
    let client = reqwest::blocking::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .build();
    let Ok(client) = client else { return false };
    addresses
        .into_iter()
        .filter(std::net::IpAddr::is_loopback)
        .any(|address| {
            let at = net::host_port(&address.to_string(), config.registry_port());
            let answer = client.get(format!("http://{at}/")).send();
            let server = answer.ok().and_then(|answer| answer.headers().get("server").cloned());
            server.is_some_and(|server| server.as_bytes().starts_with(b"AirTunes"))
        })
}
