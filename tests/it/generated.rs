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
        "registry.notification_secret",
        "registry.certificate_names",
        "runner.image",
        "runner.privileged",
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

#[test]
fn what_stands_for_gitlabs_keys_exists() {
    use kdk::config::schema::from_gitlab::{Here, ROWS};
    for row in ROWS {
        if let Here::Keys(keys) = row.here {
            assert!(!keys.is_empty(), "{}", row.there);
            for key in keys {
                assert!(settings::find(key).is_some(), "{}: there is no {key}", row.there);
            }
        }
    }
}

/// Collects the leaves of a YAML map.
fn leaves(value: &serde_json::Value, path: &str, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(value, &path, found);
            }
        }
        serde_json::Value::Array(all) if all.iter().any(serde_json::Value::is_object) => {
            all.iter().for_each(|value| leaves(value, path, found));
        }
        _ => found.push(path.to_owned()),
    }
}

/// Every key of GitLab's page has a row, where the page lies beside the project.
#[test]
fn every_key_of_gitlabs_page_has_a_row() {
    use kdk::config::schema::from_gitlab::{ROWS, find};
    let page =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/docs/gitlab-registry-administration.md");
    // It is not part of the project.
    let Ok(page) = std::fs::read_to_string(page) else {
        return;
    };
    let ruby =
        regex::Regex::new(r#"registry_external_url|(?:registry|registry_nginx|gitlab_rails)\[['"][a-z0-9_]+['"]\]"#)
            .expect("a pattern");
    let mut keys: Vec<String> = ruby
        .find_iter(&page)
        .map(|found| found.as_str().replace('"', "'"))
        .collect();
    let fences = regex::Regex::new(r"(?ms)^[ ]*```yaml\n(.*?)^[ ]*```").expect("a pattern");
    for block in fences.captures_iter(&page) {
        let lines: Vec<&str> = block[1].lines().filter(|line| !line.contains("-->")).collect();
        let indent = |line: &&&str| line.len() - line.trim_start().len();
        let least = lines
            .iter()
            .filter(|line| !line.trim().is_empty())
            .map(|line| indent(&line))
            .min();
        let text: String = lines
            .iter()
            .map(|line| format!("{}\n", line.get(least.unwrap_or(0)..).unwrap_or_default()))
            .collect();
        let value: serde_json::Value = serde_yaml::from_str(&text).unwrap_or_default();
        let top = value
            .as_object()
            .and_then(|map| map.keys().next().cloned())
            .unwrap_or_default();
        let known = [
            "registry",
            "default_projects_features",
            "auth",
            "storage",
            "http",
            "compatibility",
            "notifications",
        ];
        if known.contains(&top.as_str()) {
            leaves(&value, "", &mut keys);
        }
    }
    keys.sort();
    keys.dedup();
    assert!(keys.len() >= 60, "only {} keys were found: {keys:?}", keys.len());
    let without: Vec<&String> = keys.iter().filter(|key| find(key).is_none()).collect();
    assert!(without.is_empty(), "no row for {without:?}");
    // Nor does a row speak of what does not stand there.
    for row in ROWS {
        let there = row.there.trim_end_matches('.');
        let last = there
            .rsplit(['.', '['])
            .next()
            .unwrap_or(there)
            .trim_matches(['\'', ']']);
        assert!(page.contains(last), "{} does not stand there", row.there);
    }
}
