//! What others on the network can do, or cannot, as things are set.

use std::net::IpAddr;

use crate::config::Config;
use crate::sys::net;

/// Says so when anybody may change what is in the registry, or tokens and
/// passwords would cross a network readable.
pub fn exposure(config: &Config) -> Option<String> {
    let listen = config.registry_listen_address();
    let addresses = crate::sys::net::resolve(&listen).unwrap_or_default();
    // Where nothing can listen yet, something else is to be done first.
    let is_within = |address: &IpAddr| address.is_loopback() || !net::is_own(*address);
    if !config.runs_registry() || addresses.iter().all(is_within) {
        return None;
    }
    if !config.registry_auth_enabled() {
        return Some(format!(
            "anybody who reaches {} may pull, push and delete: ask for a login with: kdk config set registry.auth_enabled true",
            crate::sys::net::host_port(&listen, config.registry_port())
        ));
    }
    if addresses.iter().all(|address| net::is_on_loopback(*address)) {
        return None;
    }
    if config.registry_scheme() == "https" || config.registry_url().starts_with("https:") {
        return None;
    }
    Some(format!(
        "the registry listens on {listen} over plain HTTP: tokens and passwords cross the network unencrypted; serve HTTPS with: kdk config set registry.self_signed true"
    ))
}

/// Says so when clients would be sent to themselves for tokens: the realm's
/// name leads to this machine only, and the registry listens for others.
pub fn realm(config: &Config) -> Option<String> {
    let asks = config.runs_registry() && config.registry_auth_enabled() && !config.has_one_origin();
    let realm = url::Url::parse(&config.registry_token_realm()).ok().filter(|_| asks)?;
    let Some(url::Host::Domain(name)) = realm.host() else {
        return None;
    };
    let is_local = |name: &str| {
        let found = crate::sys::net::resolve(name).ok()?;
        (!found.is_empty()).then(|| (found.iter().all(std::net::IpAddr::is_loopback), found[0]))
    };
    let (listens_here, _) = is_local(&config.registry_listen_address())?;
    let (leads_here, address) = is_local(name)?;
    (leads_here && !listens_here).then(|| {
        format!(
            "other machines are sent to {realm} for tokens, but {name} is {address} on this machine; unless that name leads them here, let the registry listen only on {address}, with: kdk config set registry.listen_address {address} && kdk reconfigure"
        )
    })
}
