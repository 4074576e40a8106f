//! Every rendered file, for typical settings.

use kdk::config::{Config, storage};
use kdk::render::context::Secrets;
use kdk::root::Root;
use serde_json::{Map, Value, json};

const MODES: [(&str, &str); 4] = [
    ("defaults", ""),
    ("interface_only", "registry:\n  enabled: true\n"),
    (
        "http",
        "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  self_signed: false\n  auth_enabled: true\n  listen_address: 0.0.0.0\n",
    ),
    (
        "all_on",
        "hostname: kdk.test\nhttps:\n  enabled: true\nrelative_url_root: /khulnasoft\nregistry:\n  enabled: true\n  host: registry.test\n  self_signed: true\n  external_url: https://registry.example.com\n  notifications_enabled: true\n  notifications:\n    endpoints:\n      - name: other\n        url: http://127.0.0.1:9999/events\n  read_only_maintenance_enabled: true\n  compatibility_schema1_enabled: true\n  relativeurls: true\n  redirect: false\n  debug_addr: localhost:5001\n  token_expire_delay: 15\n  database:\n    enabled: prefer\n    user: registry\n    password: secret\nrunner:\n  enabled: true\n  token: glrt-secret\n  extra_hosts: [\"registry.test:127.0.0.1\"]\n",
    ),
];

#[test]
fn rendered_files() {
    for (mode, settings) in MODES {
        let config =
            Config::parse(&Root::example(), settings.to_owned()).unwrap_or_else(|error| panic!("{mode}: {error}"));
        for file in kdk::render::render(&config, &Secrets::example()).expect("rendered") {
            let name = format!("{mode}__{}", file.path.file_name().expect("a name"));
            let home = std::env::var("HOME").unwrap_or_default();
            insta::assert_snapshot!(name, file.text.replace(&format!("{home}/.docker"), "$HOME/.docker"));
        }
    }
}

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().expect("a map").clone()
}

#[test]
fn a_driver_takes_the_place_of_files_and_the_rest_stays() {
    let ours = json!({
        "filesystem": {"rootdirectory": "/images"},
        "delete": {"enabled": true},
        "maintenance": {"uploadpurging": {"enabled": true}},
    });
    for (given, expected) in [
        (
            json!({"s3": {"bucket": "b"}, "maintenance": {"readonly": {"enabled": true}}}),
            json!({"delete": {"enabled": true}, "s3": {"bucket": "b"},
                "maintenance": {"uploadpurging": {"enabled": true}, "readonly": {"enabled": true}}}),
        ),
        (
            json!({"filesystem": {"maxthreads": 9}, "delete": {"enabled": false}}),
            json!({"filesystem": {"rootdirectory": "/images", "maxthreads": 9}, "delete": {"enabled": false},
                "maintenance": {"uploadpurging": {"enabled": true}}}),
        ),
    ] {
        assert_eq!(storage::merged(&map(&given), ours.clone()), expected);
    }
    let at = |given: Value| storage::directory(Some(&map(&given)), "/images".to_owned());
    assert_eq!(
        at(json!({"filesystem": {"rootdirectory": "/x"}})).as_deref(),
        Some("/x")
    );
    assert_eq!(at(json!({"delete": {"enabled": false}})).as_deref(), Some("/images"));
    assert_eq!(at(json!({"azure": {}})), None);
}

#[test]
fn a_storage_section_that_contradicts_itself_is_found() {
    let keys = |given: Value, redirect, read_only| {
        let found = storage::faults(&map(&given), redirect, read_only);
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(
        keys(json!({"s3": {}, "azure": {}}), None, None),
        ["registry.storage.azure"]
    );
    assert_eq!(keys(json!({"s4": {}}), None, None), ["registry.storage.s4"]);
    let stated = json!({"s3": {}, "redirect": {"disable": true}, "maintenance": {"readonly": {"enabled": true}}});
    assert_eq!(keys(stated.clone(), None, None), Vec::<String>::new());
    assert_eq!(keys(stated.clone(), Some(false), Some(true)), Vec::<String>::new());
    assert_eq!(
        keys(stated, Some(true), Some(false)),
        ["registry.storage.redirect", "registry.storage.maintenance"]
    );
}

fn registry_file(settings: &str) -> Result<Value, String> {
    let config = Config::parse(&Root::example(), settings.to_owned()).map_err(|error| error.to_string())?;
    let files = kdk::render::render(&config, &Secrets::example()).map_err(|error| error.to_string())?;
    let file = files.iter().find(|file| file.path.ends_with("registry/config.yml"));
    serde_yaml::from_str(&file.expect("rendered").text).map_err(|error| error.to_string())
}

fn rendered(settings: &str, name: &str) -> String {
    let config = Config::parse(&Root::example(), settings.to_owned()).expect("valid");
    let files = kdk::render::render(&config, &Secrets::example()).expect("rendered");
    let file = files.iter().find(|file| file.path.ends_with(name));
    file.expect("rendered").text.clone()
}

/// What may be set is what stands there, not what stands there by default.
#[test]
fn a_runner_is_as_it_is_set() {
    let settings = "runner:\n  enabled: true\n  image: alpine:3.20\n  privileged: false\n  pull_policy: always\n";
    let runner = rendered(settings, "khulnasoft-runner-config.toml");
    for expected in ["image = \"alpine:3.20\"", "privileged = false", "\"always\""] {
        assert!(runner.contains(expected), "{expected}: {runner}");
    }
}

/// Both sides look for the images where they are.
#[test]
fn rails_follows_the_storage() {
    let settings = "registry:\n  enabled: true\n  storage: {filesystem: {rootdirectory: /images}}\n";
    let rails = rendered(settings, "khulnasoft.yml");
    assert!(rails.contains("path: \"/images\""), "{rails}");
    let by_path = rendered("registry:\n  enabled: true\n  path: /others\n", "khulnasoft.yml");
    assert!(by_path.contains("path: \"/others\""), "{by_path}");
}

/// A storage section says what it says, and the rest stays as it was.
#[test]
fn storage_sections_are_rendered_once_each() {
    let of = |section: &str| registry_file(&format!("registry:\n  enabled: true\n  storage: {section}\n"));
    let s3 =
        of("{s3: {bucket: b, region: r}, redirect: {disable: true}, cache: {blobdescriptor: redis}}").expect("valid");
    assert_eq!(s3["storage"]["s3"]["bucket"], "b");
    assert_eq!(s3["storage"]["cache"]["blobdescriptor"], "redis");
    assert_eq!(s3["storage"]["maintenance"]["uploadpurging"]["age"], "8h");
    assert!(s3["storage"].get("filesystem").is_none(), "{s3}");
    let elsewhere = of("{filesystem: {rootdirectory: /images}}").expect("valid");
    assert_eq!(elsewhere["storage"]["filesystem"]["rootdirectory"], "/images");
    for (section, expected) in [
        ("{s3: {}, azure: {}}", "exclude each other"),
        ("{s4: {}}", "registry.storage.s4 is no driver"),
    ] {
        let refused = of(section).expect_err("refused");
        assert!(refused.contains(expected), "{refused}");
    }
    let both = "registry:\n  enabled: true\n  redirect: true\n  storage: {s3: {}, redirect: {disable: true}}\n";
    let refused = registry_file(both).expect_err("refused");
    assert!(
        refused.contains("registry.storage.redirect.disable") && refused.contains("registry.redirect"),
        "{refused}"
    );
    // Nobody is told a directory in which there is nothing.
    let config = Config::parse(
        &Root::example(),
        "registry:\n  enabled: true\n  storage: {gcs: {bucket: b}}\n".to_owned(),
    );
    let files = kdk::render::render(&config.expect("valid"), &Secrets::example()).expect("rendered");
    let rails = files
        .iter()
        .find(|file| file.path.ends_with("khulnasoft.yml"))
        .expect("rendered");
    assert!(!rails.text.contains("    path:"), "{}", rails.text);
}

/// What GitLab's administration guide writes as `storage`, with its values: each is rendered as it stands,
/// beside our own defaults.
#[test]
fn the_storage_sections_of_the_administration_guide() {
    const KEYS: &str =
        "accesskey: s3-access-key, secretkey: s3-secret-key-for-access-key, bucket: your-s3-bucket, region: us-east-1";
    let s3 = |more: &str| format!("{{s3: {{{KEYS}{more}}}}}");
    let endpoint = ", regionendpoint: 'https://s3.example.com'";
    let beside = |more: &str| format!("{{s3: {{{KEYS}{endpoint}}}{more}}}");
    let defaults = ", cache: {blobdescriptor: inmemory}, delete: {enabled: true}";
    let azure = "accountname: accountname, accountkey: YmFzZTY0ZW5jb2RlZGFjY291bnRrZXk=, container: containername, rootdirectory: /azure/virtual/container";
    let sections = [
        s3(endpoint),
        "{s3: {bucket: your-s3-bucket, region: us-east-1}}".to_owned(),
        s3(&format!("{endpoint}, pathstyle: false")),
        s3(&format!("{endpoint}, maxrequestspersecond: 100")),
        beside(defaults),
        beside(", redirect: {disable: true}"),
        beside(&format!(", redirect: {{disable: true}}{defaults}")),
        s3(&format!("{endpoint}, encrypt: true")),
        format!("{{azure: {{{azure}, trimlegacyrootprefix: true}}}}"),
        format!("{{azure: {{{azure}, trimlegacyrootprefix: false, realm: core.usgovcloudapi.net}}}}"),
        "{gcs: {bucket: b}, maintenance: {readonly: {enabled: true}}}".to_owned(),
        "{filesystem: {rootdirectory: /path/to/registry/storage}}".to_owned(),
    ];
    for section in sections {
        let settings = format!("registry:\n  enabled: true\n  storage: {section}\n");
        let text = rendered(&settings, "registry/config.yml");
        let file: Value = serde_yaml::from_str(&text).expect("YAML");
        let given: Value = serde_yaml::from_str(&section).expect("YAML");
        for (key, value) in map(&given) {
            let there = &file["storage"][&key];
            for (inner, expected) in map(&value) {
                assert_eq!(there[&inner], expected, "{section}: {key}.{inner}: {text}");
            }
        }
        assert_eq!(file["storage"]["delete"]["enabled"], true, "{section}");
        let drivers = ["filesystem", "s3", "azure", "gcs"].map(|driver| file["storage"].get(driver).is_some());
        assert_eq!(drivers.iter().filter(|is_there| **is_there).count(), 1, "{text}");
        // What this version does not serve yet is refused by name, and nothing else is wrong with it.
        if let Err(error) = kdk::registry::config::Config::parse("config.yml".into(), &text, &[]) {
            let error = error.to_string();
            assert!(
                error.contains("this version serves storage.filesystem"),
                "{section}: {error}"
            );
            assert!(given.get("filesystem").is_none(), "{section}: {error}");
        }
    }
}

/// The receiver of events knows the registry by the secret that is given.
#[test]
fn a_notification_secret_is_the_same_on_both_sides() {
    let settings = "registry:\n  enabled: true\n  notifications_enabled: true\n  notification_secret: shared-secret\n";
    let registry = registry_file(settings).expect("valid");
    let headers = &registry["notifications"]["endpoints"][0]["headers"];
    assert_eq!(headers["Authorization"][0], "shared-secret");
    let config = Config::parse(&Root::example(), settings.to_owned()).expect("valid");
    let files = kdk::render::render(&config, &Secrets::example()).expect("rendered");
    let rails = files
        .iter()
        .find(|file| file.path.ends_with("khulnasoft.yml"))
        .expect("rendered");
    assert!(
        rails.text.contains("notification_secret: \"shared-secret\""),
        "{}",
        rails.text
    );
}

/// Rules for manifests that are asked for are followed.
#[test]
fn rules_that_are_given_are_not_switched_off() {
    let given = "registry:\n  enabled: true\n  config:\n    validation: {manifests: {indexes: {platforms: none}}}\n";
    let file = registry_file(given).expect("valid");
    assert_eq!(
        file["validation"],
        json!({"manifests": {"indexes": {"platforms": "none"}}})
    );
    let none = registry_file("registry:\n  enabled: true\n").expect("valid");
    assert_eq!(none["validation"]["disabled"], true);
}
