//! Names and addresses that this machine must know before services can use
//! them.

use std::net::IpAddr;

use crate::config::Config;
use crate::sys::net;

/// Returns everything that lacks: the hosts file's lines, and the addresses
/// that no interface of this machine has.
pub fn lacking(config: &Config) -> Vec<String> {
    let mut lacking = unresolved(config);
    lacking.extend(missing_addresses(config));
    lacking
}

/// Returns the names of this root that are no addresses, by the address that
/// they are to lead to.
pub fn wanted(config: &Config) -> Vec<(IpAddr, Vec<String>)> {
    let mut wanted: Vec<(IpAddr, Vec<String>)> = Vec::new();
    let mut names = Vec::new();
    if config.runs_rails() {
        names.push((config.hostname(), page_address(config)));
    }
    if config.registry_mode() == "embedded" {
        names.push((config.registry_host(), registry_address(config)));
    }
    for (name, address) in names {
        if literal(&name).is_some() || name == "localhost" {
            continue;
        }
        match wanted.iter_mut().find(|(there, _)| *there == address) {
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => wanted.push((address, vec![name])),
        }
    }
    wanted
}

/// Returns a line for the hosts file for each address that names are to lead to.
fn unresolved(config: &Config) -> Vec<String> {
    let mut names = vec![("hostname", config.hostname(), page_address(config))];
    if config.runs_registry() {
        names.push(("registry.host", config.registry_host(), registry_address(config)));
    }
    names.retain(|(_, host, _)| net::resolve(host).is_err());
    names.dedup_by(|(_, host, _), (_, before, _)| host == before);
    let mut lines = Vec::new();
    while let Some((_, _, address)) = names.first() {
        let address = *address;
        let (here, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|(_, _, other)| *other == address);
        names = others;
        let described: Vec<String> = here.iter().map(|(key, host, _)| format!("{key} {host}")).collect();
        let hosts: Vec<&str> = here.iter().map(|(_, host, _)| host.as_str()).collect();
        lines.push(format!(
            "{} {} not resolve; add this line to /etc/hosts: {address} {}",
            described.join(" and "),
            if here.len() == 1 { "does" } else { "do" },
            hosts.join(" ")
        ));
    }
    lines
}

/// Returns how to get the addresses that services are to listen on.
pub fn missing_addresses(config: &Config) -> Vec<String> {
    let mut settings = vec![("listen_address", config.listen_address())];
    if config.runs_registry() {
        settings.push(("registry.listen_address", config.registry_listen_address()));
    }
    settings.dedup_by(|(_, address), (_, before)| address == before);
    let missing = settings.into_iter().filter_map(|(key, text)| {
        let address = literal(&text).filter(|address| !net::is_own(*address))?;
        Some(format!(
            "{key} {address} is no address of this machine yet; if none of your networks uses it, add it to the loopback interface with: {}",
            net::alias_command(address)
        ))
    });
    missing.collect()
}

/// Returns where the registry's name is to lead from this machine.
fn registry_address(config: &Config) -> IpAddr {
    usable(&config.registry_listen_address()).unwrap_or_else(|| page_address(config))
}

/// Returns where the pages' name is to lead: who is told to get tokens there
/// must reach it as the registry.
fn page_address(config: &Config) -> IpAddr {
    let registry = || usable(&config.registry_listen_address()).filter(|_| config.runs_registry());
    usable(&config.listen_address())
        .or_else(registry)
        .unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
}

fn usable(host: &str) -> Option<IpAddr> {
    literal(host).filter(|address| !address.is_unspecified())
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
