//! Every rendered file, for typical settings.

use kdk::config::Config;
use kdk::render::context::Secrets;
use kdk::root::Root;

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
