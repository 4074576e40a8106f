//! `kdk config`, and what it does to the file.

use crate::support::TestRoot;

const FILE: &str = "# mine\nhostname: kdk.test # the name\n\nregistry:\n  enabled: true\n  host: 'registry.test'\n\ngitaly:\n  enabled: false\n";

#[test]
fn values_are_read_in_forms_that_scripts_use() {
    let root = TestRoot::with(FILE);
    let get = |key: &str| root.kdk(&["config", "get", key]).ok();
    assert_eq!(get("registry.port"), "5000\n");
    assert_eq!(get("registry.host"), "registry.test\n");
    assert_eq!(get("registry.enabled"), "true\n");
    assert_eq!(get("registry?"), "true\n");
    assert_eq!(get("registry.external_url"), "");
    assert_eq!(get("registry.token_realm"), "http://registry.test:5000/jwt/auth\n");
    assert_eq!(
        root.kdk(&["config", "get", "registry", "api_url"]).ok(),
        "http://kdk.test:5000\n"
    );
    assert_eq!(get("default_projects_features"), "container_registry: true\n");
    assert_eq!(
        root.kdk(&["config", "get", "registry.database", "--json"])
            .ok()
            .lines()
            .next(),
        Some("{")
    );
    let error = root.kdk(&["config", "get", "registry.prot"]).fails(1);
    assert!(error.contains("did you mean registry.port?"), "{error}");
}

#[test]
fn a_change_keeps_the_rest_of_the_file() {
    let root = TestRoot::with(FILE);
    root.kdk(&["config", "set", "registry.port", "5100"]).ok();
    assert_eq!(
        root.read("kdk.yml"),
        FILE.replace("'registry.test'\n", "'registry.test'\n  port: 5100\n")
    );
    root.kdk(&["config", "set", "registry.host", "other.test"]).ok();
    assert!(root.read("kdk.yml").contains("host: 'other.test'"));
    root.kdk(&["config", "unset", "registry.port"]).ok();
    assert_eq!(root.read("kdk.yml"), FILE.replace("registry.test", "other.test"));
    let backups = std::fs::read_dir(root.join(".backups")).expect("there").count();
    assert_eq!(backups, 3);
    root.kdk(&["config", "set", "registry.config", "{http: {prefix: /x/}}"])
        .ok();
    root.kdk(&["config", "set", "kdk.protected_config_files", "registry/*,a.yml"])
        .ok();
    assert_eq!(
        root.kdk(&["config", "get", "kdk.protected_config_files"]).ok(),
        "registry/*\na.yml\n"
    );
    assert_eq!(
        root.kdk(&["config", "get", "registry.config"]).ok(),
        "http:\n  prefix: /x/\n"
    );
}

#[test]
fn what_is_said_about_changes() {
    let root = TestRoot::with(FILE);
    let mut session = String::new();
    for arguments in [
        &["set", "registry.port", "5100"][..],
        &["set", "registry.port", "5200"],
        &["set", "registry.port", "5200"],
        &["set", "registry.self_signed", "false"],
        &["set", "registry.http_secret", "hush"],
        &["get", "registry.http_secret"],
        &["unset", "registry.port"],
        &["unset", "registry.port"],
        &["unset", "registry.nothing"],
        &["set", "registry.port", "0"],
        &["set", "registry.port", "70000"],
        &["set", "registry.port", "3000"],
        &["set", "registry.enabled", "perhaps"],
        &["set", "registry.prot", "1"],
        &["set", "registry", "1"],
        &["set", "registry.database.enabled", "maybe"],
        &["set", "hostname", "not a host"],
        &["set", "registry.version", "registry_dev"],
        &["set", "registry.bin", "/usr/bin/docker-registry"],
        &["set", "registry.tunnel_host", "x"],
        &["validate"],
    ] {
        let output = root.kdk(&[&["config"], arguments].concat());
        session.push_str(&format!("$ kdk config {}\n{}\n", arguments.join(" "), output.shown()));
    }
    insta::assert_snapshot!(root.stable(&session));
}

#[test]
fn a_bad_file_is_named_with_line_and_column_and_left_alone() {
    let mut session = String::new();
    for text in [
        "registry:\n  prot: 5000\n",
        "registry:\n  port: abc\n  enabled: 7\n",
        "registry:\n  port: 3000\n  enabled: true\n",
        "registry: 5\n",
        "regisrty:\n  enabled: true\n",
        "registry:\n  tunnel_host: x\n",
        "registry:\n\tport: 1\n",
        "a: [\n",
        "- a list\n",
        "hostname: a\nhostname: b\n",
        "registry:\n  enabled: true\n  listen_address: 0.0.0.0\n  token_realm: http://127.0.0.1:3000/jwt/auth\n",
        "registry:\n  external_url: registry.example.com\n",
    ] {
        let root = TestRoot::with(text);
        for arguments in [&["reconfigure"][..], &["config", "set", "registry.self_signed", "true"]] {
            let output = root.kdk(arguments);
            assert_eq!(output.code, 1, "{text:?}: {output:?}");
            assert_eq!(root.read("kdk.yml"), text);
            if arguments.len() == 1 {
                session.push_str(&format!("{text}{}\n", root.stable(&output.stderr)));
            }
        }
        assert!(!root.join("registry").exists());
        // What runs can be seen and ended all the same.
        for command in ["status", "stop"] {
            root.kdk(&[command]).ok();
        }
    }
    insta::assert_snapshot!(session);
}

#[test]
fn a_mistake_can_be_mended_by_set_and_unset() {
    let root = TestRoot::with("registry:\n  port: abc\n");
    root.kdk(&["config", "set", "registry.port", "5100"]).ok();
    // Also by what would be the default.
    let root = TestRoot::with("registry:\n  port: abc\n");
    root.kdk(&["config", "set", "registry.port", "5000"]).ok();
    assert_eq!(root.read("kdk.yml"), "registry:\n  port: 5000\n");
    let root = TestRoot::with("registry:\n  prot: 5000\n");
    root.kdk(&["config", "unset", "registry.prot"]).ok();
    root.kdk(&["config", "validate"]).ok();
    // One of several at a time, whichever is first.
    let wrong = "registry:\n  prot: 5000\n  port: abc\n  enabled: 7\n";
    let root = TestRoot::with(wrong);
    root.kdk(&["config", "set", "registry.self_signed", "true"]).fails(1);
    assert_eq!(root.read("kdk.yml"), wrong);
    let said = root.kdk(&["config", "set", "registry.port", "5100"]);
    assert_eq!(said.stderr.matches("still wrong").count(), 2, "{said:?}");
    assert!(
        said.stderr.contains("registry.prot") && said.stderr.contains("registry.enabled"),
        "{said:?}"
    );
    said.ok();
    let said = root.kdk(&["config", "unset", "registry.prot"]);
    assert!(!said.stderr.contains("reconfigure"), "{said:?}");
    said.ok();
    let said = root.kdk(&["config", "set", "registry.enabled", "true"]);
    assert!(
        !said.stderr.contains("still wrong") && said.stderr.contains("reconfigure"),
        "{said:?}"
    );
    said.ok();
    root.kdk(&["config", "validate"]).ok();
}

#[test]
fn sections_of_others_are_kept_and_mentioned_once() {
    let root =
        TestRoot::with_registry("gitaly:\n  enabled: true\nwebpack:\n  host: x\nauto_devops:\n  enabled: true\n");
    let first = root.kdk(&["reconfigure"]);
    assert_eq!(first.stderr.matches("gitaly, webpack").count(), 1, "{}", first.stderr);
    assert!(
        first.stderr.contains("auto_devops in kdk.yml has no effect"),
        "{}",
        first.stderr
    );
    root.kdk(&["config", "set", "registry.self_signed", "true"]).ok();
    assert!(root.read("kdk.yml").contains("webpack:\n  host: x\n"));
}

#[test]
fn origins_and_lists() {
    let root = TestRoot::with(FILE);
    let list = root.kdk(&["config", "list", "--show-origin"]).ok();
    for keys in [&["registry.port"][..], &["registry"], &["registry.port", "hostname"]] {
        let some = root.kdk(&[&["config", "get", "--show-origin"], keys].concat()).ok();
        let wanted = |line: &&str| {
            keys.iter()
                .any(|key| line.split([' ', '.']).next() == Some(key) || line.split(' ').next() == Some(key))
        };
        assert!(some.lines().count() >= keys.len(), "{some}");
        assert_eq!(
            some.lines().find(|line| !line.starts_with(' ') && !wanted(line)),
            None,
            "{keys:?}"
        );
        assert!(list.contains(some.trim_end()) || keys.len() > 1, "{some}");
    }
    root.kdk(&["config", "get", "--show-origin", "registry.prot"]).fails(1);
    for expected in ["registry.host", "kdk.yml:6", "computed from hostname", "default"] {
        assert!(list.contains(expected), "{expected}: {list}");
    }
    let list = root.kdk(&["config", "list"]).ok();
    assert!(list.starts_with("---\n"), "{list}");
    let tree: serde_json::Value = serde_yaml::from_str(&list).expect("YAML");
    assert_eq!(tree["registry"]["host"], "registry.test");
    let schema: serde_json::Value = serde_json::from_str(&root.kdk(&["config", "schema"]).ok()).expect("JSON");
    assert_eq!(schema["properties"]["registry"]["properties"]["port"]["maximum"], 65535);
}

#[test]
fn the_editor_s_file_is_kept_only_when_valid() {
    let root = TestRoot::with(FILE);
    let edit = |script: &str| {
        root.write("editor.sh", &format!("#!/bin/sh\n{script}\n"));
        let mut command = root.command(&["config", "edit"]);
        command.env("EDITOR", format!("sh {}", root.join("editor.sh").display()));
        crate::support::Output::of(&mut command)
    };
    edit("sed -i 's/kdk.test/other.test/' \"$1\"").ok();
    assert!(root.read("kdk.yml").contains("hostname: other.test # the name"));
    let error = edit("echo 'registry: 5' >> \"$1\"").fails(1);
    assert!(error.contains("your draft is kept"), "{error}");
    assert!(root.read("kdk.yml").contains("hostname: other.test"));
    let root = TestRoot::with(FILE);
    root.write("editor.sh", "echo '# meanwhile' >> kdk.yml; echo '# mine' >> \"$1\"\n");
    let mut command = root.command(&["config", "edit"]);
    command.env("EDITOR", format!("sh {}", root.join("editor.sh").display()));
    let error = crate::support::Output::of(&mut command).fails(1);
    assert!(error.contains("changed meanwhile; nothing was written"), "{error}");
    assert_eq!(root.read("kdk.yml"), format!("{FILE}# meanwhile\n"));
}

#[test]
fn keys_of_gitlabs_documents_lead_to_ours() {
    let root = TestRoot::with_registry("");
    for (key, expected) in [
        ("registry['storage']", "registry.storage"),
        ("gitlab_rails[\"registry_path\"]", "registry.path"),
        ("registry_external_url", "registry.external_url"),
        ("storage.s3.bucket", "registry.storage"),
        ("registry_nginx['listen_port']", "in the proxy's own configuration"),
    ] {
        for arguments in [&["config", "get", key][..], &["config", "set", key, "x"]] {
            let error = root.kdk(arguments).fails(1);
            assert!(error.contains("GitLab's") && error.contains(expected), "{key}: {error}");
        }
    }
}

#[test]
fn settings_without_effect_are_named_once() {
    let root = TestRoot::with_registry(
        "  compatibility_schema1_enabled: true\nrunner:\n  concurrent: 4\nrepositories:\n  registry: /x\n  rails: /y\nkdk:\n  telemetry:\n    enabled: false\n",
    );
    let said = root.kdk(&["reconfigure"]).stderr;
    let line = "these settings of kdk.yml have no effect here: kdk.telemetry, runner.concurrent, repositories.rails, registry.compatibility_schema1_enabled";
    assert_eq!(said.matches(line).count(), 1, "{said}");
}

/// Whoever opens a registry to others without a login is told so.
#[test]
fn a_registry_that_is_open_to_everybody_is_named() {
    let root = TestRoot::with_registry("  auth_enabled: false\n");
    let word = "may pull, push and delete";
    assert!(!root.kdk(&["reconfigure"]).stderr.contains(word));
    root.kdk(&["config", "set", "registry.listen_address", "0.0.0.0"]).ok();
    for command in [&["reconfigure"][..], &["start"], &["status"]] {
        let said = root.kdk(command);
        assert!(said.stderr.contains(word), "{command:?}: {}", said.stderr);
    }
}

/// What clients are shown is what a proxy serves, not what stands behind it.
#[test]
fn behind_a_proxy_its_url_is_shown() {
    let root = TestRoot::with_registry("  external_url: https://registry.example.com\n  self_signed: true\n");
    root.up();
    assert_eq!(root.service("registry")["address"], "https://registry.example.com");
    // Its certificate is not ours: there is nothing to install.
    let said = root.kdk(&["trust-docker-registry"]);
    assert!(
        said.stderr
            .contains("behind a proxy, with a certificate that is not kdk's"),
        "{}",
        said.stderr
    );
}

/// A certificate is made for the address that is listened on, and for what is asked for.
#[test]
fn certificates_are_made_for_addresses_and_names() {
    let root = TestRoot::with_registry(
        "  self_signed: true\n  listen_address: 127.0.0.2\n  certificate_names: [kdk.test, 127.0.0.9]\n",
    );
    root.kdk(&["reconfigure"]).ok();
    let text = crate::support::Output::of(
        std::process::Command::new("openssl")
            .args(["x509", "-noout", "-text", "-in"])
            .arg(root.join("registry_host.crt")),
    )
    .ok();
    for name in ["IP Address:127.0.0.2", "DNS:kdk.test", "IP Address:127.0.0.9"] {
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[test]
fn several_settings_are_set_together_or_not_at_all() {
    let root = TestRoot::with_registry("");
    root.kdk(&[
        "config",
        "set",
        "registry.host=registry.test",
        "registry.env.A=1",
        "port=3100",
    ])
    .ok();
    let file = root.read("kdk.yml");
    assert!(
        file.contains("registry.test") && file.contains("port: 3100") && file.contains("A: "),
        "{file}"
    );
    let error = root
        .kdk(&["config", "set", "registry.issuer=other", "registry.port=none"])
        .fails(1);
    assert!(error.contains("nothing was written"), "{error}");
    assert_eq!(root.read("kdk.yml"), file);
    let error = root
        .kdk(&["config", "set", "registry.issuer=other", "registry.host"])
        .fails(1);
    assert!(error.contains("registry.host has no value"), "{error}");
    // A value may hold the sign itself.
    root.kdk(&["config", "set", "registry.issuer", "a=b"]).ok();
    assert_eq!(root.kdk(&["config", "get", "registry.issuer"]).ok(), "a=b\n");
    // What holds a key of an object store is nobody else's to read.
    root.kdk(&[
        "config",
        "set",
        "registry.storage",
        "{s3: {bucket: b, secretkey: hidden-key}}",
    ])
    .ok();
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(root.join("kdk.yml")).expect("there").permissions());
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[test]
fn files_that_begin_oddly_are_kept() {
    for head in ["# mine\n\n---\n", "\u{feff}", "%YAML 1.1\n---\n"] {
        let root = TestRoot::with(&format!("{head}registry:\n  enabled: true\n"));
        root.kdk(&["config", "set", "registry.issuer", "own"]).ok();
        let file = root.read("kdk.yml");
        assert!(
            file.starts_with(head) && file.contains("issuer: own"),
            "{head:?}: {file}"
        );
        let listed = root.kdk(&["config", "list", "--show-origin"]).ok();
        let line = head.matches('\n').count() + 2;
        assert!(listed.contains(&format!("kdk.yml:{line}")), "{head:?}: {listed}");
    }
    let root = TestRoot::with("hostname: a.test\nregistry:\n  port: 5000\n  enabled: true\n  port: 5001\n");
    let error = root.kdk(&["config", "list"]).fails(1);
    assert!(error.contains("kdk.yml:5:3"), "{error}");
    for host in ["300.1.1.1", "1.2.3", "[kdk.test]", "[::1", "::1]"] {
        let root = TestRoot::with_registry("");
        let error = root.kdk(&["config", "set", "registry.host", host]).fails(1);
        assert!(error.contains("registry.host must be"), "{host}: {error}");
    }
}
