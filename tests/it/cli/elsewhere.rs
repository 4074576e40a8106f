//! A registry that somebody else runs, with this root's tokens.

use serde_json::Value;

use crate::support::registry::TestRegistry;
use crate::support::{Output, TestRoot, answers, port, temporary, wait};

/// Makes a root that uses a registry at a port, by which users reach it, too.
fn using(port: u16, more: &str) -> TestRoot {
    let root = TestRoot::with("");
    let rails = root.rails_port;
    root.write(
        "kdk.yml",
        &format!(
            "port: {rails}\nregistry:\n  enabled: true\n  mode: external\n  api_url: http://127.0.0.1:{port}\n{more}"
        ),
    );
    root
}

/// Returns what one check of `kdk doctor` finds, by its ids.
fn found(root: &TestRoot, check: &str) -> Vec<String> {
    let report = root.kdk(&["doctor", "--json", check]).stdout;
    let report: Value = serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"));
    let findings = report["checks"][0]["findings"].as_array().expect("a list").iter();
    findings
        .map(|finding| finding["id"].as_str().expect("text").to_owned())
        .collect()
}

#[test]
fn a_registry_that_runs_elsewhere_takes_this_root_s_tokens() {
    let at = port();
    let root = using(at, "");
    root.kdk(&["reconfigure"]).ok();
    for made in ["registry", "registry_host.crt"] {
        assert!(!root.join(made).exists(), "{made} is not this root's business");
    }
    let rails: Value = serde_yaml::from_str(&root.read("khulnasoft/config/khulnasoft.yml")).expect("YAML");
    let rails = &rails["production"]["registry"];
    assert_eq!(rails["api_url"], format!("http://127.0.0.1:{at}"));
    assert_eq!((&rails["host"], &rails["port"]), (&"127.0.0.1".into(), &at.into()));
    assert_eq!(rails.get("path"), None);

    // What is not there is told, and keeps nothing from starting.
    let started = root.kdk(&["start"]);
    assert!(started.stderr.contains("does not answer"), "{started:?}");
    started.ok();
    assert_eq!(root.service("rails-web")["state"], "up");
    let silent = root.service("registry");
    assert_eq!(
        (&silent["state"], &silent["kind"]),
        (&"elsewhere".into(), &"external".into())
    );
    assert_eq!(silent["health"], "no answer");
    assert_eq!(found(&root, "elsewhere"), ["registry-elsewhere-silent"]);
    root.kdk(&["config", "set", "registry.relativeurls", "true"]).ok();
    let told = root.kdk(&["reconfigure"]);
    assert!(
        told.stderr.contains("no effect here: registry.relativeurls"),
        "{told:?}"
    );
    told.ok();
    let refused = root.kdk(&["login", "--client", "podman"]).fails(1);
    assert!(refused.contains("does not answer"), "{refused}");

    // The other side's part, as it is printed.
    let directory = temporary();
    let bundle = directory.path().join("kdk.crt");
    std::fs::copy(root.join("localhost.crt"), &bundle).expect("copied");
    let printed = root.kdk(&["setup", "external-registry", "--with-secret"]).ok();
    let printed = printed.replace("/etc/docker/registry/kdk.crt", bundle.to_str().expect("UTF-8"));
    let storage = directory.path().join("storage");
    let config = directory.path().join("config.yml");
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{at}\n{printed}",
        storage.display()
    );
    std::fs::write(&config, text).expect("written");
    // With another root's certificate it takes none of this one's tokens.
    let own = std::fs::read(&bundle).expect("read");
    let other = using(at, "");
    other.kdk(&["reconfigure"]).ok();
    std::fs::copy(other.join("localhost.crt"), &bundle).expect("copied");
    let wrong = TestRegistry::docker(temporary(), &config);
    assert_eq!(found(&root, "elsewhere"), ["registry-elsewhere-untrusted"]);
    drop(wrong);
    std::fs::write(&bundle, own).expect("written");
    let registry = TestRegistry::docker(directory, &config);

    assert_eq!(found(&root, "elsewhere"), [""; 0]);
    assert_eq!(root.service("registry")["health"], "ok");
    let started = root.kdk(&["start"]);
    let expected = format!("available at 127.0.0.1:{at}; it runs at http://127.0.0.1:{at}, not in this root");
    assert!(started.stderr.contains(&expected), "{started:?}");
    root.kdk(&["up"]).ok();
    let token = |scope: &str| {
        root.kdk(&["registry", "token", "--scope", scope])
            .ok()
            .trim()
            .to_owned()
    };
    let catalog = registry.request("GET", "/v2/_catalog");
    assert_eq!(catalog.send().expect("answered").status(), 401);
    let answer = registry
        .request("GET", "/v2/_catalog")
        .bearer_auth(token("registry:catalog:*"))
        .send();
    assert_eq!(answer.expect("answered").status(), 200);

    // A push is told to this root's Rails, which takes the secret.
    let digest = crate::support::registry::digest(b"content");
    let may_push = token("repository:a/b:pull,push");
    let begun = registry
        .request("POST", "/v2/a/b/blobs/uploads/")
        .bearer_auth(&may_push)
        .send()
        .expect("answered");
    let place = begun.headers()["location"].to_str().expect("text").to_owned();
    let pushed = reqwest::blocking::Client::new()
        .put(format!("{place}&digest={digest}"))
        .bearer_auth(&may_push)
        .body("content")
        .send();
    assert_eq!(pushed.expect("answered").status(), 201);
    wait("the push is told to Rails", || {
        let log = root.kdk(&["tail", "--no-follow", "--raw", "rails-web"]).stdout;
        log.contains("container_registry_event").then_some(())
    });
}

#[test]
fn what_is_done_where_a_registry_runs_is_not_done_here() {
    let at = port();
    let root = using(at, "");
    root.kdk(&["reconfigure"]).ok();
    let url = format!("http://127.0.0.1:{at}");
    for command in [
        &["start", "registry"][..],
        &["restart", "registry"],
        &["stop", "registry"],
        &["registry", "garbage-collect"],
        &["registry", "verify"],
        &["registry", "database", "migrate", "status"],
        &["import-registry-data", "--yes"],
        &["reset-registry-data", "--yes"],
        &["up", "--https"],
    ] {
        let refused = root.kdk(command).fails(1);
        assert!(refused.contains(&url), "{command:?}: {refused}");
        assert!(!root.join("registry").exists(), "{command:?}");
    }
    // Of HTTPS the certificate is that one's.
    let secure = TestRoot::with("registry: {enabled: true, mode: external, api_url: 'https://localhost:5050'}\n");
    secure.kdk(&["reconfigure"]).ok();
    let trusted = secure.kdk(&["trust-docker-registry"]);
    assert!(
        trusted.stderr.contains("https://localhost:5050 runs elsewhere"),
        "{trusted:?}"
    );
    trusted.ok();
    for check in [
        "ports",
        "certificates",
        "storage",
        "links",
        "database",
        "names",
        "limits",
    ] {
        assert_eq!(found(&secure, check), [""; 0], "{check}");
    }
}

#[test]
fn a_registry_is_of_one_kind() {
    let root = TestRoot::with_registry("  bin: /usr/bin/docker-registry\n");
    let before = root.read("kdk.yml");
    let refused = |settings: &[&str]| root.kdk(&[&["config", "set"], settings].concat()).fails(1);
    let both = refused(&["registry.mode=external", "registry.api_url=http://127.0.0.1:1"]);
    assert!(
        both.contains("registry.bin and registry.mode exclude each other"),
        "{both}"
    );
    root.kdk(&["config", "unset", "registry.bin"]).ok();
    let nowhere = refused(&["registry.mode=external"]);
    assert!(
        nowhere.contains("registry.api_url does not say where")
            && nowhere.contains("registry.mode=external registry.api_url=URL"),
        "{nowhere}"
    );
    let odd = refused(&["registry.mode=external", "registry.api_url=registry.example.com:5000"]);
    assert!(odd.contains("registry.api_url must be the URL"), "{odd}");
    let secret = refused(&[
        "registry.mode=external",
        "registry.api_url=http://me:s3cret@registry.example.com",
    ]);
    assert!(
        secret.contains("without a name and a password") && !secret.contains("s3cret"),
        "{secret}"
    );
    for image in [
        "--privileged",
        "Bad Name",
        "registry:",
        "REG:dev",
        "http://x/y:1",
        "a//b ",
        "",
    ] {
        let said = refused(&[&format!("registry.image={image}")]);
        assert!(
            said.contains("must be the name of an image") || image.is_empty(),
            "{image}: {said}"
        );
    }
    let empty = refused(&["rails.command=", "registry.relativeurls=true"]);
    assert!(empty.contains("rails.command"), "{empty}");
    let odd = refused(&["rails.mode=external", "rails.url=foo"]);
    assert!(odd.contains("rails.url must be the URL"), "{odd}");
    assert_eq!(
        before.replace("  bin: /usr/bin/docker-registry\n", ""),
        root.read("kdk.yml")
    );
    for image in [
        "registry:dev",
        "localhost:5000/a/b:1.2",
        "docker.io/library/registry@sha256:0123",
    ] {
        root.kdk(&["config", "set", "registry.image", image]).ok();
    }
}

#[test]
fn a_registry_elsewhere_that_does_not_know_this_root_is_seen() {
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\n", "registry-elsewhere-open"),
        ("HTTP/1.1 404 Not Found\r\n", "registry-elsewhere-odd"),
        (
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"https://other.example/jwt/auth\",service=\"container_registry\"\r\n",
            "registry-elsewhere-realm",
        ),
    ] {
        let root = using(answers(head), "");
        assert_eq!(found(&root, "elsewhere"), [expected]);
    }
    let open = using(answers("HTTP/1.1 200 OK\r\n"), "  auth_enabled: false\n");
    assert_eq!(found(&open, "elsewhere"), [""; 0]);
    // Nor one whose tokens come from a KhulnaSoft that is not there.
    let root = TestRoot::with_registry("rails: {mode: external, url: 'http://127.0.0.1:1'}\n");
    assert_eq!(found(&root, "elsewhere"), ["rails-elsewhere-silent"]);
    let shown: Output = root.kdk(&["status"]);
    assert!(
        shown.stdout.contains("elsewhere") && shown.stdout.contains("http://127.0.0.1:1"),
        "{shown:?}"
    );
}

/// What has no metadata database is not said to have an empty one.
#[test]
fn a_registry_without_a_database_is_not_reset() {
    let root = TestRoot::with_registry("  bin: /usr/bin/docker-registry\n  database:\n    enabled: true\n");
    for command in [
        &["reset-registry-data", "--yes"][..],
        &["import-registry-data", "--yes"],
    ] {
        let refused = root.kdk(command).fails(1);
        assert!(refused.contains("keeps metadata in files"), "{command:?}: {refused}");
    }
}

/// A KhulnaSoft of one's own: here it is the stand-in, run as a real one is, by
/// a command in its directory, which reads its configuration there.
#[test]
fn a_khulnasoft_of_one_s_own_serves_tokens() {
    let root = TestRoot::with_registry(
        "  notifications_enabled: true\nrails:\n  mode: external\n  dir: app\n  command: exec kdk rails serve config/khulnasoft.yml --settings stand-in.yml\n",
    );
    let refused = root.kdk(&["reconfigure"]).fails(1);
    assert!(
        refused.contains("rails.dir: ") && refused.contains("is no directory"),
        "{refused}"
    );
    assert!(!root.join("registry/config.yml").exists());
    let theirs = "# A checkout's own\nproduction: &base\n  khulnasoft:\n    host: example.org # theirs\n  ldap:\n    enabled: false\n\ndevelopment:\n  <<: *base\n";
    root.write("app/config/khulnasoft.yml", theirs);
    let (rails, path) = (root.rails_port, root.path().display().to_string());
    root.write(
        "app/stand-in.yml",
        &format!("listen: 127.0.0.1:{rails}\nurl: http://127.0.0.1:{rails}\nidentity: {path}/app/identity.json\ntoken_certificates: {path}/localhost.crt\n"),
    );
    root.up();
    let text = root.read("app/config/khulnasoft.yml");
    for expected in [
        "# A checkout's own",
        "host: example.org # theirs",
        "ldap:",
        "notification_secret:",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!root.join("khulnasoft").exists());
    let service = root.service("rails-web");
    assert_eq!(
        (&service["state"], &service["kind"]),
        (&"up".into(), &"external".into())
    );
    assert_eq!(service["health"], "ok");
    let registry: Value = serde_yaml::from_str(&root.read("registry/config.yml")).expect("YAML");
    let endpoint = &registry["notifications"]["endpoints"][0];
    assert_eq!(endpoint["ignore"]["actions"], serde_json::json!(["mount", "rename"]));
    let secret = endpoint["headers"]["Authorization"][0].as_str().expect("text");
    assert!(text.contains(secret), "both sides have another secret");

    // Clients get tokens at the registry's address; and the root's key signs one as administrator.
    let anonymous =
        reqwest::blocking::get(root.registry_url("/jwt/auth?service=container_registry")).expect("answered");
    // The stand-in gives none to nobody.
    assert_eq!(anonymous.status(), 403);
    let token = root.kdk(&["registry", "token", "--scope", "registry:catalog:*"]).ok();
    let listed = reqwest::blocking::Client::new()
        .get(root.registry_url("/v2/_catalog"))
        .bearer_auth(token.trim())
        .send();
    assert_eq!(listed.expect("answered").status(), 200);
    let users = root.kdk(&["token", "create"]).fails(1);
    assert!(users.contains("docker login 127.0.0.1:"), "{users}");
    assert_eq!(found(&root, "services"), [""; 0]);

    // Without the key its console does.
    root.kdk(&["config", "set", "registry.key", "elsewhere.key"]).ok();
    for (scope, line) in [
        ("repository:a/b:pull", ".pull_access_token(\"a/b\")"),
        ("repository:a/b:pull,push", ".full_access_token(\"a/b\")"),
    ] {
        let refused = root.kdk(&["registry", "token", "--scope", scope]).fails(1);
        assert!(refused.contains(line), "{refused}");
    }
    root.kdk(&["config", "unset", "registry.key"]).ok();
    root.kdk(&["stop", "rails"]).ok();
    assert_eq!(found(&root, "services"), ["service-down"]);
    let lost = root.kdk(&["config", "unset", "rails.dir"]).fails(1);
    assert!(lost.contains("rails.command runs in rails.dir"), "{lost}");
}
