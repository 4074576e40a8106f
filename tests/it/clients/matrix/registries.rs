//! Registries in turn on one root: the built-in one, Debian's docker-registry
//! and distribution v3, each with every image of the others.

use serde_json::Value;

use crate::support::namespace::{ADDRESS, Namespace};
use crate::support::{image, peers, wait};

/// What runs, and what its log says of itself.
const REGISTRIES: [(&str, &str, &str); 4] = [
    ("embedded", "", "\"go_version\":\"rust\""),
    ("docker-registry", "/usr/bin/docker-registry", "version="),
    ("distribution v3", "PEERS/registry-v3", "version="),
    ("embedded again", "", "\"go_version\":\"rust\""),
];

fn circle(more: &str, tls: &str) {
    let namespace = Namespace::new(ADDRESS).expect("the circle needs root");
    let settings = format!(
        "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  listen_address: 0.0.0.0\n  notifications_enabled: true\n{more}"
    );
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), &settings).expect("written");
    namespace.sh("root", "kdk up && kdk trust-docker-registry").ok();
    let token = namespace.sh("root", "kdk token create").ok().trim().to_owned();
    let login = format!(
        "export PATH={}:$PATH; crane auth login registry.test:5000 -u x -p {token}",
        peers().display()
    );
    namespace.sh("root", &login).ok();
    let crane = format!(
        "export PATH={}:$PATH; eval \"$(kdk --root {}/root env)\"; crane {tls}",
        peers().display(),
        namespace.path().display()
    );
    let mut pushed: Vec<(String, String)> = Vec::new();
    for (number, (name, binary, mark)) in REGISTRIES.iter().enumerate() {
        let binary = binary.replace("PEERS", &peers().display().to_string());
        let set = if binary.is_empty() {
            "kdk config unset registry.bin".to_owned()
        } else {
            format!("kdk config set registry.bin {binary}")
        };
        let changed = namespace.sh("root", &format!("{set} && kdk up"));
        assert_eq!(changed.code, 0, "{name}: {changed:?}");
        // Each takes a push, and tells Rails of it.
        let layout = format!("layout{number}");
        image::layout(&namespace.join(&layout), &format!("image {number}"));
        let repository = format!("group/app{number}");
        let reference = format!("registry.test:5000/{repository}:v1");
        let copy = format!(
            "skopeo copy -q --dest-tls-verify=false --dest-creds x:{token} oci:../{layout}:image docker://{reference}"
        );
        namespace.sh("root", &copy).ok();
        let digest = namespace.sh("root", &format!("{crane} digest {reference}")).ok();
        pushed.push((reference, digest.trim().to_owned()));
        wait(&format!("{name} tells Rails of the push"), || {
            let log = namespace.sh("root", "kdk tail rails --no-follow -n 200").ok();
            (log.contains("registry event") && log.contains(&repository)).then_some(())
        });
        // And has every image of those before it, digest for digest.
        for (reference, digest) in &pushed {
            let script = format!("{crane} digest {reference} && {crane} validate --remote {reference}");
            let found = namespace.sh("root", &script).ok();
            assert_eq!(found.lines().next(), Some(digest.as_str()), "{name}: {reference}");
        }
        let log = namespace.sh("root", "kdk tail registry --no-follow -n 300").ok();
        assert!(log.contains(mark), "{name}: {log}");
        let status: Value = serde_json::from_str(&namespace.sh("root", "kdk status --json").ok()).expect("JSON");
        let jobs = status.as_array().expect("a list");
        assert!(jobs.iter().all(|job| job["health"] == "ok"), "{name}: {status}");
        assert_eq!(
            jobs.iter().any(|job| job["name"] == "registry-front"),
            !binary.is_empty(),
            "{name}"
        );
        // Without a login nobody gets in.
        let anonymous = namespace
            .sh(
                "root",
                "curl -sk -o /dev/null -w '%{http_code}' SCHEME://registry.test:5000/v2/"
                    .replace("SCHEME", if tls.is_empty() { "https" } else { "http" })
                    .as_str(),
            )
            .ok();
        assert_eq!(anonymous, "401", "{name}");
    }
    namespace.sh("root", "kdk kill --yes").ok();
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn registries_take_turns_over_http() {
    circle("", "--insecure");
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn registries_take_turns_over_https() {
    circle("  self_signed: true\n", "");
}
