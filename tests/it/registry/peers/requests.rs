//! Requests and the connections that they come by.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::registry::api::wire::Line;
use crate::support::registry::{OCI_INDEX, assert_error, digest, header};
use crate::support::{TestRegistry, temporary};

/// Takes the place of a file, and cannot be read by anybody, root included.
fn make_unreadable(path: &std::path::Path) {
    std::fs::remove_file(path).expect("removed");
    symlink(path, path).expect("linked to itself");
}

fn blob_path(registry: &TestRegistry, digest: &str) -> std::path::PathBuf {
    let hex = &digest[7..];
    let store = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/blobs/sha256");
    store.join(&hex[..2]).join(hex).join("data")
}

/// That it cannot be read does not mean that it is not there.
#[test]
fn what_cannot_be_read_is_not_called_absent() {
    let registry = TestRegistry::start();
    let blob = registry.push_blob("a/b", b"content");
    let started = registry.send("POST", "/v2/a/b/blobs/uploads/");
    let (id, location) = (header(&started, "docker-upload-uuid"), header(&started, "location"));
    let patch = registry.request("PATCH", &location).body(vec![7; 600 << 10]).send();
    assert_eq!(patch.expect("answered").status(), 202);
    let registry = registry.kill_and_restart();
    make_unreadable(&blob_path(&registry, &blob));
    let data = format!("storage/docker/registry/v2/repositories/a/b/_uploads/{id}/data");
    make_unreadable(&registry.directory.path().join(data));
    for path in [format!("/v2/a/b/blobs/{blob}"), format!("/v2/a/b/blobs/uploads/{id}")] {
        assert_error(registry.get(&path), 500, "UNKNOWN");
    }
}

/// A manifest that rotted is missed by whoever wants it, and told of.
#[test]
fn a_manifest_that_rotted_is_told_of() {
    let registry = TestRegistry::start();
    let (_, image) = registry.push_image("a/b", "t", "x");
    let registry = registry.kill_and_restart();
    let path = blob_path(&registry, &image);
    let mut content = std::fs::read(&path).expect("read");
    content[5] ^= 1;
    std::fs::write(&path, content).expect("written");
    assert_error(registry.get("/v2/a/b/manifests/t"), 404, "MANIFEST_UNKNOWN");
    registry.wait_for_line(|line| {
        let is_it = line["digest"] == image.as_str() && line["level"] == "error";
        is_it.then_some(())
    });
}

fn raw(registry: &TestRegistry, request: &str) -> String {
    let mut stream = TcpStream::connect(&registry.address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn what_go_servers_put_up_with_is_put_up_with() {
    let registry = TestRegistry::start();
    let ask = |path: &str, headers: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        raw(&registry, &request)
    };
    let many: String = (0..500).map(|number| format!("X-Header-{number}: value\r\n")).collect();
    assert!(ask("/v2/", &many).starts_with("HTTP/1.1 200 "));
    let more: String = (0..2000)
        .map(|number| format!("X-Header-{number}: value\r\n"))
        .collect();
    assert!(ask("/v2/", &more).starts_with("HTTP/1.1 431 "));
    for (path, expected) in [("//v2/", "/v2/"), ("/v2//a/b///tags/list?n=1", "/v2/a/b/tags/list?n=1")] {
        let answer = ask(path, "").to_lowercase();
        assert!(answer.starts_with("http/1.1 301 "), "{path}: {answer}");
        assert!(
            answer.contains(&format!("location: {expected}\r\n")),
            "{path}: {answer}"
        );
    }
    assert!(ask("//evil.test/x", "").starts_with("HTTP/1.1 404 "));
}

/// Starts a registry that may have so many descriptors open.
fn limited(limit: &str) -> TestRegistry {
    let mut first = TestRegistry::start();
    first.stop();
    let directory = std::mem::replace(&mut first.directory, temporary());
    let config = directory.path().join("config.yml");
    TestRegistry::under(&format!("ulimit {limit}"), directory, &config)
}

/// Those who only hold connections open keep nobody from pushing.
#[test]
fn idle_connections_make_room_for_requests() {
    const IDLE: usize = 400;
    let registry = limited("-n 256");
    let hold = |count: usize| -> Vec<TcpStream> {
        (0..count)
            .map(|number| {
                let mut stream = TcpStream::connect(&registry.address).expect("connected");
                // Some have said something before.
                if number % 2 == 0 {
                    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
                }
                stream
            })
            .collect()
    };
    let mut idle = hold(IDLE);
    registry.push_image("a/b", "t", "x");
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
    // Those went that had been idle for longest.
    let is_open = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        ended.is_err_and(|error| {
            matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            )
        })
    };
    assert!(!is_open(&mut idle[1]) && is_open(&mut idle[IDLE - 1]));
    drop(idle);
    // Where the system allows more, more are taken.
    let registry = limited("-Sn 256");
    // Who answers has taken all there is.
    assert_eq!(registry.get("/v2/").status(), 200);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", registry.pid()));
    if let Ok(limits) = limits {
        let line = limits.lines().find(|line| line.starts_with("Max open files"));
        let numbers: Vec<&str> = line.expect("a limit").split_whitespace().skip(3).take(2).collect();
        assert_eq!(numbers[0], numbers[1], "{limits}");
    }
}

/// A password takes a core for a while: others wait, and not without end.
#[test]
fn passwords_wait_for_their_turn_but_not_without_end() {
    let directory = temporary();
    let path = directory.path().join("htpasswd");
    let hash = bcrypt::hash("secret", 9).expect("hashed");
    std::fs::write(&path, format!("ana:{hash}\n")).expect("written");
    let more = format!("auth:\n  htpasswd:\n    realm: r\n    path: {}\n", path.display());
    let registry = TestRegistry::with(directory, &more, &[]);
    let ask = |password: &str| {
        let request = registry.request("GET", "/v2/_catalog");
        request.basic_auth("ana", Some(password)).send().expect("answered")
    };
    let answers: Vec<(u16, Option<String>)> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..150)
            .map(|number| {
                let ask = &ask;
                scope.spawn(move || ask(&format!("wrong {number}")))
            })
            .collect();
        let answers = asking.into_iter().map(|asking| asking.join().expect("no panic"));
        let later = |answer: &reqwest::blocking::Response| {
            let later = answer.headers().get("retry-after")?;
            Some(later.to_str().expect("text").to_owned())
        };
        answers
            .map(|answer| (answer.status().as_u16(), later(&answer)))
            .collect()
    });
    let busy = answers.iter().filter(|(status, _)| *status == 429).count();
    let refused = answers.iter().filter(|(status, _)| *status == 401).count();
    assert_eq!(busy + refused, 150, "{answers:?}");
    assert!(busy >= 20 && refused >= 60, "{busy} were sent away, {refused} refused");
    assert!(
        answers
            .iter()
            .all(|(status, later)| (*status == 429) == (later.as_deref() == Some("1")))
    );
    assert_eq!(ask("secret").status(), 200);
    // Who goes away frees the place.
    let credentials = data_encoding::BASE64.encode(b"ana:gone");
    let request = format!("GET /v2/_catalog HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n\r\n");
    for _ in 0..3 {
        let gone: Vec<TcpStream> = (0..60)
            .map(|_| {
                let mut stream = TcpStream::connect(&registry.address).expect("connected");
                stream.write_all(request.as_bytes()).expect("sent");
                stream
            })
            .collect();
        drop(gone);
        crate::support::wait("there is room again", || (ask("secret").status() == 200).then_some(()));
    }
}

/// A request that changes something goes on when its client resets it, and
/// still counts for the connection: else a client could have any number.
#[test]
fn requests_that_are_reset_count_until_they_end() {
    let release = temporary();
    let hold = release.path().join("go");
    let plan = format!("storage:get=hold:{}@1+", hold.display());
    let registry = TestRegistry::with(temporary(), "  h2c:\n    enabled: true\n", &[("KDK_FAILPOINTS", &plan)]);
    let mut stream = TcpStream::connect(&registry.address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
    let frame = |kind: u8, flags: u8, id: u32, content: &[u8]| {
        let length = u32::try_from(content.len()).expect("small").to_be_bytes();
        [&length[1..], &[kind, flags], &id.to_be_bytes(), content].concat()
    };
    // Literals without Huffman's code (RFC 7541, section 6.2.2).
    let literal = |index: u8, text: &str| {
        let length = u8::try_from(text.len()).expect("short");
        [&[index, length], text.as_bytes()].concat()
    };
    let ask = |id: u32, method: &str, path: &str| {
        let head = [&literal(2, method)[..], &literal(4, path), &[0x86], &literal(1, "x")].concat();
        frame(1, 0x4 | 0x1, id, &head)
    };
    stream.write_all(&frame(4, 0, 0, &[])).expect("sent");
    for number in 0..250 {
        let id = 2 * number + 1;
        stream
            .write_all(&ask(id, "DELETE", "/v2/a/b/manifests/t"))
            .expect("sent");
        std::thread::sleep(Duration::from_millis(4));
        stream.write_all(&frame(3, 0, id, &8_u32.to_be_bytes())).expect("sent");
    }
    stream.write_all(&ask(501, "GET", "/v2/")).expect("sent");
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    let told = |heard: &[u8]| String::from_utf8_lossy(heard).contains("too many requests of this connection");
    while !told(&heard) {
        let read = stream.read(&mut piece).expect("it is told");
        assert_ne!(
            read,
            0,
            "the connection was closed: {:?}",
            String::from_utf8_lossy(&heard)
        );
        heard.extend_from_slice(&piece[..read]);
    }
    // Others are served meanwhile.
    assert_eq!(registry.get("/v2/").status(), 200);
    std::fs::write(&hold, "").expect("released");
}

/// What was deleted with a manifest is told, too, and what a pulled one names.
#[test]
fn events_tell_of_tags_that_go_and_of_what_is_pulled() {
    let (port, requests) = crate::registry::settings::receiver(vec![200; 40]);
    let more = format!(
        "notifications:\n  events:\n    includereferences: true\n  endpoints:\n    - name: listener\n      url: http://127.0.0.1:{port}/\n      timeout: 2s\n"
    );
    let registry = TestRegistry::with(temporary(), &more, &[]);
    let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    let own = digest(index);
    for tag in ["one", "two"] {
        assert_eq!(registry.put_manifest("a/b", tag, OCI_INDEX, index).status(), 201);
    }
    let (_, image) = registry.push_image("a/b", "t", "x");
    assert_eq!(registry.get(&format!("/v2/a/b/manifests/{image}")).status(), 200);
    assert_eq!(
        registry.send("DELETE", &format!("/v2/a/b/manifests/{own}")).status(),
        202
    );
    let mut seen = Vec::new();
    loop {
        let (_, body) = requests.recv_timeout(Duration::from_secs(20)).expect("an event");
        let envelope: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let event = envelope["events"][0].clone();
        let is_last = event["action"] == "delete" && event["target"]["digest"] == own.as_str();
        seen.push(event);
        if is_last {
            break;
        }
    }
    let deleted: Vec<&str> = seen
        .iter()
        .filter(|event| event["action"] == "delete")
        .filter_map(|event| event["target"]["tag"].as_str())
        .collect();
    assert_eq!(deleted, ["one", "two"]);
    let pulled = seen.iter().find(|event| event["action"] == "pull").expect("a pull");
    let references = pulled["target"]["references"].as_array().expect("a list");
    assert_eq!(references.len(), 2, "{pulled}");
}

/// Every method is answered alike where there is nothing, and HEAD wherever GET is.
#[test]
fn nothing_is_there_for_any_method() {
    let registry = TestRegistry::start();
    let version = registry.send("HEAD", "/v2/");
    assert_eq!(version.status(), 200);
    assert_eq!(header(&version, "docker-distribution-api-version"), "registry/2.0");
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let answer = registry.send(method, "/v2/nothing");
        assert_eq!(answer.status(), 404, "{method}");
        assert!(answer.headers().get("allow").is_none(), "{method}");
        assert_eq!(header(&answer, "docker-distribution-api-version"), "registry/2.0");
        let expected = if method == "HEAD" { "" } else { "404 page not found\n" };
        assert_eq!(answer.text().expect("text"), expected, "{method}");
    }
}

/// An answer to HEAD has GET's length and no body; it is one line of the log, whatever is missing.
#[test]
fn a_head_is_one_line_of_the_log() {
    let registry = TestRegistry::start();
    let (manifest, _) = registry.push_image("a/b", "t", "x");
    let absent = format!("/v2/a/b/blobs/{}", digest(b"absent"));
    let asked = [
        ("HEAD", "/v2/a/b/manifests/t"),
        ("HEAD", absent.as_str()),
        ("GET", absent.as_str()),
        ("GET", "/v2/"),
    ];
    let lengths: Vec<String> = asked
        .iter()
        .map(|(method, path)| header(&registry.send(method, path), "content-length"))
        .collect();
    assert_eq!(lengths[0], manifest.len().to_string());
    assert_eq!(lengths[1], lengths[2]);
    let mut lines = Vec::new();
    registry.wait_for_line(|line| {
        let is_quiet = line["level"] == "info" || lines.is_empty();
        assert!(is_quiet, "{line}");
        if line["msg"] == "access" {
            let text = |name: &str| line[name].as_str().expect("text").to_owned();
            lines.push((
                text("method"),
                text("uri"),
                line["written_bytes"].as_u64().expect("a number"),
            ));
        }
        lines.last().is_some_and(|(_, uri, _)| uri == "/v2/").then_some(())
    });
    let of_these = &lines[lines.len() - asked.len()..];
    for ((method, path), (logged, uri, written)) in asked.iter().zip(of_these) {
        assert_eq!((*method, *path), (logged.as_str(), uri.as_str()));
        assert_eq!(*written == 0, *method == "HEAD", "{uri}");
    }
    let of_absent = lines.iter().filter(|(_, uri, _)| *uri == absent).count();
    assert_eq!(of_absent, 2);
}

/// A fault of this program costs one request, and neither its connection nor a word.
#[test]
fn a_panic_costs_one_request() {
    // The third time is the second for whom the first has not come to.
    let plan = [("KDK_FAILPOINTS", "http:answer=panic@1;http:answer=panic@2")];
    let registry = TestRegistry::with(temporary(), "", &plan);
    let mut line = Line::to(&registry);
    let put = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let mut statuses = Vec::new();
    for (method, path, headers) in [
        ("GET", "/v2/a/b/tags/list", "\r\n"),
        ("GET", "/v2/", "\r\n"),
        ("PUT", "/v2/a/b/manifests/t", put),
        ("GET", "/v2/", "\r\n"),
    ] {
        line.say(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}"));
        let heard = line.hear(false);
        let is_api = heard.header("docker-distribution-api-version").is_some();
        statuses.push((heard.status, is_api));
    }
    assert_eq!(statuses, [(500, true), (200, true), (500, true), (200, true)]);
    let (mut told, mut logged) = (0, Vec::new());
    registry.wait_for_line(|line| {
        if line["msg"] == "a bug: something panicked" {
            assert!(
                line["location"].as_str().is_some_and(|place| place.contains(".rs:")),
                "{line}"
            );
            told += 1;
        }
        if line["msg"] == "access" {
            logged.push(line["status"].as_u64().expect("a number"));
        }
        (logged.len() == 4).then_some(())
    });
    assert_eq!((told, logged.as_slice()), (2, [500, 200, 500, 200].as_slice()));
}

/// What asks for no part that there is gets the whole, or is told the size.
#[test]
fn ranges_that_fit_nothing_are_told_the_size() {
    let registry = TestRegistry::start();
    let ask = |method: &str, blob: &str, range: &str| {
        let request = registry.request(method, &format!("/v2/a/b/blobs/{blob}"));
        let answer = request.header("range", range).send().expect("answered");
        let range = answer
            .headers()
            .get("content-range")
            .map(|value| value.to_str().expect("text").to_owned());
        (answer.status().as_u16(), range)
    };
    let empty = registry.push_blob("a/b", b"");
    for range in ["bytes=0-0", "bytes=0-", "bytes=-5"] {
        assert_eq!(
            ask("GET", &empty, range),
            (416, Some("bytes */0".to_owned())),
            "{range}"
        );
    }
    let blob = registry.push_blob("a/b", b"0123456789");
    for range in ["items=0-1", "bytes=x", "bytes=9-5", "bytes"] {
        assert_eq!(ask("GET", &blob, range), (200, None), "{range}");
        assert_eq!(ask("GET", &empty, range), (200, None), "{range}");
    }
    assert_eq!(ask("GET", &blob, "bytes=10-"), (416, Some("bytes */10".to_owned())));
    // As Go's servers: HEAD says what GET would.
    assert_eq!(ask("HEAD", &blob, "bytes=2-3"), (206, Some("bytes 2-3/10".to_owned())));
}

/// Who says nothing keeps nobody waiting, and goes in time; and a moment without descriptors passes.
#[test]
fn silence_and_a_lack_of_descriptors_pass() {
    let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
    let directory = temporary();
    let (pem, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
    std::fs::write(&pem, certificate.cert.pem()).expect("written");
    std::fs::write(&key, certificate.signing_key.serialize_pem()).expect("written");
    let more = format!(
        "  tls:\n    certificate: {}\n    key: {}\n",
        pem.display(),
        key.display()
    );
    let registry = TestRegistry::with(directory, &more, &[]);
    let client = reqwest::blocking::Client::builder()
        .danger_accept_invalid_certs(true)
        .pool_max_idle_per_host(0)
        .build()
        .expect("a client");
    let ask = || client.get(format!("https://{}/v2/", registry.address)).send();
    let mut silent = TcpStream::connect(&registry.address).expect("connected");
    let mut begun = TcpStream::connect(&registry.address).expect("connected");
    begun.write_all(&[0x16]).expect("sent");
    assert_eq!(ask().expect("answered").status(), 200);
    let limit = |soft: &str| {
        let pid = registry.pid().to_string();
        let limited = std::process::Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={soft}:")])
            .status();
        assert!(limited.expect("run").success());
    };
    limit("10");
    let waiting = std::thread::scope(|scope| {
        let asked = scope.spawn(ask);
        std::thread::sleep(Duration::from_millis(300));
        assert!(
            !asked.is_finished(),
            "it was taken although there is no descriptor left"
        );
        limit("4096");
        asked.join().expect("no panic")
    });
    assert_eq!(waiting.expect("answered").status(), 200);
    for stream in [&mut silent, &mut begun] {
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("set");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the end comes");
    }
}

/// Who ends after a letter or two is let go at once, also where those might begin HTTP/2.
#[test]
fn who_ends_early_is_let_go() {
    let registry = TestRegistry::with(temporary(), "  h2c:\n    enabled: true\n", &[]);
    for text in ["P", "PRI * HT", "G", "GET /v2/ HTTP/1.1\r\n"] {
        let mut stream = TcpStream::connect(&registry.address).expect("connected");
        stream.write_all(text.as_bytes()).expect("sent");
        // It has come, and the end comes by itself.
        std::thread::sleep(Duration::from_millis(50));
        stream.shutdown(std::net::Shutdown::Write).expect("ended");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the end comes");
    }
}
