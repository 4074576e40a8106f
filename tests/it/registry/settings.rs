//! What the configuration changes: listeners, TLS, passwords, limits, health,
//! metrics, notifications.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, assert_error, digest, header};
use crate::support::{KDK, Output, TestRegistry, temporary, wait};

/// Makes an authority, and a certificate of it with its key; returns the
/// paths of certificate, key and authority.
pub fn certificate(directory: &Path, name: &str) -> (String, String, String) {
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, format!("{name} authority"));
    let ca = params.self_signed(&ca_key).expect("signed");
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).expect("names");
    let leaf = params.signed_by(&key, &issuer).expect("signed");
    let [crt, pem, authority] = ["crt", "key", "ca"].map(|kind| directory.join(format!("{name}.{kind}")));
    std::fs::write(&crt, leaf.pem()).expect("written");
    std::fs::write(&pem, key.serialize_pem()).expect("written");
    std::fs::write(&authority, ca.pem()).expect("written");
    (
        crt.display().to_string(),
        pem.display().to_string(),
        authority.display().to_string(),
    )
}

pub fn client(ca: &str, identity: Option<(&str, &str)>) -> reqwest::blocking::Client {
    let ca = reqwest::Certificate::from_pem(&std::fs::read(ca).expect("read")).expect("a certificate");
    let builder = reqwest::blocking::Client::builder().tls_certs_only([ca]);
    let builder = match identity {
        None => builder,
        Some((crt, key)) => {
            let pem = [std::fs::read(crt).expect("read"), std::fs::read(key).expect("read")].concat();
            builder.identity(reqwest::Identity::from_pem(&pem).expect("an identity"))
        }
    };
    builder.build().expect("a client")
}

#[test]
fn everything_is_below_the_prefix() {
    let registry = TestRegistry::with(temporary(), "  prefix: /some/registry/\n", &[]);
    assert_eq!(registry.get("/v2/").status(), 404);
    assert_eq!(registry.get("/").status(), 200);
    let base = registry.get("/some/registry/v2/");
    assert_eq!(
        (base.status().as_u16(), header(&base, "docker-distribution-api-version")),
        (200, "registry/2.0".to_owned())
    );
    let started = registry.send("POST", "/some/registry/v2/a/b/blobs/uploads/");
    let location = header(&started, "location");
    assert!(location.contains("/some/registry/v2/a/b/blobs/uploads/"), "{location}");
    let blob = digest(b"x");
    let done = registry
        .request("PUT", &format!("{location}&digest={blob}"))
        .body("x")
        .send()
        .expect("answered");
    assert_eq!(done.status(), 201);
    assert_eq!(registry.get(&header(&done, "location")).text().expect("read"), "x");
    assert_eq!(registry.get("/some/registryv2/").status(), 404);
}

#[test]
fn a_certificate_is_taken_up_when_it_changes() {
    let directory = temporary();
    let (crt, key, ca) = certificate(directory.path(), "server");
    let more = format!("  tls:\n    certificate: {crt}\n    key: {key}\n");
    let registry = TestRegistry::with(directory, &more, &[]);
    let url = format!("https://{}/v2/", registry.address);
    let first = client(&ca, None);
    assert_eq!(first.get(&url).send().expect("answered").status(), 200);
    // Half of a change changes nothing.
    let aside = temporary();
    let (new_crt, new_key, new_ca) = certificate(aside.path(), "new");
    std::fs::copy(&new_key, &key).expect("copied");
    registry.wait_for_line(|line| {
        let _ = client(&ca, None).get(&url).send();
        (line["msg"] == "the changed certificate cannot be used; the one before stays in use").then_some(())
    });
    assert_eq!(client(&ca, None).get(&url).send().expect("answered").status(), 200);
    std::fs::copy(&new_crt, &crt).expect("copied");
    let second = client(&new_ca, None);
    wait("the new certificate", || second.get(&url).send().ok());
}

#[test]
fn clients_must_show_a_certificate() {
    let directory = temporary();
    let (crt, key, server) = certificate(directory.path(), "server");
    let (known, known_key, ca) = certificate(directory.path(), "client");
    let (other, other_key, _) = certificate(directory.path(), "other");
    let more =
        format!("  tls:\n    certificate: {crt}\n    key: {key}\n    minimumtls: tls1.3\n    clientcas: [{ca}]\n");
    let registry = TestRegistry::with(directory, &more, &[]);
    let url = format!("https://{}/v2/", registry.address);
    let ask = |identity| client(&server, identity).get(&url).send();
    assert!(ask(None).is_err());
    assert!(ask(Some((&other, &other_key))).is_err());
    assert_eq!(ask(Some((&known, &known_key))).expect("answered").status(), 200);
    // Who was refused, and why, is told, as often as anybody wants to read it.
    let refused = |reason: &str| {
        registry.wait_for_line(|line| {
            let is_it = line["msg"] == "TLS handshake failed" && line["level"] == "info";
            let error = line["error"].as_str().filter(|_| is_it)?;
            assert!(
                line["remote_addr"]
                    .as_str()
                    .is_some_and(|peer| peer.starts_with("127.0.0.1:")),
                "{line}"
            );
            error.contains(reason).then_some(())
        });
    };
    let told = std::cell::Cell::new(0);
    (0..20).for_each(|_| assert!(ask(None).is_err()));
    assert_eq!(ask(Some((&known, &known_key))).expect("answered").status(), 200);
    let mut served = 0;
    registry.wait_for_line(|line| {
        told.set(told.get() + usize::from(line["msg"] == "TLS handshake failed"));
        served += usize::from(line["uri"] == "/v2/");
        (served == 2).then_some(())
    });
    assert!((1..10).contains(&told.get()), "{} lines of 22 handshakes", told.get());
    let rest = || std::thread::sleep(std::time::Duration::from_millis(1100));
    rest();
    assert!(ask(None).is_err());
    refused("peer sent no certificates");
    rest();
    assert!(ask(Some((&other, &other_key))).is_err());
    refused("UnknownIssuer");
}

/// Where a certificate is optional, none is as good as a known one, and another's is refused.
#[test]
fn clients_may_show_a_certificate() {
    let directory = temporary();
    let (crt, key, server) = certificate(directory.path(), "server");
    let (known, known_key, ca) = certificate(directory.path(), "client");
    let (other, other_key, _) = certificate(directory.path(), "other");
    let more = format!(
        "  tls:\n    certificate: {crt}\n    key: {key}\n    clientauth: verify-client-cert-if-given\n    clientcas: [{ca}]\n"
    );
    let registry = TestRegistry::with(directory, &more, &[]);
    let url = format!("https://{}/v2/", registry.address);
    let ask = |identity| client(&server, identity).get(&url).send();
    assert_eq!(ask(None).expect("answered").status(), 200);
    assert_eq!(ask(Some((&known, &known_key))).expect("answered").status(), 200);
    assert!(ask(Some((&other, &other_key))).is_err());
}

/// A certificate of X.509 version 1 says of nobody what it is for: it is refused, and the log says why.
#[test]
fn a_client_s_certificate_of_version_1_is_refused() {
    if Command::new("openssl").arg("version").output().is_err() && crate::support::may_skip() {
        return;
    }
    let directory = temporary();
    let (crt, key, server) = certificate(directory.path(), "server");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let openssl = |arguments: &[&str]| Output::of(Command::new("openssl").args(arguments)).ok();
    let [ca, ca_key, request, old, old_key] = ["ca.pem", "ca.pem.key", "old.csr", "old.pem", "old.pem.key"].map(path);
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
        &[
            &[
                "req",
                "-x509",
                "-days",
                "2",
                "-subj",
                "/CN=authority",
                "-keyout",
                &ca_key,
                "-out",
                &ca,
            ],
            &curve[..],
        ]
        .concat(),
    );
    openssl(
        &[
            &["req", "-subj", "/CN=old", "-keyout", &old_key, "-out", &request],
            &curve[..],
        ]
        .concat(),
    );
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
        "-out",
        &old,
    ]);
    assert!(openssl(&["x509", "-noout", "-text", "-in", &old]).contains("Version: 1 "));
    let more = format!("  tls:\n    certificate: {crt}\n    key: {key}\n    clientcas: [{ca}]\n");
    let registry = TestRegistry::with(directory, &more, &[]);
    let url = format!("https://{}/v2/", registry.address);
    // curl shows whatever it is given.
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--cacert", &server, "--cert", &old, "--key", &old_key, &url]);
    Output::of(&mut curl).refused();
    registry.wait_for_line(|line| {
        let error = line["error"]
            .as_str()
            .filter(|_| line["msg"] == "TLS handshake failed")?;
        error.contains("UnsupportedCertVersion").then_some(())
    });
}

#[test]
fn http2_works_with_and_without_tls() {
    if Command::new("curl").arg("--version").output().is_err() && crate::support::may_skip() {
        return;
    }
    let directory = temporary();
    let (crt, key, ca) = certificate(directory.path(), "server");
    let more = format!("  tls:\n    certificate: {crt}\n    key: {key}\n");
    let curl = |arguments: &[&str], url: &str| {
        let form = [
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code} %header{location}",
        ];
        Output::of(Command::new("curl").args(form).args(arguments).arg(url)).ok()
    };
    let mut registry = TestRegistry::with(directory, &more, &[]);
    let url = format!("https://{}/v2/a/b/blobs/uploads/", registry.address);
    let said = curl(&["--cacert", &ca, "-X", "POST"], &url);
    let expected = format!("2 202 https://{}/v2/a/b/blobs/uploads/", registry.address);
    assert!(said.starts_with(&expected), "{said}");
    registry.stop();
    let off = format!("{more}  http2:\n    disabled: true\n");
    let registry = TestRegistry::with(std::mem::replace(&mut registry.directory, temporary()), &off, &[]);
    let said = curl(&["--cacert", &ca], &format!("https://{}/v2/", registry.address));
    assert_eq!(said, "1.1 200 ");
    let plain = TestRegistry::with(temporary(), "  h2c:\n    enabled: true\n", &[]);
    assert_eq!(curl(&["--http2-prior-knowledge"], &plain.url("/v2/")), "2 200 ");
    assert_eq!(curl(&["--http1.1"], &plain.url("/v2/")), "1.1 200 ");
}

#[test]
fn names_and_passwords_guard_the_registry() {
    let directory = temporary();
    let path = directory.path().join("htpasswd");
    let hash = |password: &str| bcrypt::hash(password, 4).expect("hashed");
    std::fs::write(&path, format!("# people\nana:{}\nold:{{SHA}}x\n", hash("secret"))).expect("written");
    let more = format!(
        "auth:\n  htpasswd:\n    realm: Registry Realm\n    path: {}\n",
        path.display()
    );
    let registry = TestRegistry::with(directory, &more, &[]);
    let refused = registry.get("/v2/");
    assert_eq!(
        (refused.status().as_u16(), header(&refused, "www-authenticate")),
        (401, "Basic realm=\"Registry Realm\"".to_owned())
    );
    let ask = |name: &str, password: &str| {
        let request = registry.request("GET", "/v2/_catalog").basic_auth(name, Some(password));
        request.send().expect("answered").status().as_u16()
    };
    assert_eq!(ask("ana", "secret"), 200);
    assert_eq!(ask("ana", "secret"), 200);
    assert_eq!(ask("ana", "wrong"), 401);
    assert_eq!(ask("bob", "secret"), 401);
    assert_eq!(ask("old", "x"), 401);
    std::fs::write(&path, format!("bob:{}\n", hash("other"))).expect("written");
    wait("the new file counts", || (ask("bob", "other") == 200).then_some(()));
    assert_eq!(ask("ana", "secret"), 401);
}

#[test]
fn a_password_file_that_becomes_unusable_lets_nobody_in() {
    let directory = temporary();
    let path = directory.path().join("htpasswd");
    let good = format!("ana:{}\n", bcrypt::hash("secret", 4).expect("hashed"));
    std::fs::write(&path, &good).expect("written");
    let more = format!("auth:\n  htpasswd:\n    realm: r\n    path: {}\n", path.display());
    let registry = TestRegistry::with(directory, &more, &[]);
    let ask = || {
        let request = registry
            .request("GET", "/v2/_catalog")
            .basic_auth("ana", Some("secret"));
        request.send().expect("answered").status().as_u16()
    };
    assert_eq!(ask(), 200);
    let breaks: [&dyn Fn(); 3] = [
        &|| std::fs::write(&path, "").expect("emptied"),
        &|| std::fs::write(&path, "ana\0garbled\n").expect("garbled"),
        &|| std::fs::remove_file(&path).expect("removed"),
    ];
    for break_it in breaks {
        break_it();
        wait("nobody is let in any more", || (ask() == 401).then_some(()));
        registry.wait_for_line(|line| {
            (line["level"] == "error" && line["msg"] == "htpasswd file cannot be used any more: everybody is refused")
                .then_some(())
        });
        std::fs::write(&path, &good).expect("written");
        wait("the mended file counts", || (ask() == 200).then_some(()));
    }
    // What is unusable for a moment only, while it is written, locks nobody out.
    for _ in 0..40 {
        std::fs::write(&path, "").expect("emptied");
        assert_eq!(ask(), 200);
        std::fs::write(&path, &good).expect("written");
        assert_eq!(ask(), 200);
        std::thread::sleep(std::time::Duration::from_millis(30));
    }
}

#[test]
fn a_section_that_guards_is_never_read_as_absent() {
    let directory = temporary();
    let config = directory.path().join("config.yml");
    let check = |auth: &str, env: Option<(&str, &str)>| {
        let storage = directory.path().join("storage");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n{auth}",
            storage.display()
        );
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new("timeout");
        command
            .args(["20", KDK, "registry", "serve"])
            .arg(&config)
            .env_clear()
            .envs(env);
        Output::of(&mut command)
    };
    let guarded = "auth:\n  htpasswd:\n    realm: r\n    path: /nonexistent\n";
    for (auth, env) in [
        ("auth:\n", None),
        ("auth: {}\n", None),
        ("auth: ~\n", None),
        ("auth:\n  token:\n", None),
        ("auth:\n  htpasswd:\n", None),
        (guarded, Some(("REGISTRY_AUTH", ""))),
        ("", Some(("REGISTRY_AUTH", ""))),
    ] {
        let refused = check(auth, env).fails(1);
        assert!(refused.contains("auth"), "{auth:?} {env:?}: {refused}");
    }
    // What podman and skopeo read is no setting of the registry.
    let registry = TestRegistry::with(
        temporary(),
        "",
        &[
            ("REGISTRY_AUTH_FILE", "/home/anna/auth.json"),
            ("REGISTRY_HOST", "registry.test"),
        ],
    );
    assert_eq!(registry.get("/v2/").status(), 200);
}

#[test]
fn urls_of_foreign_layers_are_taken_only_where_the_rules_say_so() {
    let outcome = |more: &str, url: &str| {
        let registry = TestRegistry::with(temporary(), more, &[]);
        let blob = registry.push_blob("a/b", b"{}");
        let layer = json!({"mediaType": "l", "digest": digest(b"elsewhere"), "size": 2, "urls": [url]});
        let config = json!({"mediaType": "x", "digest": blob, "size": 2});
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}).to_string();
        let answer = registry.put_manifest("a/b", "t", OCI_MANIFEST, manifest.as_bytes());
        answer.status().as_u16()
    };
    let url = "https://layers.example/x";
    assert_eq!(outcome("", url), 400);
    assert_eq!(outcome("validation:\n  manifests:\n    referencelimit: 9\n", url), 400);
    assert_eq!(outcome("validation:\n  disabled: true\n", url), 201);
    let deny = "validation:\n  manifests:\n    urls:\n      deny: ['evil']\n";
    assert_eq!(outcome(deny, url), 201);
    assert_eq!(outcome(deny, "https://evil.example/x"), 400);
}

#[test]
fn manifests_keep_to_the_rules() {
    let more = "validation:\n  manifests:\n    referencelimit: 3\n    payloadsizelimit: 1000\n    urls:\n      allow: ['^https://layers\\.example/']\n      deny: ['secret']\n    indexes:\n      platforms: list\n      platformlist: [{os: linux, architecture: amd64}]\n";
    let registry = TestRegistry::with(temporary(), more, &[]);
    let blob = registry.push_blob("a/b", b"{}");
    let put = |manifest: &Value, kind: &str| registry.put_manifest("a/b", "t", kind, manifest.to_string().as_bytes());
    let image = |layers: Value| json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {"mediaType": "x", "digest": blob, "size": 2}, "layers": layers});
    let layer = |url: Option<&str>| match url {
        None => json!({"mediaType": "l", "digest": blob, "size": 2}),
        Some(url) => json!({"mediaType": "l", "digest": digest(b"elsewhere"), "size": 2, "urls": [url]}),
    };
    assert_eq!(
        put(
            &image(json!([layer(None), layer(Some("https://layers.example/x"))])),
            OCI_MANIFEST
        )
        .status(),
        201
    );
    for url in [
        "https://other.example/x",
        "https://layers.example/secret",
        "ftp://layers.example/x",
        "https://layers.example/x#y",
    ] {
        assert_error(
            put(&image(json!([layer(Some(url))])), OCI_MANIFEST),
            400,
            "MANIFEST_INVALID",
        );
    }
    let many = json!([layer(None), layer(None), layer(None)]);
    assert_error(put(&image(many), OCI_MANIFEST), 400, "MANIFEST_REFERENCE_LIMIT");
    let mut long = image(json!([]));
    long["annotations"] = json!({"x": "y".repeat(1000)});
    assert_error(put(&long, OCI_MANIFEST), 400, "MANIFEST_SIZE_LIMIT");
    // An index may lack what is for other platforms.
    let index = |architecture: &str| {
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
            {"mediaType": OCI_MANIFEST, "digest": digest(b"absent"), "size": 1, "platform": {"os": "linux", "architecture": architecture}},
        ]})
    };
    assert_eq!(put(&index("riscv64"), OCI_INDEX).status(), 201);
    assert_error(put(&index("amd64"), OCI_INDEX), 400, "MANIFEST_BLOB_UNKNOWN");
}

#[test]
fn health_checks_and_metrics_tell_how_it_is() {
    let directory = temporary();
    let flag = directory.path().join("down");
    let debug = crate::support::port();
    let peer = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let other = peer.local_addr().expect("an address");
    let more = format!(
        "  debug:\n    addr: 127.0.0.1:{debug}\n    prometheus:\n      enabled: true\nhealth:\n  file:\n    - file: {}\n      interval: 20ms\n  tcp:\n    - addr: {other}\n      interval: 20ms\n      threshold: 2\n",
        flag.display()
    );
    let registry = TestRegistry::with(directory, &more, &[]);
    let tell = |path: &str| {
        let answer = registry.get(&format!("http://127.0.0.1:{debug}{path}"));
        (answer.status().as_u16(), answer.text().expect("read"))
    };
    assert_eq!(tell("/debug/health"), (200, "{}\n".to_owned()));
    let blob = registry.push_blob("a/b", b"twelve bytes");
    registry.get(&format!("/v2/a/b/blobs/{blob}"));
    std::fs::write(&flag, "").expect("written");
    wait("the file counts", || {
        (registry.get("/v2/").status() == 503).then_some(())
    });
    let (status, body) = tell("/debug/health");
    assert!(status == 503 && body.contains("down exists"), "{body}");
    assert_eq!(registry.get("/").status(), 200);
    std::fs::remove_file(&flag).expect("removed");
    wait("it recovers", || (registry.get("/v2/").status() == 200).then_some(()));
    drop(peer);
    wait("the connection counts", || {
        (registry.get("/v2/").status() == 503).then_some(())
    });
    let (status, text) = tell("/metrics");
    assert_eq!(status, 200);
    for line in [
        "registry_http_requests_total{code=\"200\",method=\"get\",route=\"/v2/{name}/blobs/{digest}\"} 1",
        "registry_storage_blob_upload_bytes_sum 12.0",
        "registry_storage_blob_download_bytes_count 1",
        "registry_http_request_duration_seconds_bucket",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(tell("/nothing").0, 404);
}

/// Answers requests with a status each, and passes on their heads and bodies.
pub fn receiver(statuses: Vec<u16>) -> (u16, std::sync::mpsc::Receiver<(String, String)>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let (sender, bodies) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for status in statuses {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            let body = loop {
                let read = stream.read(&mut piece).unwrap_or_default();
                text.extend_from_slice(&piece[..read]);
                let all = String::from_utf8_lossy(&text).into_owned();
                if let Some((head, body)) = all.split_once("\r\n\r\n") {
                    let length = head
                        .lines()
                        .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
                    if read == 0 || length == Some(body.len()) {
                        break (head.to_lowercase(), body.to_owned());
                    }
                }
                if read == 0 {
                    break Default::default();
                }
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            if sender.send(body).is_err() {
                return;
            }
        }
    });
    (port, bodies)
}

#[test]
fn events_that_wait_survive_a_kill() {
    let closed = crate::support::port();
    let more = |port: u16| {
        format!(
            "notifications:\n  endpoints:\n    - name: listener\n      url: http://127.0.0.1:{port}/events\n      timeout: 2s\n      maxretries: 1000\n      backoff: 50ms\n      ignore:\n        actions: [pull]\n"
        )
    };
    let mut registry = TestRegistry::with(temporary(), &more(closed), &[]);
    let (_, image) = registry.push_image("a/b", "t", "x");
    let journals = registry.directory.path().join("storage/.kdk/notifications");
    wait("the events are on disk", || {
        let entries = std::fs::read_dir(&journals).ok()?;
        let text: String = entries
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
            .collect();
        (text.matches("\"action\":\"push\"").count() == 3).then_some(())
    });
    registry.kill();
    let (port, bodies) = receiver(vec![503, 200, 200, 200, 200]);
    let directory = std::mem::replace(&mut registry.directory, temporary());
    let registry = TestRegistry::with(directory, &more(port), &[]);
    let next = || -> Value {
        let (_, body) = bodies
            .recv_timeout(std::time::Duration::from_secs(20))
            .expect("an event");
        serde_json::from_str(&body).expect("JSON")
    };
    // The first comes again after its 503.
    let first = next();
    assert_eq!(next(), first);
    let (second, third) = (next(), next());
    for event in [&first, &second, &third] {
        let events = event["events"].as_array().expect("a list");
        assert_eq!((events.len(), &events[0]["action"]), (1, &json!("push")));
    }
    assert_eq!(third["events"][0]["target"]["digest"], image);
    assert_eq!(third["events"][0]["target"]["tag"], "t");
    // And what is new comes after.
    registry.push_blob("a/b", b"new");
    assert_eq!(next()["events"][0]["target"]["digest"], digest(b"new"));
}

#[test]
fn what_an_endpoint_refuses_is_not_sent_again() {
    let (port, requests) = receiver(vec![401, 400, 200]);
    let more = format!(
        "notifications:\n  events:\n    includereferences: true\n  endpoints:\n    - name: listener\n      url: http://127.0.0.1:{port}/events\n      timeout: 2s\n      backoff: 10ms\n      headers:\n        Authorization: [secret]\n"
    );
    let registry = TestRegistry::with(temporary(), &more, &[]);
    let (bytes, image) = registry.push_image("a/b", "t", "x");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (head, body) = requests
            .recv_timeout(std::time::Duration::from_secs(20))
            .expect("a request");
        assert!(head.contains("authorization: secret"), "{head}");
        assert!(
            head.contains("content-type: application/vnd.docker.distribution.events.v1+json"),
            "{head}"
        );
        let envelope: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(envelope["events"].as_array().map(Vec::len), Some(1));
        seen.push(envelope["events"][0]["target"].clone());
    }
    // Three pushes, three requests: two blobs, and the manifest.
    let digests: std::collections::BTreeSet<_> = seen.iter().map(|target| target["digest"].to_string()).collect();
    assert_eq!(digests.len(), 3, "{seen:?}");
    let manifest: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(seen[2]["digest"], image);
    assert_eq!(
        seen[2]["references"],
        json!([manifest["config"], manifest["layers"][0]])
    );
}

#[test]
fn a_storage_in_memory_is_gone_at_the_end() {
    let directory = temporary();
    let config = directory.path().join("config.yml");
    std::fs::write(
        &config,
        "version: 0.1\nstorage: {inmemory: {}}\nhttp: {addr: 127.0.0.1:0}\n",
    )
    .expect("written");
    let before = leftovers();
    let mut registry = TestRegistry::on(directory, &config, &[]);
    registry.push_image("a/b", "t", "x");
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
    registry.stop();
    assert!(leftovers() <= before);
}

fn leftovers() -> usize {
    std::fs::read_dir("/dev/shm").map_or(0, |entries| {
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().contains("kdk-registry-inmemory"))
            .count()
    })
}

#[test]
fn a_configuration_is_explained() {
    let directory = temporary();
    let path = directory.path().join("config.yml");
    let check = |text: &str, env: &[(&str, &str)]| {
        std::fs::write(&path, text).expect("written");
        Output::of(
            Command::new(KDK)
                .args(["registry", "config", "check"])
                .arg(&path)
                .env_clear()
                .envs(env.iter().copied()),
        )
    };
    let text = "version: 0.1\nlog:\n  levle: info\nstorage:\n  filesystem:\n    rootdirectory: /nonexistent/images\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:5000\n  secret: hush\ncompatibility:\n  schema1:\n    enabled: true\nnotifications:\n  endpoints:\n    - name: rails\n      url: http://user:hush@127.0.0.1:3000/events\n      timeout: 500\n";
    let said = check(text, &[("REGISTRY_HTTP_ADDR", "127.0.0.1:5001")]);
    let all = said.shown().replace(&path.display().to_string(), "config.yml");
    assert!(!all.contains("hush"), "{all}");
    insta::assert_snapshot!("config_check", all);
    let wrong = check(
        "version: 0.1\nstorage: {filesystem: {}}\nhttp:\n  addr: ':0'\n  tls: {certificate: /nonexistent.crt, key: /nonexistent.key}\n",
        &[],
    );
    assert!(wrong.stderr.contains("/nonexistent.crt"), "{wrong:?}");
    assert_eq!(wrong.code, 1);
}

#[test]
fn the_version_is_printed_like_the_go_registry_does() {
    let said = Output::of(Command::new(KDK).args(["registry", "--version"])).ok();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!((words.len(), words[0]), (3, "registry"), "{said}");
    assert!(words[2].starts_with('v'), "{said}");
}

/// What has no effect is said by name, and a variable by its own.
#[test]
fn what_has_no_effect_is_said_by_the_name_that_was_written() {
    let directory = temporary();
    let path = directory.path().join("config.yml");
    let check = |more: &str, env: &[(&str, &str)]| {
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}, maxthreads: 9}}}}\nhttp:\n  addr: 127.0.0.1:0\n  debug: {{addr: '127.0.0.1:0', pprof: {{enabled: true}}}}\n{more}",
            directory.path().display()
        );
        std::fs::write(&path, text).expect("written");
        let mut command = Command::new(KDK);
        command.args(["registry", "config", "check"]).arg(&path).env_clear();
        Output::of(command.envs(env.iter().copied()))
    };
    let said = check(
        "  tls: {certificate: a, key: b, ciphersuites: [TLS_AES_128_GCM_SHA256]}\nredis: {addr: 'localhost:6379'}\ndatabase: {preparedstatements: false}\n",
        &[
            ("REGISTRY_HTTP_ADDRR", "x"),
            ("REGISTRY_STORAGE_TAG_CONCURRENCYLIMIT", "3"),
        ],
    );
    for expected in [
        "configuration key redis ",
        "configuration key http.tls.ciphersuites",
        "configuration key database.preparedstatements",
        "configuration key storage.filesystem.maxthreads",
        "http.debug.pprof",
        "it writes no profiles",
        "environment variable REGISTRY_HTTP_ADDRR names no setting",
        "environment variable REGISTRY_STORAGE_TAG_CONCURRENCYLIMIT has no effect",
    ] {
        assert!(said.stderr.contains(expected), "{expected}: {}", said.stderr);
    }
    let wrong = check("", &[("REGISTRY_HTTP_DRAINTIMEOUT", "soon")]);
    assert!(wrong.stderr.contains("REGISTRY_HTTP_DRAINTIMEOUT"), "{}", wrong.stderr);
    let wrong = check("", &[("REGISTRY_HTTP_TLS_MINIMUMTLS", "tls1.0")]);
    assert!(
        wrong
            .stderr
            .contains("environment variable REGISTRY_HTTP_TLS_MINIMUMTLS"),
        "{}",
        wrong.stderr
    );
    std::fs::write(
        &path,
        "version: 0.1\nstorage: {swift: {container: x}}\nhttp: {addr: ':0'}\n",
    )
    .expect("written");
    let mut command = Command::new(KDK);
    let refused = Output::of(command.args(["registry", "config", "check"]).arg(&path)).fails(1);
    assert!(refused.contains("storage.swift"), "{refused}");
    // A secret is made once, and told of once.
    let root = directory.path().join("secret");
    let config = directory.path().join("other.yml");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
        root.display()
    );
    std::fs::write(&config, text).expect("written");
    for is_first in [true, false] {
        let mut command = Command::new(KDK);
        command
            .args(["registry", "serve"])
            .arg(&config)
            .env_clear()
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("started");
        let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
        let mut until = Vec::new();
        for line in lines.map_while(Result::ok) {
            let is_last = line.contains("listening on");
            until.push(line);
            if is_last {
                break;
            }
        }
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert_eq!(
            until.iter().any(|line| line.contains("generated random secret")),
            is_first,
            "{until:?}"
        );
    }
}
