//! The generated files are current, and complete.

use kdk::config::settings;
use kdk::config::{Config, generate};
use kdk::root::Root;

#[test]
fn generated_files_are_current() {
    for (name, text) in generate::FILES {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text(), "{name} is not current; run: make generate");
    }
}

#[test]
fn the_example_file_is_valid_and_names_every_setting() {
    let text = generate::example();
    let config = Config::parse(&Root::example(), text).expect("valid");
    for setting in settings::all() {
        let has_value = !(setting.default)(&config).is_null();
        assert_eq!(config.is_given(setting.key), has_value, "{}", setting.key);
        assert!(
            setting.doc.trim().ends_with('.'),
            "{} is not documented in sentences",
            setting.key
        );
    }
}

#[test]
fn every_setting_of_the_documents_exists() {
    for key in [
        "hostname",
        "listen_address",
        "port",
        "https.enabled",
        "relative_url_root",
        "registry.enabled",
        "registry.host",
        "registry.port",
        "registry.listen_address",
        "registry.api_host",
        "registry.self_signed",
        "registry.auth_enabled",
        "registry.compatibility_schema1_enabled",
        "registry.notifications_enabled",
        "registry.read_only_maintenance_enabled",
        "registry.database.enabled",
        "registry.database.host",
        "registry.database.port",
        "registry.database.dbname",
        "registry.database.sslmode",
        "registry.version",
        "registry.dir",
        "registry.auto_update",
        "registry.external_url",
        "registry.api_url",
        "registry.key",
        "registry.path",
        "registry.issuer",
        "registry.token_realm",
        "registry.token_expire_delay",
        "registry.http_secret",
        "registry.internal_key",
        "registry.internal_certificate",
        "registry.rootcertbundle",
        "registry.debug_addr",
        "registry.health_storagedriver_enabled",
        "registry.relativeurls",
        "registry.redirect",
        "registry.storage",
        "registry.notifications.endpoints",
        "registry.config",
        "registry.env",
        "registry.bin",
        "registry.build_command",
        "default_projects_features.container_registry",
        "repositories.registry",
        "runner.pull_policy",
        "object_store.enabled",
        "postgresql.port",
    ] {
        assert!(settings::find(key).is_some(), "{key}");
    }
}
