//! Each check of `kdk doctor`: something is broken, found, mended, and not found any more.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Output, TestRoot, wait};

/// Returns the ids of what is found by some checks, and the exit code.
#[track_caller]
fn found_by(root: &TestRoot, checks: &[&str], env: &[(&str, &str)]) -> (Vec<String>, i32) {
    let arguments = [&["doctor", "--json"], checks].concat();
    let said = Output::of(root.command(&arguments).envs(env.iter().copied()));
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!(report["version"], 1);
    let mut ids = Vec::new();
    for check in report["checks"].as_array().expect("a list") {
        let findings = check["findings"].as_array().expect("a list");
        assert_eq!(check["verdict"] == "found", !findings.is_empty(), "{check}");
        for finding in findings {
            assert!(!finding["evidence"].as_str().expect("text").is_empty(), "{finding}");
            let has_remedy = finding["fix"].as_array().is_some_and(|fix| !fix.is_empty())
                || finding["by_hand"].is_string()
                || ["add this line", "with: "]
                    .iter()
                    .any(|word| finding["evidence"].as_str().expect("text").contains(word));
            assert!(has_remedy || finding["id"] == "database-unavailable", "{finding}");
            ids.push(finding["id"].as_str().expect("text").to_owned());
        }
    }
    (ids, said.code)
}

fn found(root: &TestRoot, checks: &[&str]) -> Vec<String> {
    found_by(root, checks, &[]).0
}

/// Lets it mend what it may.
#[track_caller]
fn mend(root: &TestRoot, checks: &[&str]) -> String {
    let said = root.kdk(&[&["doctor", "--fix", "--yes"], checks].concat());
    assert_eq!(said.code, 0, "{said:?}");
    said.shown()
}

#[test]
fn a_healthy_root_is_healthy() {
    let root = TestRoot::with_registry("");
    root.up();
    let (ids, code) = found_by(
        &root,
        &[
            "settings",
            "services",
            "ports",
            "names",
            "certificates",
            "login",
            "storage",
        ],
        &[],
    );
    assert_eq!((ids.as_slice(), code), ([].as_slice(), 0));
    let said = root.kdk(&["doctor"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stdout.contains("- database: registry.database.enabled is false"),
        "{said:?}"
    );
    root.kdk(&["doctor", "prots"]).fails(2);
}

#[test]
fn what_is_down_silent_or_failing_is_found_and_started() {
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    root.kdk(&["config", "set", "registry.relativeurls", "true"]).ok();
    assert_eq!(
        found(&root, &["settings", "services"]),
        ["settings-pending", "service-down"]
    );
    let said = mend(&root, &[]);
    assert!(
        said.contains("kdk reconfigure") && said.contains("kdk start rails-web registry"),
        "{said}"
    );
    assert_eq!(root.service("registry")["health"], "ok");
    let pid = Pid::from_raw(root.pid("registry"));
    kill(pid, Signal::SIGSTOP).expect("stopped");
    assert_eq!(found(&root, &["services"]), ["service-silent"]);
    kill(pid, Signal::SIGCONT).expect("goes on");
    let daemon = Pid::from_raw(root.daemon().expect("a daemon"));
    kill(daemon, Signal::SIGSTOP).expect("stopped");
    assert_eq!(found(&root, &["services"]), ["supervisor-silent"]);
    kill(daemon, Signal::SIGCONT).expect("goes on");
    root.kdk(&["stop", "rails"]).ok();
    assert_eq!(found(&root, &["services", "login"]), ["service-down"]);
    mend(&root, &["services", "login"]);
    let rails = Pid::from_raw(root.pid("rails-web"));
    kill(rails, Signal::SIGSTOP).expect("stopped");
    assert_eq!(found(&root, &["services", "login"]), ["service-silent", "no-logins"]);
    kill(rails, Signal::SIGCONT).expect("goes on");
    let missing = TestRoot::with_registry("  bin: /nowhere/registry\n");
    missing.kdk(&["reconfigure"]).ok();
    assert!(found(&missing, &["services"]).contains(&"service-unready".to_owned()));
    let fresh = TestRoot::with_registry("");
    assert_eq!(found(&fresh, &["services"]), ["service-unready", "service-unready"]);
    mend(&fresh, &["services"]);
    let failing = TestRoot::with_registry("  bin: /bin/false\n");
    failing.kdk(&["reconfigure"]).ok();
    failing.kdk(&["start"]).fails(1);
    wait("it fails", || {
        let ids = found(&failing, &["services"]);
        (ids.contains(&"service-fails".to_owned())).then_some(())
    });
}

#[test]
fn settings_ports_and_names_are_looked_at() {
    let root = TestRoot::with_registry("");
    root.up();
    root.kdk(&["config", "set", "registry.relativeurls", "true"]).ok();
    assert_eq!(found(&root, &["settings"]), ["settings-pending"]);
    mend(&root, &["settings"]);
    let settings = root.read("kdk.yml");
    root.write("kdk.yml", &settings.replace("  port:", "  prot: 1\n  port:"));
    assert_eq!(
        found_by(&root, &["settings"], &[]),
        (vec!["settings-invalid".to_owned()], 1)
    );
    std::fs::remove_file(root.join("kdk.yml")).expect("removed");
    assert_eq!(found(&root, &["settings"]), ["settings-gone"]);
    root.write("kdk.yml", &format!("hostname: nowhere.invalid\n{settings}"));
    assert_eq!(found(&root, &["names"]), ["name-unresolved"]);
    root.write("kdk.yml", &settings);
    root.kdk(&["stop", "registry"]).ok();
    let listener = std::net::TcpListener::bind(("127.0.0.1", root.registry_port)).expect("bound");
    assert_eq!(found(&root, &["ports"]), ["port-taken"]);
    drop(listener);
    wait("it is free", || found(&root, &["ports"]).is_empty().then_some(()));
}

#[test]
fn certificates_and_keys_are_looked_at() {
    let root = TestRoot::with_registry("  self_signed: true\n");
    root.up();
    std::fs::remove_file(root.join("localhost.crt")).expect("removed");
    assert_eq!(found(&root, &["certificates"]), ["certificate-outdated"]);
    mend(&root, &["certificates"]);
    // What is served is not what the file holds.
    let (crt, key) = (root.read("registry_host.crt"), root.read("registry_host.key"));
    for file in ["registry_host.crt", "registry_host.key"] {
        std::fs::remove_file(root.join(file)).expect("removed");
    }
    assert_eq!(found(&root, &["certificates"]), ["certificate-missing"]);
    root.kdk(&["reconfigure", "--no-restart"]).ok();
    std::fs::write(root.join("registry_host.crt"), &crt).expect("written");
    std::fs::write(root.join("registry_host.key"), &key).expect("written");
    let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("valid");
    parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    let pair = rcgen::KeyPair::generate().expect("a key");
    let expired = parameters.self_signed(&pair).expect("signed");
    root.write("registry_host.crt", &expired.pem());
    root.write("registry_host.key", &pair.serialize_pem());
    assert_eq!(found(&root, &["certificates"]), ["certificate-useless"]);
    // Tokens that the registry would not believe.
    let own = TestRoot::with_registry("  key: other.key\n");
    own.write("other.key", &pair.serialize_pem());
    let other = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).expect("signed");
    own.write("localhost.crt", &other.cert.pem());
    assert!(found(&own, &["login"]).contains(&"token-key-mismatch".to_owned()));
    let elsewhere = TestRoot::with_registry("  token_realm: http://tokens.test:3000/jwt/auth\n");
    assert_eq!(found(&elsewhere, &["login"]), ["two-origins"]);
}

#[test]
fn clients_storage_database_and_limits_are_looked_at() {
    let root = TestRoot::with_registry("");
    root.up();
    let shell = [
        ("DOCKER_MACHINE_NAME", "default"),
        ("http_proxy", "http://proxy.test:3128"),
    ];
    let (ids, code) = found_by(&root, &["clients"], &shell);
    assert!(
        ids.contains(&"docker-machine".to_owned()) && ids.contains(&"proxy-catches".to_owned()),
        "{ids:?}"
    );
    assert_eq!(code, 0, "warnings only");
    let exempt = [shell[1], ("no_proxy", "example.org,127.0.0.1")];
    assert!(
        !found_by(&root, &["clients"], &exempt)
            .0
            .contains(&"proxy-catches".to_owned())
    );
    let limited = |most: u32| {
        let mut shell = std::process::Command::new("sh");
        shell
            .args([
                "-c",
                &format!("ulimit -n {most} && exec \"$0\" doctor limits"),
                crate::support::KDK,
            ])
            .current_dir(root.path());
        Output::of(&mut shell).stdout
    };
    assert!(limited(500).contains("a process may have 500 files open"));
    assert!(limited(2000).contains("✔ limits"));
    // Metadata that are in a database, which is not used any more.
    let lockfiles = root.join("registry/storage/docker/registry/lockfiles");
    std::fs::create_dir_all(&lockfiles).expect("made");
    std::fs::write(lockfiles.join("database-in-use"), "{}").expect("written");
    assert_eq!(found(&root, &["database"]), ["database-disabled"]);
    std::fs::remove_file(lockfiles.join("database-in-use")).expect("removed");
    let port = crate::support::port();
    let away = TestRoot::with_registry(&format!(
        "  database:\n    enabled: true\n    host: 127.0.0.1\n    port: {port}\n    user: x\n    password: y\n"
    ));
    away.kdk(&["reconfigure"]).fails(1);
    assert_eq!(found(&away, &["database"]), ["database-unavailable"]);
    root.kdk(&["stop"]).ok();
    std::fs::rename(root.join("registry/storage"), root.join("aside")).expect("moved");
    assert_eq!(found(&root, &["storage"]), ["storage-gone"]);
}
