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
    let makefile = std::fs::read_to_string(upstream.join("Makefile"))
        .expect("read")
        .replace("registry-dev", "registry-dev-2");
    std::fs::write(upstream.join("Makefile"), &makefile).expect("written");
    git(&upstream, &["commit", "--quiet", "-am", "second"]);
    root.kdk(&["reconfigure"]).ok();
    logged_version(&root, "registry-dev-2");

    // Local work is never lost.
    let clone = root.join("container-registry/Makefile");
    std::fs::write(&clone, makefile.replace("registry-dev-2", "my-work")).expect("written");
    let said = root.kdk(&["reconfigure"]).stderr;
    assert!(said.contains("has changes of yours"), "{said}");
    assert!(std::fs::read_to_string(&clone).expect("read").contains("my-work"));
    logged_version(&root, "my-work");
    git(&root.join("container-registry"), &["checkout", "--quiet", "."]);

    // A failed build says so and leaves what ran running.
    let running = root.pid("registry");
    std::fs::write(
        upstream.join("Makefile"),
        "bin/registry:\n\t@echo it does not compile >&2; false\n",
    )
    .expect("written");
    std::fs::write(root.join("container-registry/bin/registry"), "").ok();
    git(&upstream, &["commit", "--quiet", "-am", "broken"]);
    std::fs::remove_file(root.join("container-registry/bin/registry")).expect("removed");
    let error = root.kdk(&["reconfigure"]).fails(1);
    assert!(
        error.contains("the build of registry_dev failed")
            && error.contains("it does not compile")
            && error.contains("goes on running"),
        "{error}"
    );
    assert_eq!(root.pid("registry"), running);

    root.kdk(&["config", "set", "registry.version", "nosuchbranch"]).ok();
    let error = root.kdk(&["reconfigure"]).fails(1);
    assert!(error.contains("is no branch, tag or commit of upstream"), "{error}");
    // Nothing is stopped for what cannot be started.
    let error = root.kdk(&["restart", "registry"]).fails(1);
    assert!(error.contains("build it with: kdk reconfigure"), "{error}");
    assert_eq!(root.pid("registry"), running);
    root.kdk(&["config", "unset", "registry.version"]).ok();
    root.kdk(&["reconfigure"]).ok();
    assert_eq!(root.wait_for_state("registry", "ready")["health"], "ok");
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
