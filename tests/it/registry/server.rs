use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::registry::{assert_error, header};
use crate::support::{Output, TestRegistry, temporary};

fn raw(registry: &TestRegistry, request: &str) -> String {
    let mut stream = TcpStream::connect(&registry.address).expect("connected");
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_api_is_announced() {
    let registry = TestRegistry::start();
    let base = registry.get("/v2/");
    assert_eq!(base.status(), 200);
    assert_eq!(header(&base, "docker-distribution-api-version"), "registry/2.0");
    assert_eq!(header(&base, "x-content-type-options"), "nosniff");
    assert_eq!(base.text().expect("read").trim(), "{}");
    assert!(raw(&registry, "GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").contains("location: /v2/\r\n"));
    assert_eq!(registry.get("/").status(), 200);
    let lost = registry.get("/v2/UPPER/tags/list");
    assert_eq!(
        (lost.status().as_u16(), lost.text().expect("read")),
        (404, "404 page not found\n".to_owned())
    );
    let wrong = registry.send("POST", "/v2/a/b/tags/list");
    assert_eq!(
        (wrong.status().as_u16(), header(&wrong, "allow")),
        (405, "GET, HEAD, OPTIONS".to_owned())
    );
    assert_eq!(
        header(&registry.send("OPTIONS", "/v2/a/b/manifests/t"), "allow"),
        "DELETE, GET, HEAD, OPTIONS, PUT"
    );
}

#[test]
fn odd_requests_do_no_harm() {
    let registry = TestRegistry::start();
    let close = raw(&registry, "GET /v2/ HTTP/1.0\r\nHost: x\r\n\r\n");
    assert!(
        close.starts_with("HTTP/1.0 200") || close.starts_with("HTTP/1.1 200"),
        "{close}"
    );
    // A TLS ClientHello on a plain port gets an answer or an end at once.
    let _ = raw(&registry, "\u{16}\u{3}\u{1}\u{0}\u{5}hello");
    for path in [
        "/v2/../../etc/passwd",
        "/v2/a/%2e%2e/%2e%2e/x/manifests/t",
        "/v2/a%00b/tags/list",
        "/v2/a/manifests/..%2f..%2fx",
    ] {
        let answer = raw(
            &registry,
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        );
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
    }
    assert_eq!(registry.get("/v2/").status(), 200);
}

#[test]
fn locations_follow_the_proxy_and_the_configuration() {
    let registry = TestRegistry::start();
    let forwarded = registry
        .request("POST", "/v2/a/blobs/uploads/")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "registry.example.com");
    assert!(
        header(&forwarded.send().expect("answered"), "location")
            .starts_with("https://registry.example.com/v2/a/blobs/uploads/")
    );
    for (name, value, expected) in [
        (
            "forwarded",
            "for=192.0.2.1;proto=https;host=registry.test",
            "https://registry.test/",
        ),
        // What is no host comes back to nobody.
        ("x-forwarded-host", "evil.test/?", "http://127.0.0.1:"),
        ("x-forwarded-host", "evil.test\"", "http://127.0.0.1:"),
        ("forwarded", "host=\"evil.test#\"", "http://127.0.0.1:"),
    ] {
        let answer = registry
            .request("POST", "/v2/a/blobs/uploads/")
            .header(name, value)
            .send();
        let location = header(&answer.expect("answered"), "location");
        assert!(location.starts_with(expected), "{name}: {value}: {location}");
    }
    let registry = TestRegistry::with(temporary(), "  relativeurls: true\n", &[]);
    assert!(header(&registry.send("POST", "/v2/a/blobs/uploads/"), "location").starts_with("/v2/a/blobs/uploads/"));
    let registry = TestRegistry::with(temporary(), "  host: https://outside.example.com\n", &[]);
    assert!(
        header(&registry.send("POST", "/v2/a/blobs/uploads/"), "location")
            .starts_with("https://outside.example.com/v2/")
    );
}

#[test]
fn read_only_and_no_deletion() {
    let registry = TestRegistry::with(temporary(), "", &[("REGISTRY_STORAGE_DELETE_ENABLED", "false")]);
    registry.push_image("a/b", "t", "x");
    assert_error(registry.send("DELETE", "/v2/a/b/manifests/t"), 405, "UNSUPPORTED");
    assert_eq!(
        header(&registry.send("OPTIONS", "/v2/a/b/manifests/t"), "allow"),
        "GET, HEAD, OPTIONS, PUT"
    );
    let registry = TestRegistry::with(
        temporary(),
        "",
        &[("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")],
    );
    for (method, path) in [
        ("POST", "/v2/a/b/blobs/uploads/"),
        ("PUT", "/v2/a/b/manifests/t"),
        ("DELETE", "/v2/a/b/manifests/t"),
        ("PATCH", "/v2/a/b/blobs/uploads/x"),
    ] {
        let refused = registry.send(method, path);
        assert!(!header(&refused, "allow").contains(method), "{method}: {refused:?}");
        assert_error(refused, 405, "UNSUPPORTED");
    }
    let allowed = registry.send("OPTIONS", "/v2/a/b/manifests/t");
    assert_eq!(header(&allowed, "allow"), "GET, HEAD, OPTIONS");
    assert_eq!(registry.get("/v2/_catalog").status(), 200);
}

#[test]
fn the_start_is_logged_in_the_documents_order() {
    let registry = TestRegistry::with(
        temporary(),
        "",
        &[
            ("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "inmemory"),
            ("REGISTRY_LOG_FIELDS_VERSION", "registry-dev"),
        ],
    );
    // The helper took the lines up to the last; the file has none of its own, so ask a second one.
    let answer = registry.get("/v2/");
    assert_eq!(answer.status(), 200);
    let access = registry.wait_for_line(|line| (line["msg"] == "access").then(|| line.clone()));
    assert_eq!(
        (
            access["status"].as_u64(),
            access["uri"].as_str(),
            access["version"].as_str()
        ),
        (Some(200), Some("/v2/"), Some("registry-dev"))
    );
}

#[test]
fn sigterm_drains_and_ends_well() {
    let mut registry = TestRegistry::start();
    let digest = crate::support::registry::digest(b"x");
    let mut slow = TcpStream::connect(&registry.address).expect("connected");
    let head = format!(
        "POST /v2/a/b/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).expect("sent");
    // So it is known that the request is under way.
    let mut go_on = [0; 25];
    slow.read_exact(&mut go_on).expect("asked for the body");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let server = nix::unistd::Pid::from_raw(registry.pid());
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGTERM).expect("sent");
    crate::support::wait("no new connection is taken", || {
        TcpStream::connect(&registry.address).is_err().then_some(())
    });
    slow.write_all(b"x").expect("still there");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(registry.wait_end(), Some(0));
}

#[test]
fn a_bad_configuration_is_named() {
    let directory = temporary();
    let path = directory.path().join("config.yml");
    for (text, expected) in [
        ("version: 0.1\nhttp: {addr: ':0'}\n", "missing field `storage`"),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nhttp: {addr: ':0', draintimeout: 5 parsecs}\n",
            "\"5 parsecs\" is no duration",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nhttp: {addr: ':0'}\nauth: {htpasswd: {realm: r, path: /x}}\n",
            "htpasswd -Bbn USER PASSWORD",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}, s3: {bucket: x}}\nhttp: {addr: ':0'}\n",
            ":2: storage.s3: this version serves storage.filesystem",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}, inmemory: {}}\nhttp: {addr: ':0'}\n",
            "two drivers are configured",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nhttp:\n  addr: ':0'\n  tls:\n    minimumtls: tls1.0\n",
            "config.yml:6: http.tls.minimumtls: \"tls1.0\" is not supported; use tls1.2 or tls1.3",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nhttp: {addr: ':0', prefix: registry}\n",
            "write it like /registry/",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nhttp: {addr: ':0'}\nauth: {token: {service: s, issuer: i, realm: r}}\n",
            "auth.token.rootcertbundle: is missing",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nhttp: {addr: ':0'}\nproxy: {remoteurl: 'https://x'}\n",
            "does not mirror",
        ),
        (
            "storage: {filesystem: {}}\nhttp: {addr: ':0'}\n",
            "missing field `version`",
        ),
        (
            "version: 9\nstorage: {filesystem: {}}\nhttp: {addr: ':0'}\n",
            "version: 9 is not supported; write 0.1",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nhttp: {addr: ':0', tls: {certificate: /x}}\n",
            "certificate and key go together",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {rootdirectory: /proc/nothing}}\nhttp: {addr: ':0'}\n",
            "/proc/nothing",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nhttp: {addr: ':0'}\ndatabase: {enabled: perhaps}\n",
            "use true, false or prefer",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {rootdirectory: ''}}\nhttp: {addr: ':0'}\n",
            "storage.filesystem.rootdirectory: is empty",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nhttp: {addr: ':0', tls: {minimumtls: tls1.2}}\n",
            "http.tls: needs certificate and key",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nhttp: {addr: ':0'}\nnotifications: {endpoints: [{name: a, url: 'http://x'}, {name: a, url: 'http://y'}]}\n",
            "notifications.endpoints.1.name: \"a\" is another endpoint's name already",
        ),
        ("version: [\n", "config.yml"),
    ] {
        std::fs::write(&path, text).expect("written");
        let mut command = std::process::Command::new(crate::support::KDK);
        let error = Output::of(command.args(["registry", "serve"]).arg(&path)).fails(1);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn every_address_is_both_families() {
    let registry = TestRegistry::with(temporary(), "", &[("REGISTRY_HTTP_ADDR", "0.0.0.0:0")]);
    let port = registry
        .address
        .strip_prefix("[::]:")
        .unwrap_or_else(|| panic!("{}", registry.address))
        .to_owned();
    for host in ["127.0.0.1", "[::1]"] {
        assert_eq!(
            registry
                .request("GET", &format!("http://{host}:{port}/v2/"))
                .send()
                .expect("answered")
                .status(),
            200
        );
    }
}

#[test]
fn a_directory_that_cannot_be_written_makes_the_service_unavailable_for_a_while() {
    let more = "health:\n  storagedriver:\n    enabled: true\n    interval: 50ms\n    threshold: 2\n";
    let registry = TestRegistry::with(temporary(), more, &[]);
    let storage = registry.directory.path().join("storage");
    let aside = registry.directory.path().join("aside");
    let health = || registry.get("/v2/").status().as_u16();
    assert_eq!(health(), 200);
    std::fs::rename(&storage, &aside).expect("moved");
    std::fs::write(&storage, "a file in its place").expect("written");
    crate::support::wait("it is unavailable", || (health() == 503).then_some(()));
    std::fs::remove_file(&storage).expect("removed");
    std::fs::rename(&aside, &storage).expect("moved back");
    crate::support::wait("it recovers by itself", || (health() == 200).then_some(()));
}
