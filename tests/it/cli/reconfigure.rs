//! `kdk reconfigure`: what is written, kept, backed up, restarted.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::support::namespace::{ADDRESS, Namespace};
use crate::support::{Output, TestRoot};

fn mode(root: &TestRoot, path: &str) -> u32 {
    std::fs::metadata(root.join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn the_second_run_changes_nothing() {
    let root = TestRoot::with_registry("  self_signed: true\n");
    assert_eq!(root.kdk(&["reconfigure", "--dry-run"]).code, 3);
    assert!(!root.join("registry").exists(), "a dry run wrote something");
    root.kdk(&["reconfigure"]).ok();
    let files = [
        "registry/config.yml",
        "khulnasoft/config/khulnasoft.yml",
        "registry_host.crt",
        "localhost.key",
    ];
    let inodes = || files.map(|file| std::fs::metadata(root.join(file)).expect("there").ino());
    let before = inodes();
    let again = root.kdk(&["reconfigure"]);
    assert!(again.stderr.contains("Nothing to change"), "{}", again.stderr);
    assert_eq!(inodes(), before);
    root.kdk(&["reconfigure", "--dry-run"]).ok();
    root.kdk(&["diff-config"]).ok();
}

#[test]
fn secrets_are_private_and_never_shown() {
    let root = TestRoot::with_registry("  self_signed: true\n  notifications_enabled: true\n");
    let first = root.kdk(&["reconfigure"]);
    for path in [
        "registry/config.yml",
        "khulnasoft/config/khulnasoft.yml",
        "registry_host.key",
        "localhost.key",
        ".kdk/secrets.json",
        ".kdk/rails/identity.json",
    ] {
        assert_eq!(mode(&root, path), 0o600, "{path}");
    }
    assert_eq!(mode(&root, ".kdk"), 0o700);
    let secrets: serde_json::Value = serde_json::from_str(&root.read(".kdk/secrets.json")).expect("JSON");
    let secrets: Vec<&str> = ["http_secret", "notification_secret"]
        .map(|key| secrets[key].as_str().expect("text"))
        .to_vec();
    root.kdk(&["config", "set", "registry.relativeurls", "true"]).ok();
    root.write(
        "registry/config.yml",
        &root.read("registry/config.yml").replace(secrets[0], "other"),
    );
    let diff = root.kdk(&["diff-config"]);
    for shown in [
        first.shown(),
        diff.shown(),
        root.kdk(&["config", "list"]).ok(),
        root.kdk(&["diff-config", "--json"]).shown(),
    ] {
        assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
    }
    root.kdk(&["reconfigure"]).ok();
    assert!(
        root.read("registry/config.yml").contains(secrets[0]),
        "the secret was not kept"
    );
    std::fs::set_permissions(root.join("localhost.key"), std::fs::Permissions::from_mode(0o644)).expect("set");
    root.kdk(&["config", "set", "registry.relativeurls", "false"]).ok();
    root.kdk(&["reconfigure"]).ok();
}

#[test]
fn what_is_replaced_is_backed_up_and_what_is_protected_is_not_replaced() {
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    root.write("registry/config.yml", "# Rendered by kdk\nmine: true\n");
    root.kdk(&["config", "set", "kdk.protected_config_files", "registry/*"])
        .ok();
    let protected = root.kdk(&["reconfigure"]);
    assert!(
        protected
            .stderr
            .contains("Changes to 'registry/config.yml' not applied because it's protected in kdk.yml."),
        "{}",
        protected.stderr
    );
    assert!(root.read("registry/config.yml").contains("mine: true"));
    root.kdk(&["config", "set", "kdk.overwrite_changes", "true"]).ok();
    root.kdk(&["reconfigure"]).ok();
    assert!(root.read("registry/config.yml").contains("version: 0.1"));
    let kept = std::fs::read_dir(root.join(".backups")).expect("there").flatten();
    let kept = kept
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("registry__config.yml."))
        .count();
    assert_eq!(kept, 1);
}

#[test]
fn a_file_that_was_changed_by_hand_is_named() {
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    let rendered = root.read("registry/config.yml");
    let hand = "registry/config.yml was changed by hand";
    let unapplied = "kdk.yml was changed since";
    root.kdk(&["config", "set", "registry.auth_enabled", "false"]).ok();
    let told = root.kdk(&["status"]).stderr;
    assert!(told.contains(unapplied) && !told.contains(hand), "{told}");
    assert!(!root.kdk(&["reconfigure"]).stderr.contains(hand));
    root.kdk(&["config", "unset", "registry.auth_enabled"]).ok();
    root.kdk(&["reconfigure"]).ok();

    root.write("registry/config.yml", &format!("{rendered}# mine\n"));
    let told = root.kdk(&["status"]).stderr;
    assert!(told.contains(hand) && !told.contains(unapplied), "{told}");
    assert!(root.kdk(&["reconfigure", "--dry-run"]).fails(3).contains(hand));
    let told = root.kdk(&["reconfigure"]).stderr;
    assert!(told.contains(hand) && told.contains("is kept in .backups"), "{told}");
    assert_eq!(root.read("registry/config.yml"), rendered);
    assert!(!root.kdk(&["status"]).stderr.contains(hand));
}

#[test]
fn only_the_registry_s_keys_of_another_tool_s_file_change() {
    let theirs = "# A real checkout's file\nproduction: &base\n  khulnasoft:\n    host: example.org # ours\n    port: 443\n  registry:\n    enabled: false\n    # the old name\n    host: old.example.org\n  ldap:\n    enabled: false\n\ndevelopment:\n  <<: *base\n\ntest:\n  <<: *base\n";
    let root = TestRoot::with_registry("rails:\n  mode: external\n  url: http://example.org\n");
    root.write("khulnasoft/config/khulnasoft.yml", theirs);
    root.kdk(&["reconfigure"]).ok();
    let text = root.read("khulnasoft/config/khulnasoft.yml");
    for kept in [
        "# A real checkout's file",
        "host: example.org # ours",
        "# the old name",
        "ldap:\n    enabled: false",
        "test:\n  <<: *base",
    ] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    let mut tree: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
    tree.apply_merge().expect("merged");
    assert_eq!(
        tree["development"]["registry"]["enabled"],
        serde_yaml::Value::from(true)
    );
    assert_eq!(
        tree["production"]["registry"]["issuer"],
        serde_yaml::Value::from("khulnasoft-issuer")
    );
    assert_eq!(tree["production"]["khulnasoft"]["port"], serde_yaml::Value::from(443));
    assert!(root.kdk(&["reconfigure"]).stderr.contains("Nothing to change"));
    assert!(
        std::fs::read_dir(root.join(".backups"))
            .expect("there")
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("khulnasoft__config"))
    );
}

#[test]
fn images_that_will_not_be_seen_any_more_are_told_of() {
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    let set = |path: &str| {
        let value = format!("{{filesystem: {{rootdirectory: {path}}}}}");
        root.kdk(&["config", "set", "registry.storage", &value]).ok();
    };
    let (was, now) = (root.join("registry/storage"), root.join("elsewhere"));
    let told = format!(
        "the images in {was} will not be seen any more: the registry looks in {now}; to move them, stop the registry and run: cp -a {was}/. {now}/",
        was = was.display(),
        now = now.display()
    );
    // There are none yet.
    set("elsewhere");
    let said = root.kdk(&["reconfigure", "--dry-run"]);
    assert!(!said.stderr.contains("will not be seen"), "{said:?}");
    std::fs::create_dir_all(was.join("docker/registry/v2/repositories/app")).expect("made");
    let said = root.kdk(&["reconfigure", "--dry-run"]);
    assert!(said.stderr.contains(&told), "{said:?}");
    let said = root.kdk(&["reconfigure"]);
    assert!(said.stderr.contains(&told), "{said:?}");
    // Once; and not where they were taken along.
    assert!(!root.kdk(&["reconfigure"]).stderr.contains("will not be seen"));
    std::fs::create_dir_all(now.join("docker/registry/v2/repositories/app")).expect("made");
    root.kdk(&["config", "unset", "registry.storage"]).ok();
    assert!(!root.kdk(&["reconfigure"]).stderr.contains("will not be seen"));
}

#[test]
fn own_templates_replace_the_built_in_ones() {
    let root = TestRoot::with_registry("");
    let rest = "version: 0.1\nstorage: {filesystem: {rootdirectory: /nowhere}}\nhttp: {addr: '127.0.0.1:1'}\n";
    let template = |line: &str| root.write("templates/registry/config.yml.tera", &format!("{rest}{line}"));
    template("mine: {{ registry.issuer | json }}\n");
    root.kdk(&["reconfigure"]).ok();
    assert_eq!(
        root.read("registry/config.yml"),
        format!("{rest}mine: \"khulnasoft-issuer\"\n")
    );
    template("mine: {{ registry.isuer | json }}\n");
    let error = root.kdk(&["reconfigure"]).fails(1);
    assert!(
        error.contains("your own, in templates/") && error.contains("isuer"),
        "{error}"
    );
    assert!(root.read("registry/config.yml").contains("mine: \"khulnasoft-issuer\""));
}

#[test]
fn running_services_are_restarted_and_stopped_ones_are_not() {
    let root = TestRoot::with_registry("");
    root.up();
    let (registry, rails) = (root.pid("registry"), root.pid("rails-web"));
    root.kdk(&["config", "set", "registry.relativeurls", "true"]).ok();
    let said = root.kdk(&["reconfigure", "--no-restart"]);
    assert!(said.stderr.contains("kdk restart registry"), "{}", said.stderr);
    assert_eq!(root.pid("registry"), registry);
    root.kdk(&["reconfigure"]).ok();
    assert_ne!(root.pid("registry"), registry, "the restart that was owed is forgotten");
    assert_eq!(root.pid("rails-web"), rails);
    root.kdk(&["config", "set", "registry.env", "{EXTRA: x}"]).ok();
    let before = root.pid("registry");
    root.kdk(&["reconfigure"]).ok();
    let after = root.pid("registry");
    assert_ne!(after, before);
    let environment = std::fs::read(format!("/proc/{after}/environ")).expect("read");
    assert!(
        String::from_utf8_lossy(&environment)
            .split('\0')
            .any(|pair| pair == "EXTRA=x")
    );
    root.kdk(&["stop", "registry"]).ok();
    root.kdk(&["config", "set", "registry.relativeurls", "true"]).ok();
    root.kdk(&["reconfigure"]).ok();
    assert_eq!(root.service("registry")["state"], "down");
    root.kdk(&["start", "registry"]).ok();
    root.kdk(&["config", "set", "registry.enabled", "false"]).ok();
    root.kdk(&["reconfigure"]).ok();
    assert!(
        root.processes()
            .iter()
            .all(|(_, line)| !line.contains("registry serve")),
        "a disabled service lingers"
    );
    assert!(
        root.join("localhost.key").exists(),
        "the signing pair went with the registry"
    );
}

#[test]
fn old_habits_get_a_sentence() {
    let root = TestRoot::with_registry("");
    root.write("registry_image", "registry:2\n");
    root.write("registry_enabled", "true\n");
    let said = root.kdk(&["reconfigure"]).stderr;
    for expected in [
        "the file registry_image is not read any more; use the setting registry.image",
        "the file registry_enabled is not read any more; use the setting registry.enabled",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    let restart = root.kdk(&["restart", "tunnel"]).fails(1);
    assert!(restart.contains("removed in 2020"), "{restart}");
}

#[test]
fn a_root_that_others_may_write_is_refused() {
    let root = TestRoot::new();
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o777)).expect("set");
    let error = root.kdk(&["status"]).fails(1);
    assert!(error.contains("; run: chmod o-w"), "{error}");
}

#[test]
fn the_environment_s_root_and_the_argument_s_root() {
    let (one, two) = (TestRoot::with("port: 3001\n"), TestRoot::with("port: 3002\n"));
    let port = |environment: Option<&TestRoot>, argument: Option<&TestRoot>| {
        let mut arguments = vec!["config", "get", "port"];
        if let Some(root) = argument {
            arguments.extend(["--root", root.path().to_str().expect("UTF-8")]);
        }
        let mut command = one.command(&arguments);
        if let Some(root) = environment {
            command.env("KDK_ROOT", root.path());
        }
        Output::of(&mut command).ok()
    };
    assert_eq!(port(None, None), "3001\n");
    assert_eq!(port(Some(&two), None), "3002\n");
    assert_eq!(port(Some(&one), Some(&two)), "3002\n");
}

#[test]
fn many_runs_in_a_row_change_nothing() {
    // Lists and maps must come out in the same order in every process.
    let root = TestRoot::with_registry(
        "  notifications_enabled: true\n  notifications:\n    endpoints:\n      - {name: b, url: 'http://127.0.0.1:1/', headers: {X-A: [a], X-B: [b], X-C: [c]}, timeout: 1s, backoff: 2s}\n",
    );
    root.kdk(&["reconfigure"]).ok();
    for _ in 0..12 {
        root.kdk(&["reconfigure", "--dry-run"]).ok();
    }
}

#[test]
fn private_keys_are_never_shown() {
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    let (key, certificate) = (root.read("localhost.key"), root.read("localhost.crt"));
    root.kdk(&["config", "set", "registry.internal_key", &key]).refused();
    let indent = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let settings = root.read("kdk.yml");
    root.write(
        "kdk.yml",
        &format!(
            "{settings}  internal_key: |\n{}  internal_certificate: |\n{}",
            indent(&key),
            indent(&certificate)
        ),
    );
    std::fs::write(root.join("localhost.key"), "another").expect("written");
    let secret = key.lines().nth(2).expect("a line");
    for arguments in [
        &["diff-config"][..],
        &["diff-config", "--json"],
        &["reconfigure", "--dry-run"],
        &["config", "list"],
        &["reconfigure"],
    ] {
        let shown = root.kdk(arguments).shown();
        assert!(!shown.contains(secret), "{arguments:?}: {shown}");
    }
    assert_eq!(root.read("localhost.key"), key);
    assert_eq!(mode(&root, "localhost.key"), 0o600);
}

#[test]
fn a_root_in_a_quoted_directory_is_only_a_directory() {
    let root = TestRoot::with_registry("");
    let odd = root.join("q'; touch INJECTED; '");
    std::fs::create_dir(&odd).expect("made");
    std::fs::copy(root.join("kdk.yml"), odd.join("kdk.yml")).expect("copied");
    root.kdk(&["--root", odd.to_str().expect("UTF-8"), "reconfigure"]).ok();
    let mut make = std::process::Command::new("make");
    Output::of(
        make.args(["-s", "status"])
            .env("KDK", crate::support::KDK)
            .env("HOME", root.join("home"))
            .current_dir(&odd),
    )
    .ok();
    assert!(!odd.join("INJECTED").exists());
}

#[test]
fn inside_maps_single_keys_are_set() {
    let root = TestRoot::with_registry("");
    root.kdk(&["config", "set", "registry.env.DEBUG", "yes please"]).ok();
    root.kdk(&["config", "set", "registry.config.http.prefix", "/x/"]).ok();
    assert_eq!(root.kdk(&["config", "get", "registry.env"]).ok(), "DEBUG: yes please\n");
    for value in ["", "1e3", "true"] {
        root.kdk(&["config", "set", "registry.env.DEBUG", value]).ok();
        assert_eq!(
            root.kdk(&["config", "get", "registry.env.DEBUG"]).ok().trim_end(),
            value
        );
    }
    let error = root.kdk(&["config", "set", "registry.config.http.addr", ":1"]).fails(1);
    assert!(
        error.contains("set registry.listen_address and registry.port"),
        "{error}"
    );
}

#[test]
fn settings_that_the_registry_would_refuse_stop_nothing() {
    let root = TestRoot::with_registry("");
    root.up();
    let pid = root.pid("registry");
    let rendered = root.read("registry/config.yml");
    for (key, value, expected) in [
        ("registry.storage", "{s3: {bucket: x}}", "serves storage.filesystem"),
        ("registry.config.log.level", "nonsense", "no level"),
        ("registry.config.http.draintimeout", "abc", "no duration"),
        ("registry.rootcertbundle", "/nope.crt", "cannot read /nope.crt: "),
        ("registry.key", "/nope.key", "registry.key: /nope.key does not exist"),
        ("registry.path", "/dev/null", "/dev/null is no directory"),
        ("rails.ca_file", "/nope.crt", "auth.token.forwardca: "),
        (
            "registry.config.http.tls",
            "{certificate: /nope.crt, key: /nope.key}",
            "TLS certificate: /nope.crt: ",
        ),
        (
            "registry.config.database",
            "{enabled: true, sslmode: verify-full}",
            "set database.sslrootcert to the CA certificate",
        ),
        (
            "registry.config.database",
            "{enabled: true, sslmode: verify-ca, sslrootcert: /nope.crt}",
            "cannot secure the connection to the metadata database: /nope.crt: ",
        ),
        (
            "registry.config.auth",
            "{htpasswd: {realm: x, path: /no/htpasswd}, token: null}",
            "auth.htpasswd.path: cannot read /no/htpasswd",
        ),
    ] {
        let before = root.read("kdk.yml");
        root.kdk(&["config", "set", key, value]).ok();
        let error = root.kdk(&["reconfigure"]).fails(1);
        assert!(
            error.contains(expected) && error.contains("nothing was written"),
            "{key}: {error}"
        );
        assert_eq!(
            (root.pid("registry"), root.read("registry/config.yml")),
            (pid, rendered.clone()),
            "{key}"
        );
        let status = root.kdk(&["status"]).stderr;
        assert!(
            status.contains("kdk reconfigure would fail: ") && status.contains(expected),
            "{key}: {status}"
        );
        root.kdk(&["config", "unset", key]).ok();
        assert_eq!(root.read("kdk.yml"), before, "{key}: something is left behind");
    }
    root.kdk(&["reconfigure"]).ok();
    // What it names may go later.
    let passwords = root.join("htpasswd");
    let entry = "somebody:$2b$04$yDiVztqx4UwkNoM5nQXo7OQzjMLTm5HX9K1mBhXFqSBqKjnT0aSqi\n";
    std::fs::write(&passwords, entry).expect("written");
    let auth = format!("{{htpasswd: {{realm: x, path: {}}}, token: null}}", passwords.display());
    root.kdk(&["config", "set", "registry.config.auth", &auth]).ok();
    root.kdk(&["reconfigure"]).ok();
    let pid = root.pid("registry");
    std::fs::remove_file(&passwords).expect("removed");
    let error = root.kdk(&["restart", "registry"]).fails(1);
    assert!(
        error.contains("registry is not restarted, as it would not start: auth.htpasswd.path: cannot read "),
        "{error}"
    );
    assert_eq!(root.pid("registry"), pid);
}

#[test]
fn a_dry_run_tells_of_restarts() {
    let root = TestRoot::with_registry("");
    root.up();
    root.kdk(&["config", "set", "registry.auth_enabled", "false"]).ok();
    let said = root.kdk(&["-q", "reconfigure", "--dry-run"]);
    assert_eq!(said.code, 3, "{}", said.stderr);
    assert!(said.stdout.contains("registry would be restarted"), "{}", said.stdout);
    assert_eq!(said.stderr, "", "a quiet one says only what was asked for");
}

/// A pair that is given as text goes where it is read, and replaces nothing without a copy.
#[test]
fn a_pair_of_ones_own_goes_where_it_is_read() {
    let root = TestRoot::with_registry("  key: keys/own.key\n  rootcertbundle: keys/own.crt\n");
    let make = |name: &str| {
        let arguments = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=tokens",
        ];
        let mut command = std::process::Command::new("openssl");
        command
            .args(arguments)
            .arg("-keyout")
            .arg(root.join(&format!("{name}.pem")));
        crate::support::Output::of(command.arg("-out").arg(root.join(&format!("{name}.crt")))).ok();
        [format!("{name}.pem"), format!("{name}.crt")].map(|file| root.read(&file))
    };
    let ([key, certificate], [other, _]) = (make("one"), make("two"));
    std::fs::create_dir_all(root.join("keys")).expect("made");
    std::fs::write(root.join("keys/own.key"), "somebody's").expect("written");
    // As GitLab's documents write it, in one line.
    let line = |text: &str| text.replace('\n', "\\n");
    let set = |key: &str, certificate: &str| {
        let pair = [
            format!("registry.internal_key={}", line(key)),
            format!("registry.internal_certificate={}", line(certificate)),
        ];
        root.kdk(&["config", "set", &pair[0], &pair[1]]).ok();
    };
    // One that does not match is refused before anything is touched.
    set(&other, &certificate);
    let error = root.kdk(&["reconfigure"]).fails(1);
    assert!(
        error.contains("registry.internal_key signs tokens") && error.contains("nothing was written"),
        "{error}"
    );
    assert_eq!(root.read("keys/own.key"), "somebody's");
    set(&key, &certificate);
    root.up();
    assert_eq!(
        (root.read("keys/own.key"), root.read("keys/own.crt")),
        (key, certificate)
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(root.join("keys/own.key"))
            .expect("there")
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let kept = std::fs::read_dir(root.join(".backups")).expect("listed").flatten();
    let kept: Vec<String> = kept
        .map(|entry| std::fs::read_to_string(entry.path()).expect("read"))
        .collect();
    assert!(kept.iter().any(|text| text == "somebody's"), "{kept:?}");
    let token = root.kdk(&["registry", "token", "--scope", "repository:a/b:pull"]).ok();
    let answer = reqwest::blocking::Client::new()
        .get(root.registry_url("/v2/a/b/tags/list"))
        .bearer_auth(token.trim())
        .send()
        .expect("answered");
    assert_eq!(answer.status(), 404);
}

/// What GitLab's administration guide lists for a registry and a GitLab on nodes of their own, in one `kdk.yml`:
/// both rendered files say it, and the pair is where both read it.
#[test]
fn a_registry_and_its_rails_on_separate_nodes() {
    let root = TestRoot::with_registry("");
    let mut openssl = std::process::Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=tokens",
    ]);
    openssl.arg("-keyout").arg(root.join("given.key"));
    crate::support::Output::of(openssl.arg("-out").arg(root.join("given.crt"))).ok();
    let [key, certificate] = ["given.key", "given.crt"].map(|file| root.read(file));
    let line = |text: &str| text.replace('\n', "\\n");
    let pairs = [
        ("registry.listen_address", "0.0.0.0".to_owned()),
        (
            "registry.token_realm",
            "http://khulnasoft.example.com/jwt/auth".to_owned(),
        ),
        ("registry.http_secret", "a-random-string".to_owned()),
        ("registry.internal_key", line(&key)),
        ("registry.internal_certificate", line(&certificate)),
        ("registry.key", "keys/internal.key".to_owned()),
        ("registry.rootcertbundle", "keys/internal.crt".to_owned()),
        ("registry.health_storagedriver_enabled", "false".to_owned()),
        ("registry.issuer", "omnibus-khulnasoft-issuer".to_owned()),
        ("registry.api_url", "http://10.0.0.5:5005".to_owned()),
        ("registry.host", "registry.khulnasoft.example".to_owned()),
    ];
    let settings = pairs.map(|(key, value)| format!("{key}={value}"));
    let line: Vec<&str> = ["config", "set"]
        .into_iter()
        .chain(settings.iter().map(String::as_str))
        .collect();
    root.kdk(&line).ok();
    root.kdk(&["reconfigure"]).ok();
    let yaml = |file: &str| -> serde_json::Value { serde_yaml::from_str(&root.read(file)).expect("YAML") };
    let registry = yaml("registry/config.yml");
    assert_eq!(registry["http"]["addr"], format!("0.0.0.0:{}", root.registry_port));
    assert_eq!(registry["http"]["secret"], "a-random-string");
    assert_eq!(registry["health"]["storagedriver"]["enabled"], false);
    let token = &registry["auth"]["token"];
    assert_eq!(token["realm"], "http://khulnasoft.example.com/jwt/auth");
    assert_eq!(token["issuer"], "omnibus-khulnasoft-issuer");
    let bundle = token["rootcertbundle"].as_str().expect("a path");
    assert_eq!(std::fs::read_to_string(bundle).expect("read"), certificate);
    let rails = &yaml("khulnasoft/config/khulnasoft.yml")["production"]["registry"];
    assert_eq!(rails["enabled"], true, "{rails}");
    assert_eq!(rails["api_url"], "http://10.0.0.5:5005");
    assert_eq!(rails["host"], "registry.khulnasoft.example");
    assert_eq!(rails["issuer"], "omnibus-khulnasoft-issuer");
    let path = rails["key"].as_str().expect("a path");
    assert_eq!(std::fs::read_to_string(path).expect("read"), key);
}

/// Whoever is sent for tokens to a name that leads to this machine's loopback, and is not on it, is told of.
#[test]
fn a_realm_that_leads_others_to_themselves_is_told_of() {
    for (address, is_told) in [("127.0.0.1", true), (ADDRESS, false)] {
        let Some(namespace) = Namespace::new(address) else {
            return;
        };
        namespace.sh("", "kdk init root").ok();
        let settings = "hostname: kdk.test\nregistry:\n  enabled: true\n  auth_enabled: true\n  listen_address: 0.0.0.0\n  token_realm: http://kdk.test:3000/jwt/auth\n";
        std::fs::write(namespace.join("root/kdk.yml"), settings).expect("written");
        let said = namespace.sh("root", "kdk reconfigure").shown();
        let expected = "other machines are sent to http://kdk.test:3000/jwt/auth for tokens, but kdk.test is 127.0.0.1";
        assert_eq!(said.contains(expected), is_told, "{address}: {said}");
    }
}

/// A pair for the web that nobody accepts any more is told of where settings are applied.
#[test]
fn a_certificate_of_the_web_that_has_expired_is_told_of() {
    let root = TestRoot::with_registry("https:\n  enabled: true\n  certificate: web.crt\n  key: web.key\n");
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).expect("a name");
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let key = rcgen::KeyPair::generate().expect("a key");
    root.write("web.crt", &params.self_signed(&key).expect("signed").pem());
    root.write("web.key", &key.serialize_pem());
    let shown = root.kdk(&["reconfigure", "--dry-run"]).shown();
    assert!(
        shown.contains("https.certificate: ")
            && shown.contains("web.crt: the certificate has expired: clients refuse it"),
        "{shown}"
    );
}

/// KhulnaSoft's HTTPS may have a pair of its own kind, and tokens are signed with another.
#[test]
fn https_has_a_pair_of_its_own() {
    let root = TestRoot::with_registry("https:\n  enabled: true\n");
    let make = |name: &str| {
        let (key, certificate) = (root.join(&format!("{name}.key")), root.join(&format!("{name}.crt")));
        let mut command = std::process::Command::new("openssl");
        command
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args([
                "-subj",
                "/CN=web",
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
            ])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key);
        crate::support::Output::of(command.arg("-out").arg(&certificate)).ok();
        [key, certificate].map(|path| path.display().to_string())
    };
    let ([key, certificate], [other, _]) = (make("web"), make("other"));
    root.up();
    let pid = root.pid("rails-web");
    let set = |certificate: &str, key: &str| {
        let pair = [format!("https.certificate={certificate}"), format!("https.key={key}")];
        root.kdk(&["config", "set", &pair[0], &pair[1]]).ok();
    };
    for (certificate, key, expected) in [
        ("/nope.crt", key.as_str(), "https.certificate: /nope.crt does not exist"),
        (certificate.as_str(), "/nope.key", "https.key: /nope.key does not exist"),
        (
            certificate.as_str(),
            other.as_str(),
            "is not the key of a certificate in",
        ),
        (certificate.as_str(), certificate.as_str(), "is no private key in PEM"),
    ] {
        set(certificate, key);
        let error = root.kdk(&["reconfigure"]).fails(1);
        assert!(
            error.contains(expected) && error.contains("nothing was written"),
            "{error}"
        );
        assert_eq!(root.pid("rails-web"), pid);
    }
    set(&certificate, &key);
    let said = root.kdk(&["reconfigure"]);
    assert!(
        said.stderr.contains("restarted") && said.stderr.contains("rails-web"),
        "{}",
        said.stderr
    );
    said.ok();
    let authority = reqwest::Certificate::from_pem(&std::fs::read(&certificate).expect("read")).expect("a certificate");
    let client = reqwest::blocking::Client::builder()
        .tls_certs_only([authority])
        .build()
        .expect("a client");
    let health = format!("https://localhost:{}/-/health", root.rails_port);
    assert_eq!(client.get(health).send().expect("its own certificate").status(), 200);
    // Tokens come from there, and are signed with the key of before.
    let token = root.kdk(&["registry", "token", "--scope", "registry:catalog:*"]).ok();
    let catalog = format!("http://127.0.0.1:{}/v2/_catalog", root.registry_port);
    let answer = reqwest::blocking::Client::new()
        .get(catalog)
        .bearer_auth(token.trim())
        .send();
    assert_eq!(answer.expect("answered").status(), 200);
}
