//! What a user should know before settings are applied.

use super::exposure::{exposure, realm};
use super::habits;
use crate::certs;
use crate::clients::hosts;
use crate::config::{Config, settings};
use crate::sys::clock::Clock;

/// Settings of a registry that kdk runs, which one elsewhere has for itself.
const OF_OWN_REGISTRY: [&str; 19] = [
    "registry.self_signed",
    "registry.certificate_names",
    "registry.listen_address",
    "registry.api_host",
    "registry.front",
    "registry.backend_port",
    "registry.http_secret",
    "registry.notifications_enabled",
    "registry.notifications.endpoints",
    "registry.read_only_maintenance_enabled",
    "registry.path",
    "registry.storage",
    "registry.redirect",
    "registry.relativeurls",
    "registry.debug_addr",
    "registry.health_storagedriver_enabled",
    "registry.database.enabled",
    "registry.config",
    "registry.env",
];

/// Returns everything that is worth a word.
pub fn notices(config: &Config) -> Vec<String> {
    let mut notices = habits::left(config);
    let unmanaged = config.unmanaged();
    let others: Vec<&str> = unmanaged
        .into_iter()
        .filter(|name| !crate::config::schema::REMOVED.iter().any(|(key, _)| key == name))
        .collect();
    if !others.is_empty() {
        notices.push(format!(
            "kdk.yml has sections that this tool does not manage; they are kept: {}",
            others.join(", ")
        ));
    }
    let tree = serde_yaml::from_str(config.text()).unwrap_or_default();
    let mut without_effect = crate::config::schema::INERT.of(&tree);
    // Of a section that has none, a setting may have one.
    without_effect.retain(|key| settings::find(key).is_none());
    let switches = [
        ("object_store.enabled", config.object_store_enabled()),
        ("kdk.debug", config.debug()),
        ("registry.compatibility_schema1_enabled", config.registry_schema1()),
        (
            "rails.dir",
            config.rails_dir().is_some() && config.rails_mode() == "embedded",
        ),
        (
            "rails.command",
            config.rails_command().is_some() && config.rails_mode() == "embedded",
        ),
        (
            "registry.token_expire_delay",
            config.is_given("registry.token_expire_delay") && config.rails_mode() != "embedded",
        ),
    ];
    without_effect.extend(
        switches
            .iter()
            .filter(|(_, is_on)| *is_on)
            .map(|(key, _)| (*key).to_owned()),
    );
    if config.registry_is_elsewhere() {
        let given = OF_OWN_REGISTRY.iter().filter(|key| config.is_given(key));
        without_effect.extend(given.map(|key| (*key).to_owned()));
    }
    if !without_effect.is_empty() {
        notices.push(format!(
            "these settings of kdk.yml have no effect here: {}",
            without_effect.join(", ")
        ));
    }
    notices.extend(of_files(config));
    notices.extend(hosts::lacking(config));
    notices.extend(exposure(config));
    notices.extend(realm(config));
    if config.registry_enabled()
        && config.registry_auth_enabled()
        && !config.has_one_origin()
        && !config.realm_is_at_registry()
    {
        let realm = config.registry_token_realm();
        let remedy = if config.registry_is_elsewhere() {
            "by a proxy before both"
        } else if config.is_given("registry.token_realm") {
            "with: kdk config unset registry.token_realm"
        } else {
            "with: kdk config unset registry.front"
        };
        notices.push(format!(
            "crane, ko and cosign (over HTTPS also regctl, oras and helm) will refuse to log in: tokens come from {realm}, not from the registry's own address; serve both at one address {remedy}"
        ));
    }
    notices
}

/// Says what is wrong with files that others look after, or that are missing.
fn of_files(config: &Config) -> Vec<String> {
    let root = config.root();
    let mut notices = Vec::new();
    if config.https_enabled()
        && config.https_pair() != root.signing_pair()
        && let Some(reason) = certs::is_out_of_time(&config.https_pair().0, Clock::System.now())
    {
        notices.push(format!(
            "https.certificate: {}: {reason}: clients refuse it",
            config.https_pair().0
        ));
    }
    if config.rails_mode() == "embedded" && root.applied().exists() && !root.identity().exists() {
        notices.push(format!(
            "{} is missing: the user root is made anew; other users and all tokens are gone, and clients must log in again",
            root.identity()
        ));
    }
    notices
}
