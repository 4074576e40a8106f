//! The front before another registry: one address for it and its tokens.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::support::registry::{digest, header};
use crate::support::{KDK, Output, TestRoot, may_skip, port, temporary, wait};

/// Starts a front on a free port; returns it with its address.
struct Front {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Front {
    fn start(upstream: u16, more: &str) -> Self {
        let directory = temporary();
        let own = port();
        let config = directory.path().join("front.yml");
        let text = format!("listen: 127.0.0.1:{own}\nupstream: 127.0.0.1:{upstream}\n{more}");
        std::fs::write(&config, text).expect("written");
        let child = Command::new(KDK)
            .args(["front", "serve"])
            .arg(&config)
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        let address = format!("127.0.0.1:{own}");
        wait("the front listens", || TcpStream::connect(&address).ok());
        Self {
            child,
            address,
            _directory: directory,
        }
    }

    /// Sends a request as it is written; returns all of the answer.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that answers every request the same, and tells what came.
fn upstream(answer: &'static str) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let (sender, heads) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            while !text.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(read) if read > 0 => text.extend_from_slice(&piece[..read]),
                    _ => break,
                }
            }
            if text.is_empty() {
                continue;
            }
            let _ = stream.write_all(answer.as_bytes());
            let _ = sender.send(String::from_utf8_lossy(&text).to_lowercase());
        }
    });
    (port, heads)
}

const CHALLENGE: &str = "HTTP/1.1 401 Unauthorized\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nWww-Authenticate: Bearer realm=\"http://127.0.0.1:3000/jwt/auth\",service=\"s\"\r\nContent-Length: 0\r\n\r\n";

#[test]
fn only_the_front_says_how_a_client_came() {
    let (behind, heads) = upstream(CHALLENGE);
    let front = Front::start(behind, "token_service: http://127.0.0.1:1/jwt/auth\n");
    let answer = front.raw(
        "GET /v2/?a=b HTTP/1.1\r\nHost: registry.test:5000\r\nX-Forwarded-For: 203.0.113.9, 192.0.2.4\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /evil\r\nForwarded: for=203.0.113.9;host=outer.test\r\nX-Real-IP: 203.0.113.9\r\nTE: trailers\r\nX-Hop: 1\r\nConnection: close, X-Hop\r\nExpect: 100-continue\r\nAuthorization: Bearer x\r\n\r\n",
    );
    let head = heads.recv_timeout(Duration::from_secs(10)).expect("it came");
    let mut lines: Vec<&str> = head.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "get /v2/?a=b http/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "authorization: bearer x",
            "host: registry.test:5000",
            // A proxy on this machine is believed; what is set is one value each.
            "x-forwarded-for: 192.0.2.4",
            "x-forwarded-host: outer.test",
            "x-forwarded-proto: http",
        ]
    );
    let answer = answer.to_lowercase();
    assert!(
        answer.contains("realm=\"http://outer.test/jwt/auth\",service=\"s\""),
        "{answer}"
    );
    assert!(answer.contains("cache-control: no-store"), "{answer}");
    assert!(!answer.contains("x-mine") && !answer.contains("keep-alive"), "{answer}");
    // A host that is none is no request.
    for host in ["evil.test/x", "user@evil.test", "a\r\nHost: b"] {
        let answer = front.raw(&format!(
            "GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host}: {answer}");
    }
    // From elsewhere nobody is believed.
    let far = Front::start(
        behind,
        "token_service: http://127.0.0.1:1/jwt/auth\ntrusted_proxies: [198.51.100.0/24]\nexternal_url: https://r.example.com/\n",
    );
    let answer = far.raw("GET /v2/ HTTP/1.1\r\nHost: a:1\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n");
    assert!(answer.contains("realm=\"https://r.example.com/jwt/auth\""), "{answer}");
    let head = heads.recv_timeout(Duration::from_secs(10)).expect("it came");
    for line in ["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http"] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert!(!head.contains("203.0.113.9"), "{head}");
}

/// A client that stops in the middle of what it announced is not waited for for ever.
#[test]
#[ignore = "a minute of waiting: run by make test-clients"]
fn a_body_that_does_not_come_is_not_waited_for() {
    // A registry that answers only what came whole.
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        }
    });
    let front = Front::start(port, "");
    let mut stream = TcpStream::connect(&front.address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_mins(2))).expect("set");
    let head = "PUT /v2/a/blobs/uploads/1?digest=x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).expect("sent");
    let began = std::time::Instant::now();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("too slowly"), "{answer}");
    let waited = began.elapsed().as_secs();
    assert!((50..90).contains(&waited), "{waited} seconds");
}

#[test]
fn a_front_that_cannot_serve_says_why() {
    let serve = |text: &str| {
        let directory = temporary();
        let config = directory.path().join("front.yml");
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new("timeout");
        command.args(["20", KDK, "front", "serve"]).arg(&config);
        Output::of(&mut command).fails(1)
    };
    let own = port();
    let listen = format!("listen: 127.0.0.1:{own}\nupstream: 127.0.0.1:1\n");
    let itself = serve(&format!("{listen}token_service: http://127.0.0.1:{own}/jwt/auth\n"));
    assert!(itself.contains("is this server itself"), "{itself}");
    for (text, part) in [
        (
            format!("{listen}certificate: /nonexistent\n"),
            "certificate and key go together",
        ),
        (format!("{listen}upstraem: x\n"), "upstraem"),
        (format!("{listen}trusted_proxies: [somewhere]\n"), "neither an address"),
        (format!("{listen}token_service: ftp://x/\n"), "is no URL"),
        ("listen: nowhere\nupstream: x\n".to_owned(), "host:port"),
    ] {
        let refused = serve(&text);
        assert!(refused.contains(part), "{part}: {refused}");
    }
}

/// A root whose registry is Debian's docker-registry, behind a front.
fn root_with(more: &str) -> Option<TestRoot> {
    let Ok(binary) = which::which("docker-registry") else {
        assert!(may_skip(), "docker-registry is not installed");
        return None;
    };
    let root = TestRoot::with_registry(&format!("  bin: {}\n{more}", binary.display()));
    root.up();
    Some(root)
}

fn client(root: &TestRoot) -> reqwest::blocking::Client {
    let builder = reqwest::blocking::Client::builder();
    let certificate = std::fs::read(root.join("registry_host.crt"));
    match certificate {
        Ok(pem) => builder
            .tls_certs_only([reqwest::Certificate::from_pem(&pem).expect("a certificate")])
            .build(),
        Err(_) => builder.build(),
    }
    .expect("a client")
}

#[test]
fn a_go_registry_and_its_tokens_have_one_address() {
    for (more, scheme) in [("", "http"), ("  self_signed: true\n", "https")] {
        let Some(root) = root_with(more) else { return };
        let client = client(&root);
        let base = format!("{scheme}://127.0.0.1:{}", root.registry_port);
        let challenge = client.get(format!("{base}/v2/")).send().expect("answered");
        assert_eq!(challenge.status(), 401);
        let realm = header(&challenge, "www-authenticate");
        assert!(
            realm.starts_with(&format!("Bearer realm=\"{base}/jwt/auth\"")),
            "{realm}"
        );
        let scope = "repository:a/b:pull,push";
        let answer: Value = client
            .get(format!("{base}/jwt/auth?service=container_registry&scope={scope}"))
            .basic_auth("x", Some(root.token()))
            .send()
            .expect("answered")
            .json()
            .expect("JSON");
        let token = answer["token"].as_str().expect("a token");
        // A layer in pieces, whose Locations lead through the front.
        let content = vec![7_u8; 3 << 20];
        let started = client
            .post(format!("{base}/v2/a/b/blobs/uploads/"))
            .bearer_auth(token)
            .send()
            .expect("answered");
        assert_eq!(started.status(), 202);
        let location = header(&started, "location");
        assert!(location.starts_with(&base), "{location}");
        let patched = client
            .patch(&location)
            .bearer_auth(token)
            .body(content.clone())
            .send()
            .expect("answered");
        assert_eq!(patched.status(), 202);
        let location = header(&patched, "location");
        let done = client
            .put(format!("{location}&digest={}", digest(&content)))
            .bearer_auth(token)
            .send()
            .expect("answered");
        assert_eq!(done.status(), 201);
        let blob = format!("{base}/v2/a/b/blobs/{}", digest(&content));
        let pulled = client.get(&blob).bearer_auth(token).send().expect("answered");
        assert_eq!(pulled.content_length(), Some(content.len() as u64));
        assert!(pulled.bytes().expect("read") == content);
        let part = client
            .get(&blob)
            .bearer_auth(token)
            .header("range", "bytes=5-9")
            .send()
            .expect("answered");
        assert_eq!((part.status().as_u16(), part.bytes().expect("read").len()), (206, 5));
        let looked = client.head(&blob).bearer_auth(token).send().expect("answered");
        assert_eq!(header(&looked, "content-length"), content.len().to_string());
        // The registry itself is on loopback, and the front goes on without it.
        let file: serde_yaml::Value = serde_yaml::from_str(&root.read("registry/config.yml")).expect("YAML");
        let behind = file["http"]["addr"].as_str().expect("an address").to_owned();
        assert!(behind.starts_with("127.0.0.1:") && file["http"].get("tls").is_none());
        let front = root.pid("registry-front");
        root.kdk(&["restart", "registry"]).ok();
        assert_eq!(root.pid("registry-front"), front);
        root.kdk(&["stop", "registry"]).ok();
        let away = client.get(&blob).bearer_auth(token).send().expect("answered");
        assert_eq!(away.status(), 503);
        assert_eq!(header(&away, "retry-after"), "2");
        let said = root.kdk(&["restart", "registry-front"]);
        assert!(
            said.stderr.contains("answers 503 Service Unavailable") && !said.stderr.contains("is available"),
            "{said:?}"
        );
        root.kdk(&["start", "registry"]).ok();
        assert_eq!(
            client.get(&blob).bearer_auth(token).send().expect("answered").status(),
            200
        );
        // Without the token service the front says so.
        assert_eq!(root.service("registry-front")["health"], "ok");
        root.kdk(&["stop", "rails"]).ok();
        assert_eq!(root.service("registry-front")["health"], "no logins");
        let status = root.kdk(&["status"]);
        assert!(
            status.stderr.contains("registry-front: nobody can log in"),
            "{status:?}"
        );
        // The embedded registry takes over the address, and the images.
        root.kdk(&["config", "unset", "registry.bin"]).ok();
        let changed = root.kdk(&["reconfigure"]);
        assert!(changed.stderr.contains("stopped registry-front"), "{changed:?}");
        changed.ok();
        root.kdk(&["start"]).ok();
        assert_eq!(
            client.get(&blob).bearer_auth(token).send().expect("answered").status(),
            200
        );
        assert!(
            root.status()
                .as_array()
                .expect("a list")
                .iter()
                .all(|job| job["name"] != "registry-front")
        );
    }
}

#[test]
fn without_a_front_the_registry_stands_alone() {
    let Some(root) = root_with("  front: false\n") else {
        return;
    };
    let challenge = client(&root).get(root.registry_url("/v2/")).send().expect("answered");
    let realm = header(&challenge, "www-authenticate");
    assert!(
        realm.contains(&format!("127.0.0.1:{}/jwt/auth", root.rails_port)),
        "{realm}"
    );
    assert!(
        root.status()
            .as_array()
            .expect("a list")
            .iter()
            .all(|job| job["name"] != "registry-front")
    );
    let said = root.kdk(&["reconfigure"]);
    assert!(
        said.stderr.contains("crane") && said.stderr.contains("registry.front"),
        "{said:?}"
    );
}

#[test]
fn a_go_registry_tells_rails_of_pushes_over_https() {
    let Ok(binary) = which::which("docker-registry") else {
        assert!(may_skip(), "docker-registry is not installed");
        return;
    };
    let root = TestRoot::new();
    root.write(
        "kdk.yml",
        &format!(
            "port: {}\nhttps:\n  enabled: true\nregistry:\n  enabled: true\n  port: {}\n  bin: {}\n  notifications_enabled: true\n",
            root.rails_port,
            root.registry_port,
            binary.display()
        ),
    );
    root.up();
    let token = root
        .kdk(&["registry", "token", "--scope", "repository:a/b:pull,push"])
        .ok();
    // Tokens name their key in both ways that registries know.
    let head = token.split('.').next().expect("a header");
    let head: Value =
        serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(head.as_bytes()).expect("base64")).expect("JSON");
    assert!(head["kid"].as_str().expect("an id").contains(':'), "{head}");
    let pem = root.read("localhost.crt");
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    assert_eq!(head["x5c"], serde_json::json!([der]));
    let send = |method: &str, url: &str, kind: &str, body: &str| {
        let request = reqwest::blocking::Client::new().request(method.parse().expect("a method"), url);
        let request = request.header("content-type", kind).bearer_auth(token.trim());
        request.body(body.to_owned()).send().expect("answered")
    };
    let blob = digest(b"{}");
    let started = send("POST", &root.registry_url("/v2/a/b/blobs/uploads/"), "text/plain", "");
    let location = format!("{}&digest={blob}", header(&started, "location"));
    assert_eq!(send("PUT", &location, "application/octet-stream", "{}").status(), 201);
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": kind,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": blob, "size": 2},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": blob, "size": 2}]});
    let pushed = send(
        "PUT",
        &root.registry_url("/v2/a/b/manifests/t"),
        kind,
        &manifest.to_string(),
    );
    assert_eq!(pushed.status(), 201, "{:?}", pushed.text());
    wait("the event arrives", || {
        let log = root.kdk(&["tail", "rails", "--no-follow", "-n", "100"]).ok();
        (log.contains("registry event") && log.contains("a/b")).then_some(())
    });
}
