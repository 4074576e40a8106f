//! A development version of the registry, from a real git repository.

use crate::support::source::{git, repository};
use crate::support::{KDK, TestRoot, wait};

fn logged_version(root: &TestRoot, version: &str) {
    wait(&format!("the log says {version}"), || {
        let log = root.kdk(&["tail", "registry", "--no-follow", "--lines", "200"]).ok();
        log.lines()
            .any(|line| line.contains("listening on") && line.contains(&format!("\"version\":\"{version}\"")))
            .then_some(())
    });
}

#[test]
fn a_branch_is_cloned_built_run_and_followed() {
    let root = TestRoot::with_registry("repositories:\n  registry: upstream\n");
    let upstream = root.join("upstream");
    repository(&upstream, KDK);
    root.up();
    let embedded = root.pid("registry");
    root.kdk(&["config", "set", "registry.version", "registry_dev"]).ok();
    let said = root.kdk(&["reconfigure"]);
    assert!(
        said.stderr.contains("cloning upstream") && said.stderr.contains("with: make bin/registry"),
        "{}",
        said.stderr
    );
    root.kdk(&["restart", "registry"]).ok();
    assert_ne!(root.pid("registry"), embedded);
    logged_version(&root, "registry-dev");
    let service = root.service("registry");
    assert_eq!(
        (&service["kind"], &service["version"]),
        (&"source".into(), &"registry_dev".into())
    );
    let wide = crate::support::Output::of(root.command(&["status"]).env("COLUMNS", "120")).ok();
    assert!(
        wide.contains("source registry_dev") && wide.contains(" embedded "),
        "{wide}"
    );
    assert!(
        root.kdk(&["reconfigure"]).stderr.contains("Nothing to change"),
        "it was built twice"
    );

    root.kdk(&["config", "set", "registry.version", "main"]).ok();
    let said = root.kdk(&["restart", "registry"]);
    assert!(
        said.stderr.contains("registry.version main was not built yet"),
        "{}",
        said.stderr
    );
    root.kdk(&["config", "set", "registry.version", "registry_dev"]).ok();

    git(&upstream, &["checkout", "--quiet", "registry_dev"]);
    let makefile = std::fs::read_to_string(upstream.join("Makefile")).expect("read");
    let with = |suffix: &str| makefile.replace("SUFFIX =", &format!("SUFFIX = {suffix}"));
    std::fs::write(upstream.join("Makefile"), with("-2")).expect("written");
    git(&upstream, &["commit", "--quiet", "-am", "second"]);
    root.kdk(&["reconfigure"]).ok();
    logged_version(&root, "registry-dev-2");

    // One that was pushed anew by force is followed, too.
    std::fs::write(upstream.join("Makefile"), with("-3")).expect("written");
    git(&upstream, &["commit", "--quiet", "--amend", "-am", "another second"]);
    let said = root.kdk(&["reconfigure"]).stderr;
    assert!(!said.contains("commits of yours"), "{said}");
    logged_version(&root, "registry-dev-3");

    // A tag of the same commit says so in the log.
    git(&upstream, &["tag", "v4.0.0-khulnasoft"]);
    root.kdk(&["config", "set", "registry.version", "v4.0.0-khulnasoft"])
        .ok();
    root.kdk(&["reconfigure"]).ok();
    logged_version(&root, "v4.0.0-khulnasoft-3");
    root.kdk(&["config", "set", "registry.version", "registry_dev"]).ok();
    root.kdk(&["reconfigure"]).ok();

    // Local work is never lost, and built once.
    let clone = root.join("container-registry");
    std::fs::write(clone.join("Makefile"), with("-my-work")).expect("written");
    let said = root.kdk(&["reconfigure"]).stderr;
    assert!(said.contains("has changes of yours"), "{said}");
    assert!(
        std::fs::read_to_string(clone.join("Makefile"))
            .expect("read")
            .contains("my-work")
    );
    logged_version(&root, "registry-dev-my-work");
    let running = root.pid("registry");
    let said = root.kdk(&["reconfigure"]).stderr;
    assert!(
        said.contains("Nothing to change") && !said.contains("building"),
        "{said}"
    );
    assert_eq!(root.pid("registry"), running);
    git(&clone, &["commit", "--quiet", "-am", "mine"]);
    std::fs::write(upstream.join("Makefile"), with("-5")).expect("written");
    git(&upstream, &["commit", "--quiet", "-am", "third"]);
    let said = root.kdk(&["reconfigure"]).stderr;
    assert!(said.contains("has commits of yours"), "{said}");
    git(&clone, &["reset", "--quiet", "--hard", "origin/registry_dev"]);
    root.kdk(&["reconfigure"]).ok();
    logged_version(&root, "registry-dev-5");

    // While a build goes on, and after it was interrupted, what there is runs.
    let slow = with("-6").replace("\tmkdir -p bin\n", "\ttouch ../building; sleep 60\n");
    std::fs::write(upstream.join("Makefile"), slow).expect("written");
    git(&upstream, &["commit", "--quiet", "-am", "slow"]);
    let mut building = root.command(&["reconfigure"]);
    let mut building = building.stderr(std::process::Stdio::null()).spawn().expect("started");
    wait("the build goes on", || root.join("building").exists().then_some(()));
    root.kdk(&["restart", "registry"]).ok();
    interrupt(&mut building);
    root.kdk(&["restart", "registry"]).ok();
    assert_eq!(root.wait_for_state("registry", "up")["health"], "ok");
    git(&upstream, &["revert", "--quiet", "--no-edit", "HEAD"]);

    // A failed build says so and leaves what ran running.
    let running = root.pid("registry");
    std::fs::write(
        upstream.join("Makefile"),
        "bin/registry:\n\t@echo it does not compile >&2; false\n",
    )
    .expect("written");
    git(&upstream, &["commit", "--quiet", "-am", "broken"]);
    let error = root.kdk(&["reconfigure"]).fails(1);
    assert!(
        error.contains("the build of registry_dev failed")
            && error.contains("it does not compile")
            && error.contains("keeps running"),
        "{error}"
    );
    assert_eq!(root.pid("registry"), running);

    root.kdk(&["config", "set", "registry.version", "nosuchbranch"]).ok();
    let error = root.kdk(&["reconfigure"]).fails(1);
    assert!(error.contains("is no branch, tag or commit of upstream"), "{error}");
    // What was built last goes on.
    let said = root.kdk(&["restart", "registry"]);
    assert!(
        said.stderr.contains("build it with: kdk reconfigure"),
        "{}",
        said.stderr
    );
    said.ok();
    root.kdk(&["config", "unset", "registry.version"]).ok();
    root.kdk(&["reconfigure"]).ok();
    assert_eq!(root.wait_for_state("registry", "up")["health"], "ok");
}

/// Ends a command and what it started, as Ctrl-C does.
fn interrupt(child: &mut std::process::Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("small"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("sent");
    child.wait().expect("reaped");
}

#[test]
fn a_version_that_cannot_be_built_changes_nothing_of_what_runs() {
    use std::os::unix::fs::PermissionsExt;
    let root = TestRoot::with_registry("repositories:\n  registry: upstream\n");
    repository(&root.join("upstream"), KDK);
    root.up();
    let (pid, config) = (root.pid("registry"), root.read("registry/config.yml"));
    root.kdk(&["config", "set", "registry.version=nosuchbranch", "registry.port=1"])
        .ok();
    let error = root.kdk(&["reconfigure"]).fails(1);
    assert!(
        error.contains("nothing was written") && !error.contains("Changed"),
        "{error}"
    );
    assert_eq!(root.read("registry/config.yml"), config);
    assert!(!root.join(".kdk/front.yml").exists());
    // What is seen, and what commands work with, is what runs.
    let service = root.service("registry");
    assert_eq!(
        (service["pid"].as_i64(), service["health"].as_str()),
        (Some(pid.into()), Some("ok"))
    );
    assert_eq!(service["version"], serde_json::Value::Null, "{service}");
    root.write(
        "bin/docker",
        "#!/bin/sh\necho \"$@\" > args; exec /bin/cat > /dev/null\n",
    );
    std::fs::set_permissions(root.join("bin/docker"), PermissionsExt::from_mode(0o755)).expect("a program");
    let address = format!("127.0.0.1:{}", root.registry_port);
    let mut login = root.command(&["login", "--client", "docker", "--address", &address]);
    crate::support::Output::of(login.env("PATH", root.join("bin"))).ok();
    assert!(root.read("args").ends_with(&format!("{address}\n")));
}

#[test]
fn a_development_version_brings_its_own_schema() {
    let root = TestRoot::with_registry("  database:\n    enabled: true\nrepositories:\n  registry: upstream\n");
    let port = crate::support::port().to_string();
    root.kdk(&["config", "set", "postgresql.port", &port]).ok();
    repository(&root.join("upstream"), KDK);
    root.kdk(&["config", "set", "registry.version", "registry_dev"]).ok();
    root.up();
    let calls = root.read("registry-calls");
    let calls: Vec<&str> = calls.lines().collect();
    let migrated = calls
        .iter()
        .position(|call| call.starts_with("database migrate up registry/config.yml"));
    let served = calls.iter().position(|call| call.starts_with("serve "));
    assert!(migrated.is_some() && migrated < served, "{calls:?}");
    // A program that was built by hand since may want another schema.
    let count = || {
        let calls = root.read("registry-calls");
        calls
            .lines()
            .filter(|call| call.starts_with("database migrate up "))
            .count()
    };
    for command in [&["restart", "registry"][..], &["stop"], &["start"]] {
        let before = count();
        root.kdk(command).ok();
        assert_eq!(count() - before, usize::from(command[0] != "stop"), "{command:?}");
    }
    // One that the database is too new for is not let near it: what ran goes on.
    let upstream = root.join("upstream");
    git(&upstream, &["checkout", "--quiet", "registry_dev"]);
    let makefile = std::fs::read_to_string(upstream.join("Makefile")).expect("read");
    let refuses = r#"[ "$$2" != migrate ] || { echo unknown migration in database >&2; exit 1; }\nREGISTRY_LOG"#;
    std::fs::write(upstream.join("Makefile"), makefile.replacen("REGISTRY_LOG", refuses, 1)).expect("written");
    git(&upstream, &["commit", "--quiet", "-am", "older"]);
    let running = root.pid("registry");
    for command in [&["reconfigure"][..], &["restart", "registry"]] {
        let error = root.kdk(command).fails(1);
        assert!(
            error.contains("unknown migration in database") && error.contains("the registry is not restarted"),
            "{error}"
        );
        assert_eq!(root.pid("registry"), running, "{command:?}");
        assert_eq!(root.service("registry")["health"], "ok");
    }
}

#[test]
fn a_registry_without_a_database_is_named() {
    let Ok(binary) = which::which("docker-registry") else {
        assert!(crate::support::may_skip(), "docker-registry is not installed");
        return;
    };
    let root = TestRoot::with_registry("  database:\n    enabled: true\n");
    root.kdk(&["config", "set", "registry.bin", binary.to_str().expect("UTF-8")])
        .ok();
    let said = root.kdk(&["reconfigure"]);
    assert!(
        said.stderr
            .contains("docker-registry does not support a metadata database")
            && !said.stderr.contains("will not start"),
        "{}",
        said.stderr
    );
    assert!(!said.stderr.contains("new database"), "{}", said.stderr);
}

#[test]
fn any_registry_binary_runs_with_the_same_file() {
    let Ok(binary) = which::which("docker-registry") else {
        assert!(crate::support::may_skip(), "docker-registry is not installed");
        return;
    };
    let root = TestRoot::with_registry("  self_signed: true\n");
    root.up();
    let token = root
        .kdk(&["registry", "token", "--scope", "repository:a/b:pull,push"])
        .ok();
    let certificate = reqwest::Certificate::from_pem(root.read("registry_host.crt").as_bytes()).expect("a certificate");
    let client = reqwest::blocking::Client::builder()
        .tls_certs_only([certificate])
        .build()
        .expect("a client");
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", root.registry_port);
    let digest = crate::support::registry::digest(b"kept");
    let pushed = client
        .post(url(&format!("/v2/a/b/blobs/uploads/?digest={digest}")))
        .bearer_auth(token.trim())
        .body("kept")
        .send();
    assert_eq!(pushed.expect("answered").status(), 201);
    root.kdk(&["config", "set", "registry.bin", binary.to_str().expect("UTF-8")])
        .ok();
    root.kdk(&["reconfigure"]).ok();
    let log = root.kdk(&["tail", "registry", "--no-follow", "--lines", "100"]).ok();
    assert!(log.contains("go.version=go"), "the Go registry does not run: {log}");
    let pulled = client
        .get(url(&format!("/v2/a/b/blobs/{digest}")))
        .bearer_auth(token.trim())
        .send()
        .expect("answered");
    assert_eq!(
        (pulled.status().as_u16(), pulled.text().expect("read")),
        (200, "kept".to_owned())
    );
}
