//! What a user sees of a fault: the command at hand, `kdk status`, and the log, in the same words.

use std::fmt::Write as _;

use crate::support::{TestRoot, wait};

/// Hides what changes from run to run: process ids, times, and how wide columns are for them.
fn stable(root: &TestRoot, text: &str) -> String {
    let word = |word: &str| -> String {
        let bare = word.trim_end_matches([')', ',', ';', '"']);
        let is_date = bare.len() >= 10 && bare.starts_with("20") && bare[..10].matches('-').count() == 2;
        let is_number = bare.len() > 2 && bare.bytes().all(|byte| byte.is_ascii_digit());
        let is_time =
            bare.ends_with('s') && bare[..bare.len() - 1].bytes().all(|byte| byte.is_ascii_digit()) && bare.len() > 1;
        if word.starts_with("it-") {
            // This test is the process.
            "it".to_owned()
        } else if is_date {
            "DATE".to_owned()
        } else if is_number {
            word.replace(bare, "N")
        } else if is_time {
            word.replace(bare, "Ns")
        } else {
            word.to_owned()
        }
    };
    let mut lines: Vec<String> = Vec::new();
    for line in root.stable(text).lines() {
        let line: Vec<String> = line.split_whitespace().map(word).collect();
        let line = line.join(" ");
        // The same may be said of each try; lines of the log that are no errors depend on the moment.
        if lines.last() != Some(&line) && !line.contains(" : {") {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// What is seen while a fault lasts.
fn seen(root: &TestRoot, title: &str, commands: &[&[&str]]) -> String {
    told(root, title, &[commands, &[&["status"]]].concat())
}

/// What commands say; the status of what is tried again and again depends on the moment.
fn told(root: &TestRoot, title: &str, commands: &[&[&str]]) -> String {
    let mut text = format!("# {title}\n");
    for command in commands {
        let shown = stable(root, &root.kdk(command).shown());
        let _ = writeln!(text, "$ kdk {}\n{shown}\n", command.join(" "));
    }
    text
}

fn up(more: &str) -> TestRoot {
    let root = TestRoot::with_registry(more);
    root.up();
    root
}

#[test]
fn each_fault_is_told_with_its_remedy() {
    let mut table = String::new();
    let root = up("");

    root.kdk(&["config", "set", "registry.notifications_enabled", "true"])
        .ok();
    table += &seen(&root, "a setting is not applied", &[&["restart", "registry"]]);
    root.kdk(&["reconfigure"]).ok();

    let settings = root.read("kdk.yml");
    root.write("kdk.yml", &settings.replace("registry:\n", "registry:\n  prot: 1\n"));
    table += &seen(&root, "a setting is mistyped", &[&["reconfigure"], &["restart"]]);
    root.write("kdk.yml", "registry: [\n");
    table += &seen(
        &root,
        "the settings are no YAML",
        &[&["reconfigure"], &["config", "set", "registry.enabled", "true"]],
    );
    root.write("kdk.yml", &settings);

    root.kdk(&["stop", "registry"]).ok();
    table += &seen(
        &root,
        "a service is stopped",
        &[&["tail", "--no-follow", "-n", "0", "registry"]],
    );

    let listener = std::net::TcpListener::bind(("127.0.0.1", root.registry_port)).expect("bound");
    table += &told(&root, "somebody else listens there", &[&["start", "registry"]]);
    drop(listener);
    root.kdk(&["start", "registry"]).ok();
    root.wait_for_state("registry", "up");

    std::fs::remove_file(root.join("localhost.crt")).expect("removed");
    table += &seen(&root, "the certificate of tokens is gone", &[&["restart", "registry"]]);
    root.kdk(&["reconfigure"]).ok();

    let users = root.read(".kdk/rails/identity.json");
    root.write(".kdk/rails/identity.json", "{");
    table += &told(
        &root,
        "the users' file is damaged",
        &[
            &["user", "list"],
            &["reconfigure"],
            &["registry", "token", "--scope", "a:b:c"],
        ],
    );
    std::fs::remove_file(root.join(".kdk/rails/identity.json")).expect("removed");
    table += &told(&root, "the users' file is gone", &[&["reconfigure", "--dry-run"]]);
    root.write(".kdk/rails/identity.json", &users);
    table += &told(
        &root,
        "a scope of no known kind",
        &[&["registry", "token", "--scope", "a:b:c"]],
    );

    let config = root.read("registry/config.yml");
    root.write("registry/config.yml", &config.replace("version: 0.1", "version: 0.9"));
    table += &seen(
        &root,
        "a rendered file was changed by hand",
        &[&["restart", "registry"]],
    );
    root.kdk(&["reconfigure"]).ok();

    std::fs::remove_file(root.join("registry/config.yml")).expect("removed");
    table += &seen(
        &root,
        "a rendered file is gone",
        &[&["restart", "registry"], &["registry", "verify"]],
    );
    root.kdk(&["reconfigure"]).ok();
    root.kdk(&["kill", "--yes"]).ok();
    insta::assert_snapshot!("faults_of_settings", table);
}

#[test]
fn faults_of_the_world_are_told_with_their_remedy() {
    let mut table = String::new();

    // An expired certificate, and one that is somebody else's.
    let root = up("  self_signed: true\n");
    let install = |from: i32, to: i32| {
        let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("valid");
        parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("signed");
        root.write("registry_host.crt", &certificate.pem());
        root.write("registry_host.key", &key.serialize_pem());
    };
    install(2020, 2021);
    table += &seen(
        &root,
        "a certificate of somebody else's has expired",
        &[&["reconfigure", "--dry-run"], &["trust-docker-registry"]],
    );
    install(2090, 2091);
    table += &seen(
        &root,
        "and is not valid yet",
        &[&["reconfigure", "--dry-run"], &["trust-docker-registry"]],
    );
    root.kdk(&["kill", "--yes"]).ok();

    // A dead receiver of notifications.
    let dead = crate::support::port();
    let root = up(&format!(
        "  notifications:\n    endpoints:\n      - {{name: mine, url: 'http://127.0.0.1:{dead}/', timeout: 1s, threshold: 1, backoff: 10ms}}\n  auth_enabled: false\n"
    ));
    let client = reqwest::blocking::Client::new();
    let digest = crate::support::registry::digest(b"x");
    let url = format!(
        "http://127.0.0.1:{}/v2/a/b/blobs/uploads/?digest={digest}",
        root.registry_port
    );
    let pushed = client
        .post(url)
        .header("content-type", "application/octet-stream")
        .body("x")
        .send();
    assert_eq!(pushed.expect("answered").status(), 201);
    let log = wait("it is in the log", || {
        let log = root.read("log/registry/current");
        let line = log.lines().find(|line| line.contains("does not take events"))?;
        let value: serde_json::Value = serde_json::from_str(&line[line.find('{')?..]).ok()?;
        Some(format!("{}: {}", value["endpoint"], value["msg"]))
    });
    let _ = writeln!(table, "# a receiver of notifications is dead\n{log}");
    wait("it is seen", || {
        (root.service("registry")["health"] == "degraded").then_some(())
    });
    table += &seen(&root, "the same", &[]);

    // The storage is gone, and then somebody else's.
    root.kdk(&["stop", "registry"]).ok();
    let storage = root.join("registry/storage");
    std::fs::rename(&storage, root.join("aside")).expect("moved");
    std::fs::write(&storage, "x").expect("written");
    table += &told(
        &root,
        "a file is where the storage was",
        &[&["start", "registry"], &["reconfigure"]],
    );
    std::fs::remove_file(&storage).expect("removed");
    std::fs::rename(root.join("aside"), &storage).expect("moved back");
    root.kdk(&["start"]).ok();
    root.kdk(&["kill", "--yes"]).ok();

    // A root that is moved while nothing runs.
    let moved = root.path().with_extension("moved");
    std::fs::rename(root.path(), &moved).expect("moved");
    // Not in the root as it was: the test's own environment would make it again.
    let mut command = std::process::Command::new(crate::support::KDK);
    command.arg("status").current_dir(&moved);
    let status = crate::support::Output::of(&mut command);
    std::fs::rename(&moved, root.path()).expect("moved back");
    let shown = stable(&root, &status.shown()).replace(moved.to_str().expect("UTF-8"), "$MOVED");
    let _ = writeln!(table, "# the root was moved\n$ kdk status\n{shown}");
    insta::assert_snapshot!("faults_of_the_world", table);
}
