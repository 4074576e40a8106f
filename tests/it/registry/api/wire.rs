//! What goes over the wire, byte by byte: bodies in chunks, connections that
//! are used again, headers that clients leave out.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, assert_error, digest, header};
use crate::support::{TestRegistry, temporary, wait};

/// A connection on which requests follow each other.
pub struct Line {
    stream: BufReader<TcpStream>,
}

pub struct Heard {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The path that the answer leads to.
    pub fn path(&self) -> String {
        let location = self.header("location").expect("a location");
        location.trim_start_matches("http://x").to_owned()
    }
}

impl Line {
    pub fn to(registry: &TestRegistry) -> Self {
        let stream = TcpStream::connect(&registry.address).expect("connected");
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(10)))
            .expect("set");
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub fn say(&mut self, request: &str) {
        self.stream.get_mut().write_all(request.as_bytes()).expect("sent");
    }

    pub fn hear(&mut self, bodiless: bool) -> Heard {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(
                self.stream.read_line(&mut head).expect("read"),
                0,
                "the connection was closed: {head}"
            );
        }
        let mut heard = Heard {
            status: head
                .split(' ')
                .nth(1)
                .and_then(|code| code.parse().ok())
                .expect("a status"),
            head,
            body: Vec::new(),
        };
        if !bodiless {
            let length = heard
                .header("content-length")
                .map_or(0, |text| text.parse().expect("a number"));
            heard.body = vec![0; length];
            self.stream.read_exact(&mut heard.body).expect("read");
        }
        heard
    }

    pub fn ask(&mut self, method: &str, path: &str, headers: &str) -> Heard {
        self.say(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
        self.hear(method == "HEAD")
    }
}

#[test]
fn a_body_in_chunks_needs_no_length() {
    let registry = TestRegistry::start();
    let mut line = Line::to(&registry);
    let started = line.ask("POST", "/v2/a/b/blobs/uploads/", "Content-Length: 0\r\n");
    let location = started.path();
    line.say(&format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n7\r\n second\r\n0\r\n\r\n"
    ));
    let patched = line.hear(false);
    assert_eq!((patched.status, patched.header("range")), (202, Some("0-11")));
    let location = patched.path();
    let blob = digest(b"first second");
    let done = line.ask("PUT", &format!("{location}&digest={blob}"), "Content-Length: 0\r\n");
    assert_eq!(done.status, 201);
    // A client that waits for leave to send its body gets it.
    let started = line.ask("POST", "/v2/a/b/blobs/uploads/", "Content-Length: 0\r\n");
    let location = started.path();
    let blob = digest(b"waited");
    line.say(&format!(
        "PUT {location}&digest={blob} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n"
    ));
    assert_eq!(line.hear(true).status, 100);
    line.say("waited");
    assert_eq!(line.hear(false).status, 201);
}

#[test]
fn a_connection_goes_on_after_a_refusal() {
    let registry = TestRegistry::start();
    let blob = registry.push_blob("a/b", b"0123456789");
    let path = format!("/v2/a/b/blobs/{blob}");
    let mut line = Line::to(&registry);
    let refused = line.ask("GET", &path, "Range: bytes=10-\r\n");
    assert_eq!(
        (refused.status, refused.header("content-range")),
        (416, Some("bytes */10"))
    );
    let head = line.ask("HEAD", &path, "");
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    // Had the answer to HEAD a body, it would be taken for the next answer.
    let whole = line.ask("GET", &path, "");
    assert_eq!((whole.status, whole.body.as_slice()), (200, b"0123456789".as_slice()));
    let moved = line.ask("GET", "/v2", "");
    assert_eq!((moved.status, moved.header("location")), (301, Some("/v2/")));
    assert_eq!(
        line.ask("POST", "/v2/a/b/blobs/uploads", "Content-Length: 0\r\n")
            .status,
        301
    );
}

#[test]
fn a_client_that_accepts_nothing_in_particular_gets_what_is_there() {
    let registry = TestRegistry::start();
    let (bytes, _) = registry.push_image("a/b", "t", "x");
    let mut line = Line::to(&registry);
    for headers in ["", "Accept: */*\r\n", "Accept: text/html\r\n"] {
        let got = line.ask("GET", "/v2/a/b/manifests/t", headers);
        assert_eq!(
            (got.status, got.header("content-type")),
            (200, Some(OCI_MANIFEST)),
            "{headers}"
        );
        assert_eq!(got.body, bytes);
    }
}

#[test]
fn accept_may_come_in_several_lines_and_with_qualities() {
    const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    const SCHEMA2: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let registry = TestRegistry::start();
    let blob = registry.push_blob("a/b", b"{}");
    let image = json!({"schemaVersion": 2, "mediaType": SCHEMA2, "config": {"mediaType": "c", "digest": blob, "size": 2}, "layers": []}).to_string();
    assert_eq!(
        registry
            .put_manifest("a/b", "amd64", SCHEMA2, image.as_bytes())
            .status(),
        201
    );
    let list = json!({"schemaVersion": 2, "mediaType": LIST, "manifests": [
        {"mediaType": SCHEMA2, "digest": digest(image.as_bytes()), "size": image.len(), "platform": {"os": "linux", "architecture": "amd64"}},
    ]})
    .to_string();
    assert_eq!(registry.put_manifest("a/b", "t", LIST, list.as_bytes()).status(), 201);
    let mut line = Line::to(&registry);
    for (headers, expected) in [
        (format!("Accept: {SCHEMA2}\r\n"), SCHEMA2),
        (format!("Accept: {SCHEMA2}\r\nAccept: {LIST}\r\n"), LIST),
        (format!("Accept: {SCHEMA2};q=0.5, {LIST};q=0.9\r\n"), LIST),
        (format!("Accept: {SCHEMA2};q=0.5, */*\r\n"), SCHEMA2),
    ] {
        let got = line.ask("GET", "/v2/a/b/manifests/t", &headers);
        assert_eq!(
            (got.status, got.header("content-type")),
            (200, Some(expected)),
            "{headers}"
        );
    }
}

#[test]
fn uploads_tell_their_state_and_refuse_a_wrong_digest() {
    let registry = TestRegistry::start();
    let started = registry.send("POST", "/v2/a/b/blobs/uploads/");
    let location = header(&started, "location");
    // Nothing has come yet.
    let told = registry.get(&location);
    assert_eq!(
        (told.status().as_u16(), header(&told, "range")),
        (204, "0-0".to_owned())
    );
    registry
        .request("PATCH", &location)
        .body("12345")
        .send()
        .expect("answered");
    // Distribution tells the status without the signed state as well.
    let bare = location.split('?').next().expect("a path");
    let told = registry.get(bare);
    assert_eq!(
        (told.status().as_u16(), header(&told, "range")),
        (204, "0-4".to_owned())
    );
    assert_eq!(registry.send("PATCH", bare).status(), 404);
    assert_eq!(registry.get(&bare.replace("/a/b/", "/other/")).status(), 404);
    let wrong = registry
        .request("POST", &format!("/v2/a/b/blobs/uploads/?digest={}", digest(b"other")))
        .body("content")
        .send()
        .expect("answered");
    assert_error(wrong, 400, "DIGEST_INVALID");
    assert_eq!(
        registry.get(&format!("/v2/a/b/blobs/{}", digest(b"content"))).status(),
        404
    );
}

#[test]
fn manifests_have_limits_and_one_address() {
    let registry = TestRegistry::start();
    let (bytes, image) = registry.push_image("a/b", "t", "x");
    let first = registry.put_manifest("a/b", "t", OCI_MANIFEST, &bytes);
    let second = registry.put_manifest("a/b", "t", OCI_MANIFEST, &bytes);
    assert_eq!((first.status(), second.status()), (first.status(), first.status()));
    assert_eq!(header(&first, "location"), header(&second, "location"));
    let mut largest = String::from_utf8(bytes.clone()).expect("UTF-8");
    largest.push_str(&" ".repeat((4 << 20) - largest.len()));
    assert_eq!(
        registry
            .put_manifest("a/b", "large", OCI_MANIFEST, largest.as_bytes())
            .status(),
        201
    );
    largest.push(' ');
    assert_eq!(
        registry
            .put_manifest("a/b", "larger", OCI_MANIFEST, largest.as_bytes())
            .status(),
        413
    );
    let long = "t".repeat(129);
    let refused = registry.put_manifest("a/b", &long, OCI_MANIFEST, &bytes);
    assert!(matches!(refused.status().as_u16(), 400 | 404), "{}", refused.status());
    let tags: serde_json::Value = registry.get("/v2/a/b/tags/list").json().expect("JSON");
    assert_eq!(tags["tags"], json!(["large", "t"]));
    // Docker 29 pushes an image with its attestation.
    let (_, attestation) = registry.push_image("a/b", "att", "attestation");
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": image, "size": bytes.len(), "platform": {"architecture": "amd64", "os": "linux"}},
        {"mediaType": OCI_MANIFEST, "digest": attestation, "size": 1, "platform": {"architecture": "unknown", "os": "unknown"},
         "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image}},
    ]})
    .to_string();
    assert_eq!(
        registry
            .put_manifest("a/b", "attested", OCI_INDEX, index.as_bytes())
            .status(),
        201
    );
    let got: serde_json::Value = registry.get("/v2/a/b/manifests/attested").json().expect("JSON");
    let child = got["manifests"][0]["digest"].as_str().expect("text");
    assert_eq!(
        registry
            .get(&format!("/v2/a/b/manifests/{child}"))
            .bytes()
            .expect("read"),
        bytes
    );
}

#[test]
fn what_another_process_removed_is_gone_within_seconds() {
    /// How long what the server saw counts without a look.
    const TRUSTED: std::time::Duration = std::time::Duration::from_millis(5100);
    let registry = TestRegistry::start();
    let (_, image) = registry.push_image("a/b", "t", "x");
    let layer = digest(b"layer x");
    // Long enough for a cache to trust what it read.
    std::thread::sleep(std::time::Duration::from_millis(150));
    let paths = [
        format!("/v2/a/b/blobs/{layer}"),
        format!("/v2/a/b/manifests/{image}"),
        "/v2/a/b/manifests/t".to_owned(),
    ];
    for path in paths.iter().chain(&paths) {
        assert_eq!(registry.get(path).status(), 200);
        assert_eq!(registry.send("HEAD", path).status(), 200);
    }
    let tags = || -> serde_json::Value { registry.get("/v2/a/b/tags/list").json().expect("JSON") };
    assert_eq!(tags()["tags"], json!(["t"]));
    assert_eq!(tags()["tags"], json!(["t"]));
    let top = registry.directory.path().join("storage/docker/registry/v2");
    for blob in [&layer, &image] {
        let hex = &blob[7..];
        std::fs::remove_file(top.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]))).expect("removed");
    }
    std::thread::sleep(TRUSTED);
    for path in &paths {
        assert_eq!(registry.get(path).status(), 404, "{path}");
        assert_eq!(registry.send("HEAD", path).status(), 404, "{path}");
    }
    std::fs::remove_dir_all(top.join("repositories/a/b/_manifests/tags/t")).expect("removed");
    std::thread::sleep(TRUSTED);
    assert_eq!(tags()["tags"], json!([]));
    // And what it adds is there.
    let link = top.join("repositories/a/b/_manifests/tags/new/current");
    std::fs::create_dir_all(&link).expect("made");
    std::fs::write(link.join("link"), &image).expect("written");
    std::thread::sleep(TRUSTED);
    assert_eq!(tags()["tags"], json!(["new"]));
}

#[test]
fn old_uploads_are_purged() {
    let purging = |dry: bool| {
        format!(
            "log:\n  level: info\nstorage:\n  maintenance:\n    uploadpurging:\n      enabled: true\n      age: 168h\n      interval: 1s\n      dryrun: {dry}\n"
        )
    };
    for dry in [true, false] {
        let directory = temporary();
        let storage = directory.path().join("storage");
        let config = directory.path().join("config.yml");
        let text = purging(dry).replace(
            "storage:\n",
            &format!(
                "version: 0.1\nhttp:\n  addr: 127.0.0.1:0\nstorage:\n  filesystem:\n    rootdirectory: {}\n",
                storage.display()
            ),
        );
        std::fs::write(&config, text).expect("written");
        let uploads = storage.join("docker/registry/v2/repositories/a/b/_uploads");
        let days_ago = |days: u64| std::time::SystemTime::now() - std::time::Duration::from_hours(24 * days);
        for (id, days) in [("old", 8), ("fresh", 6)] {
            let upload = uploads.join(id);
            std::fs::create_dir_all(&upload).expect("made");
            let at: jiff::Timestamp = days_ago(days).try_into().expect("a time");
            std::fs::write(upload.join("startedat"), at.to_string()).expect("written");
            let data = std::fs::File::create(upload.join("data")).expect("made");
            data.set_modified(days_ago(days)).expect("set");
        }
        // A full disk left it without a time, and without anything else.
        let stub = uploads.join("stub");
        std::fs::create_dir_all(&stub).expect("made");
        let empty = std::fs::File::create(stub.join("startedat")).expect("made");
        empty.set_modified(days_ago(8)).expect("set");
        // What pushes that were killed left: a temporary name, and nothing else.
        let blobs = storage.join("docker/registry/v2/blobs/sha256/ab");
        for (first, days) in [("ab", 8), ("ac", 6)] {
            let blob = blobs.join(format!("{first}{}", "0".repeat(62)));
            std::fs::create_dir_all(&blob).expect("made");
            let left = std::fs::File::create(blob.join("data.0123456789abcdef.tmp")).expect("made");
            left.set_modified(days_ago(days)).expect("set");
            let directory = std::fs::File::open(&blob).expect("opened");
            directory.set_modified(days_ago(days)).expect("set");
        }
        let registry = TestRegistry::on(directory, &config, &[]);
        registry.wait_for_line(|line| (line["msg"] == "upload purge complete").then_some(()));
        assert_eq!(uploads.join("old").exists(), dry, "dry run: {dry}");
        assert_eq!(stub.exists(), dry, "dry run: {dry}");
        assert!(uploads.join("fresh").exists());
        let left = std::fs::read_dir(&blobs).expect("read").count();
        assert_eq!(left, if dry { 2 } else { 1 }, "dry run: {dry}");
    }
}

#[test]
fn the_storage_check_is_told_on_the_debug_listener() {
    let debug = crate::support::port();
    let more = format!(
        "  debug:\n    addr: 127.0.0.1:{debug}\nhealth:\n  storagedriver:\n    enabled: true\n    interval: 20ms\n    threshold: 2\n"
    );
    let registry = TestRegistry::with(temporary(), &more, &[]);
    let ask = || registry.get(&format!("http://127.0.0.1:{debug}/debug/health"));
    assert_eq!(ask().status(), 200);
    let storage = registry.directory.path().join("storage");
    let aside = registry.directory.path().join("aside");
    std::fs::rename(&storage, &aside).expect("moved");
    let told = wait("it is told", || Some(ask()).filter(|answer| answer.status() == 503));
    let body: serde_json::Value = told.json().expect("JSON");
    assert!(body["storagedriver_filesystem"].is_string(), "{body}");
    assert_eq!(
        registry
            .send("POST", &format!("http://127.0.0.1:{debug}/debug/health"))
            .status(),
        404
    );
    std::fs::rename(&aside, &storage).expect("moved back");
    wait("it recovers", || (ask().status() == 200).then_some(()));
}

#[test]
fn short_forms_and_numbers_are_understood() {
    let directory = temporary();
    let config = directory.path().join("config.yml");
    let htpasswd = directory.path().join("htpasswd");
    std::fs::write(&htpasswd, format!("ana:{}\n", bcrypt::hash("x", 4).expect("hashed"))).expect("written");
    std::fs::write(
        &config,
        "version: 0.1\nstorage: inmemory\nhttp: {addr: 127.0.0.1:0, secret: 123456}\nrate_limiter: {enabled: true}\n",
    )
    .expect("written");
    let env = [
        ("REGISTRY_AUTH", "htpasswd"),
        ("REGISTRY_AUTH_HTPASSWD_REALM", "Registry"),
        ("REGISTRY_AUTH_HTPASSWD_PATH", htpasswd.to_str().expect("UTF-8")),
    ];
    let registry = TestRegistry::on(directory, &config, &env);
    assert_eq!(registry.get("/v2/").status(), 401);
    let request = registry.request("GET", "/v2/").basic_auth("ana", Some("x"));
    assert_eq!(request.send().expect("answered").status(), 200);
    let lost = registry.get("/gitlab/v1/");
    assert_eq!(lost.status(), 404);
    assert!(lost.headers().contains_key("gitlab-container-registry-version"));
}
