//! Certificates, judged by others: openssl and a TLS client.

use std::process::Command;

use crate::support::{Output, TestRoot};

fn openssl(root: &TestRoot, arguments: &[&str]) -> String {
    Output::of(Command::new("openssl").args(arguments).current_dir(root.path())).ok()
}

#[test]
fn openssl_accepts_the_pair() {
    let root = TestRoot::with_registry(
        "  self_signed: true\n  host: registry.test\nhostname: kdk.test\nlisten_address: 127.0.0.1\n",
    );
    root.kdk(&["reconfigure"]).ok();
    assert_eq!(
        openssl(
            &root,
            &[
                "verify",
                "-purpose",
                "sslserver",
                "-CAfile",
                "registry_host.crt",
                "registry_host.crt"
            ]
        ),
        "registry_host.crt: OK\n"
    );
    for name in ["registry.test", "kdk.test", "localhost"] {
        openssl(
            &root,
            &[
                "verify",
                "-verify_hostname",
                name,
                "-CAfile",
                "registry_host.crt",
                "registry_host.crt",
            ],
        );
    }
    openssl(
        &root,
        &[
            "verify",
            "-verify_ip",
            "127.0.0.1",
            "-CAfile",
            "registry_host.crt",
            "registry_host.crt",
        ],
    );
    let text = openssl(&root, &["x509", "-in", "registry_host.crt", "-noout", "-text"]);
    for expected in [
        "CA:FALSE",
        "TLS Web Server Authentication",
        "DNS:registry.test",
        "IP Address:127.0.0.1",
        "CN = registry.test",
        "Public-Key: (2048 bit)",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    openssl(
        &root,
        &[
            "x509",
            "-in",
            "registry_host.crt",
            "-noout",
            "-checkend",
            &(363 * 86_400).to_string(),
        ],
    );
    let later = Output::of(
        Command::new("openssl")
            .args([
                "x509",
                "-in",
                "registry_host.crt",
                "-noout",
                "-checkend",
                &(366 * 86_400).to_string(),
            ])
            .current_dir(root.path()),
    );
    assert_eq!(later.code, 1, "it holds for more than a year");
    let modulus = |kind: &str, file: &str| openssl(&root, &[kind, "-noout", "-modulus", "-in", file]);
    assert_eq!(modulus("x509", "localhost.crt"), modulus("rsa", "localhost.key"));
}

#[test]
fn a_tls_client_accepts_the_registry() {
    let root = TestRoot::with_registry("  self_signed: true\n");
    root.up();
    let url = format!("https://127.0.0.1:{}/v2/", root.registry_port);
    let curl = |arguments: &[&str]| {
        Output::of(
            Command::new("curl")
                .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}"])
                .args(arguments)
                .arg(&url)
                .current_dir(root.path()),
        )
    };
    assert_eq!(curl(&["--cacert", "registry_host.crt"]).ok(), "401");
    assert_eq!(curl(&[]).code, 60, "it was trusted without its certificate");
    let plain = Output::of(Command::new("curl").args(["-s", &url.replace("https", "http")])).ok();
    assert!(
        plain.contains("Client sent an HTTP request to an HTTPS server") && plain.contains("https://127.0.0.1"),
        "{plain}"
    );
}

#[test]
fn a_new_host_means_a_new_certificate_and_others_are_left_alone() {
    let root = TestRoot::with_registry("  self_signed: true\n");
    root.kdk(&["reconfigure"]).ok();
    let first = root.read("registry_host.crt");
    root.kdk(&["config", "set", "registry.host", "localhost"]).ok();
    let same = root.kdk(&["reconfigure"]);
    assert_eq!(root.read("registry_host.crt"), first, "{}", same.stderr);
    root.kdk(&["config", "set", "registry.host", "registry.test"]).ok();
    let renewed = root.kdk(&["reconfigure"]).stderr;
    assert!(
        renewed.contains("the certificate is not valid for registry.test")
            && renewed.contains("kdk trust-docker-registry"),
        "{renewed}"
    );
    assert_ne!(root.read("registry_host.crt"), first);
    openssl(
        &root,
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=mine",
            "-keyout",
            "registry_host.key",
            "-out",
            "registry_host.crt",
        ],
    );
    let mine = root.read("registry_host.crt");
    let said = root.kdk(&["reconfigure"]).stderr;
    assert!(said.contains("it was not made by kdk, so it is left alone"), "{said}");
    assert_eq!(root.read("registry_host.crt"), mine);
}

#[test]
fn old_forms_of_the_signing_key_are_read() {
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    openssl(
        &root,
        &["rsa", "-traditional", "-in", "localhost.key", "-out", "old.key"],
    );
    let old = root.read("old.key");
    assert!(old.starts_with("-----BEGIN RSA PRIVATE KEY-----"), "{old}");
    root.write("localhost.key", &old);
    root.up();
    let token = root.kdk(&["registry", "token", "--scope", "registry:catalog:*"]).ok();
    let answer = reqwest::blocking::Client::new()
        .get(root.registry_url("/v2/_catalog"))
        .bearer_auth(token.trim())
        .send()
        .expect("answered");
    assert_eq!(answer.status(), 200);
    assert_eq!(root.read("localhost.key"), old, "a good key was replaced");
}
