//! More of `kdk doctor`: what the registry and others do not agree on, engines, links, lost processes.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::namespace::{ADDRESS, Namespace};
use crate::support::registry::digest;
use crate::support::{Output, TestRoot, answers, wait};

/// Returns the ids and the evidence of what some checks find.
fn found(root: &TestRoot, checks: &[&str]) -> Vec<(String, String)> {
    findings(&root.kdk(&[&["doctor", "--json"], checks].concat()).stdout)
}

fn findings(report: &str) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(report).unwrap_or_else(|error| panic!("{error}: {report}"));
    let checks = report["checks"].as_array().expect("a list").iter();
    let all = checks.flat_map(|check| check["findings"].as_array().expect("a list").clone());
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    all.map(|finding| (text(&finding["id"]), text(&finding["evidence"])))
        .collect()
}

fn ids(found: &[(String, String)]) -> Vec<&str> {
    found.iter().map(|(id, _)| id.as_str()).collect()
}

#[test]
fn what_both_sides_do_not_agree_on() {
    let root = TestRoot::with_registry("  auth_enabled: true\n  notifications_enabled: true\n");
    root.up();
    assert_eq!(found(&root, &["agreement"]), []);
    let (registry, rails) = ("registry/config.yml", "khulnasoft/config/khulnasoft.yml");
    let text = root.read(rails);
    root.write(
        rails,
        &text.replace("issuer: \"khulnasoft-issuer\"", "issuer: \"another\""),
    );
    let differ = found(&root, &["agreement"]);
    assert_eq!(ids(&differ), ["issuer-differs"]);
    assert!(
        differ[0].1.contains("khulnasoft-issuer") && differ[0].1.contains("another"),
        "{differ:?}"
    );
    root.kdk(&["doctor", "agreement", "--fix", "--yes"]).ok();
    assert_eq!(found(&root, &["agreement"]), []);

    let secrets: Value = serde_json::from_str(&root.read(".kdk/secrets.json")).expect("JSON");
    let secret = secrets["notification_secret"].as_str().expect("text");
    let text = root.read(registry);
    root.write(registry, &text.replace(secret, "not-the-secret"));
    let differ = found(&root, &["agreement"]);
    assert_eq!(ids(&differ), ["secrets-differ", "notifications-refused"]);
    let said = format!("{differ:?}");
    assert!(!said.contains("not-the-secret") && !said.contains(secret), "{said}");
}

#[test]
fn a_clock_and_a_proxy_that_mislead() {
    let late = answers("HTTP/1.1 401 Unauthorized\r\nDate: Sat, 28 Nov 2020 10:00:00 GMT\r\n");
    let root = TestRoot::with("");
    let (registry, rails) = (root.registry_port, root.rails_port);
    root.write(
        "kdk.yml",
        &format!("port: {rails}\nrails:\n  mode: external\n  url: http://127.0.0.1:{late}\nregistry:\n  enabled: true\n  auth_enabled: true\n  port: {registry}\n"),
    );
    root.up();
    let skew = found(&root, &["agreement"]);
    assert_eq!(ids(&skew), ["clock-skew"]);
    assert!(skew[0].1.contains("seconds behind this machine's"), "{skew:?}");

    for (head, expected) in [
        (
            "HTTP/1.1 401 Unauthorized\r\nDocker-Distribution-Api-Version: registry/2.0\r\nDate: DATE\r\n",
            "proxy-drops-headers",
        ),
        ("HTTP/1.1 200 OK\r\n", "proxy-drops-headers"),
        ("HTTP/1.1 502 Bad Gateway\r\n", "proxy-answers"),
    ] {
        let proxy = answers(head);
        let root = TestRoot::with_registry(&format!(
            "  auth_enabled: true\n  external_url: http://127.0.0.1:{proxy}\n"
        ));
        root.up();
        let seen = found(&root, &["agreement"]);
        assert_eq!(ids(&seen), [expected], "{head}: {seen:?}");
    }
}

#[test]
fn tags_that_lead_nowhere_are_seen() {
    let root = TestRoot::with_registry("");
    root.up();
    let top = "registry/storage/docker/registry/v2";
    let put = |tag: &str, link: &str| {
        root.write(
            &format!("{top}/repositories/a/b/_manifests/tags/{tag}/current/link"),
            link,
        );
    };
    let good = digest(b"{}");
    let hex = good.strip_prefix("sha256:").expect("sha256");
    root.write(&format!("{top}/blobs/sha256/{}/{hex}/data", &hex[..2]), "{}");
    put("good", &good);
    assert_eq!(found(&root, &["links"]), []);
    put("lost", &digest(b"nowhere"));
    put("empty", "");
    let seen = found(&root, &["links"]);
    assert_eq!(ids(&seen), ["links-broken"]);
    assert!(
        seen[0].1.contains("a/b:lost") && seen[0].1.contains("a/b:empty") && !seen[0].1.contains("good"),
        "{seen:?}"
    );
    root.write(&format!("{top}/repositories/a/b/_manifests/tags/current/link"), &good);
    let seen = found(&root, &["links"]);
    assert_eq!(ids(&seen), ["links-broken", "tags-nameless"]);
    assert!(seen[1].1.contains("a/b"), "{seen:?}");
}

#[test]
fn processes_of_a_root_that_is_gone_are_seen() {
    let gone = TestRoot::with_registry("");
    gone.up();
    let pids: Vec<i32> = gone.processes().into_iter().map(|(pid, _)| pid).collect();
    assert!(pids.len() >= 3, "{pids:?}");
    let path = gone.path().display().to_string();
    std::fs::remove_dir_all(gone.path()).expect("removed");
    let root = TestRoot::with_registry("");
    let lost = || {
        found(&root, &["lost"])
            .into_iter()
            .filter(|(_, evidence)| evidence.contains(&path))
            .count()
    };
    assert_eq!(lost(), pids.len());
    for pid in pids {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    wait("they are gone", || (lost() == 0).then_some(()));
}

/// A pair that does not match is shown as the administration guide compares it.
#[test]
fn both_moduli_are_told() {
    let root = TestRoot::with_registry("  auth_enabled: true\n  key: own.key\n");
    root.kdk(&["config", "unset", "registry.key"]).ok();
    root.kdk(&["reconfigure"]).ok();
    let path = |name: &str| root.join(name).display().to_string();
    Output::of(Command::new("openssl").args(["genrsa", "-out", &path("own.key"), "2048"])).ok();
    root.kdk(&["config", "set", "registry.key", "own.key"]).ok();
    let seen = found(&root, &["login"]);
    let (_, evidence) = seen
        .iter()
        .find(|(id, _)| id == "token-key-mismatch")
        .unwrap_or_else(|| panic!("{seen:?}"));
    for (kind, file) in [("x509", "localhost.crt"), ("rsa", "own.key")] {
        let line = format!("openssl {kind} -noout -modulus -in {} | openssl sha256", path(file));
        let said = Output::of(Command::new("sh").args(["-c", &line])).ok();
        let hash = said.trim().rsplit(' ').next().expect("a hash").to_owned();
        assert!(evidence.contains(&hash), "{kind}: {hash}: {evidence}");
    }
}

#[test]
fn engines_are_asked() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    let settings = |tls: bool| {
        format!(
            "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  auth_enabled: true\n  listen_address: 0.0.0.0\n  self_signed: {tls}\n"
        )
    };
    let heard = || findings(&namespace.sh("root", "kdk doctor engines --json || true").stdout);
    let of_docker = || -> Vec<String> {
        let heard = heard()
            .into_iter()
            .filter(|(_, evidence)| evidence.starts_with("docker "));
        heard.map(|(id, _)| id).collect()
    };
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), settings(false)).expect("written");
    namespace.sh("root", "kdk reconfigure && kdk start").ok();
    namespace.start_docker("{}");
    // One that was told of nothing is another check's.
    assert_eq!(of_docker(), Vec::<String>::new());
    // What is written is not known to the daemon yet.
    namespace.sh("root", "kdk setup docker --apply").ok();
    assert_eq!(of_docker(), ["engine-plain-http"]);
    namespace.sh("", "kill -HUP $(cat d.pid)").ok();
    wait("dockerd has read its file", || of_docker().is_empty().then_some(()));
    namespace.sh("root", "kdk setup docker --remove --yes").ok();
    std::fs::write(namespace.join("root/kdk.yml"), settings(true)).expect("written");
    namespace
        .sh("root", "kdk reconfigure && kdk restart && kdk setup docker --apply")
        .ok();
    assert_eq!(of_docker(), Vec::<String>::new());
    let hosts = std::fs::read_to_string(namespace.join("etc/hosts")).expect("read");
    std::fs::write(namespace.join("etc/hosts"), hosts.replace("registry.test", "")).expect("written");
    // Programs in Go read the hosts file every five seconds.
    wait("dockerd has read the hosts file", || {
        (of_docker() == ["engine-name"]).then_some(())
    });
    std::fs::write(namespace.join("etc/hosts"), hosts.replace(ADDRESS, "198.51.100.99")).expect("written");
    wait("dockerd has read the hosts file", || {
        (of_docker() == ["engine-unreachable"]).then_some(())
    });
}

/// What could not be asked is not called healthy.
#[test]
fn what_does_not_run_is_not_asked() {
    let root = TestRoot::with_registry("  auth_enabled: true\n");
    root.kdk(&["reconfigure"]).ok();
    let state = |check: &str| -> String {
        let report: Value = serde_json::from_str(&root.kdk(&["doctor", "--json", check]).stdout).expect("JSON");
        report["checks"][0]["verdict"].as_str().expect("text").to_owned()
    };
    assert_eq!(
        (state("login"), state("agreement")),
        ("skipped".into(), "skipped".into())
    );
    root.kdk(&["start"]).ok();
    assert_eq!(
        (state("login"), state("agreement")),
        ("healthy".into(), "healthy".into())
    );
}

#[test]
fn a_login_that_was_revoked_is_seen() {
    let root = TestRoot::with_registry("  auth_enabled: true\n");
    root.up();
    let token = root.token();
    let auth = data_encoding::BASE64.encode(format!("khulnasoft-token:{token}").as_bytes());
    root.write(
        "home/.docker/config.json",
        &format!(
            "{{\"auths\":{{\"127.0.0.1:{}\":{{\"auth\":\"{auth}\"}}}}}}",
            root.registry_port
        ),
    );
    let refused = || {
        let seen = found(&root, &["clients"]);
        seen.into_iter()
            .filter(|(id, _)| id == "login-refused")
            .collect::<Vec<_>>()
    };
    assert_eq!(refused(), []);
    root.kdk(&["token", "revoke", "1"]).ok();
    let seen = refused();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(
        seen[0].1.contains("docker's login") && !seen[0].1.contains(&token),
        "{seen:?}"
    );
}

#[test]
fn a_later_kdk_and_an_external_name_are_seen() {
    let root = TestRoot::with_registry("  external_url: https://registry.invalid\n");
    root.kdk(&["reconfigure"]).ok();
    assert_eq!(ids(&found(&root, &["settings"])), [""; 0]);
    assert_eq!(ids(&found(&root, &["names"])), ["external-name-unresolved"]);
    let applied = root.read(".kdk/applied.json");
    let own = format!("\"kdk\": \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(applied.contains(&own), "{applied}");
    for (version, expected) in [("99.0.1", &["later-kdk"][..]), ("0.0.9", &[])] {
        root.write(
            ".kdk/applied.json",
            &applied.replace(&own, &format!("\"kdk\": \"{version}\"")),
        );
        assert_eq!(ids(&found(&root, &["settings"])), expected, "{version}");
    }
}

/// Files are watched by a real KhulnaSoft only.
#[test]
fn watches_count_for_a_real_khulnasoft() {
    let root = TestRoot::with_registry("rails:\n  dir: app\n  command: \"true\"\n");
    assert_eq!(found(&root, &["limits"]), []);
    root.kdk(&["config", "set", "rails.mode", "external"]).ok();
    let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").expect("Linux");
    let few = most.trim().parse::<u64>().expect("a number") < 524_288;
    let seen = found(&root, &["limits"]);
    assert_eq!(ids(&seen), if few { vec!["few-watches"] } else { vec![] });
}

/// Entries of several roots in one file are each root's own.
#[test]
fn two_roots_that_told_podman_are_both_healthy() {
    let home = crate::support::temporary();
    let roots = [TestRoot::with_registry(""), TestRoot::with_registry("")];
    let run = |root: &TestRoot, arguments: &[&str]| Output::of(root.command(arguments).env("HOME", home.path()));
    for root in &roots {
        run(root, &["reconfigure"]).ok();
        run(root, &["setup", "podman", "--apply"]).ok();
    }
    for root in &roots {
        let seen = findings(&run(root, &["doctor", "--json", "clients"]).stdout);
        assert_eq!(seen, [], "the other root's entry is in the way");
    }
}

#[test]
fn a_key_that_others_may_read_is_seen() {
    let root = TestRoot::with_registry("  self_signed: true\n");
    root.kdk(&["reconfigure"]).ok();
    assert_eq!(found(&root, &["certificates"]), []);
    let loose = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(root.join("registry_host.key"), loose).expect("set");
    assert_eq!(ids(&found(&root, &["certificates"])), ["key-readable"]);
    root.kdk(&["doctor", "certificates", "--fix", "--yes"]).ok();
    assert_eq!(found(&root, &["certificates"]), []);
}
