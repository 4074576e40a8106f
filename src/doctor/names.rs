//! Names by which the registry and KhulnaSoft are reached.

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use crate::clients::hosts;
use crate::services;
use crate::sys::net::{self, Taker};

/// Looks whether names lead where services listen.
pub fn check(scene: &Scene) -> Verdict {
    let config = match scene.config() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let mut found: Vec<Finding> = hosts::lacking(config)
        .into_iter()
        .map(|line| {
            Finding::problem("name-unresolved", line)
                .why("clients do not find it by its name")
                .suggest(&["setup", "hosts", "--apply"])
        })
        .collect();
    if found.is_empty() && config.registry_enabled() && config.registry_external_url().is_none() {
        let host = config.registry_host();
        let addresses = net::resolve(&host).unwrap_or_default();
        if !addresses.is_empty() && !addresses.iter().any(|ip| net::is_own(*ip)) {
            let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            found.push(
                Finding::problem(
                    "name-astray",
                    format!(
                        "{host} leads to {}, which is no address of this machine",
                        all.join(" and ")
                    ),
                )
                .why("unless something there leads back, clients do not find the registry by its name")
                .suggest(&["setup", "hosts"]),
            );
        }
    }
    let url = config.registry_external_url().filter(|_| config.registry_enabled());
    let public = url.and_then(|url| url::Url::parse(&url).ok());
    let key = if config.is_given("registry.external_url") {
        "registry.external_url"
    } else {
        "registry.api_url"
    };
    if let Some(host) = public.as_ref().and_then(url::Url::host_str)
        && net::resolve(host.trim_start_matches('[').trim_end_matches(']')).is_err()
    {
        found.push(
            Finding::problem(
                "external-name-unresolved",
                format!("{host} of {key} does not resolve here"),
            )
            .why("clients of this machine do not find the registry")
            .by_hand(format!(
                "let the name server know {host}, or /etc/hosts, with its address"
            )),
        );
    }
    let runs = config.runs_registry() && scene.running(services::public_service(config)).is_some();
    if found.is_empty() && runs && config.registry_external_url().is_none() {
        let endpoint = services::public_endpoint(config);
        let host = config.registry_host();
        let addresses = net::resolve(&host).unwrap_or_default();
        // Elsewhere may be a proxy, or a way through it.
        let is_here = addresses.iter().all(|ip| net::is_own(*ip));
        let is_there = |ip: &std::net::IpAddr| net::taker(*ip, endpoint.port) != Taker::Nobody;
        if is_here && !addresses.iter().any(is_there) {
            found.push(
                Finding::problem(
                    "name-elsewhere",
                    format!(
                        "the registry listens on {}, where its name {host} does not lead",
                        endpoint.host
                    ),
                )
                .suggest(&["config", "set", "registry.listen_address", &host])
                .suggest(&["reconfigure"]),
            );
        }
    }
    found.into()
}
