//! What an administrator sees of a registry, and says to it: log lines,
//! numbers, notifications that do not arrive, signals.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::settings::receiver;
use crate::support::registry::{OCI_MANIFEST, assert_error, header};
use crate::support::{TestRegistry, temporary, wait};

fn endpoint(port: u16, more: &str) -> String {
    format!(
        "notifications:\n  endpoints:\n    - name: listener\n      url: http://user:hidden@127.0.0.1:{port}/events\n      timeout: 2s\n      backoff: 20ms\n{more}"
    )
}

/// Returns the first line with a message that begins like this.
#[track_caller]
fn line(registry: &TestRegistry, message: &str) -> Value {
    registry.wait_for_line(|line| {
        let found = line["msg"].as_str()?.starts_with(message);
        found.then(|| line.clone())
    })
}

fn send(registry: &TestRegistry, signal: Signal) {
    kill(Pid::from_raw(registry.pid()), signal).expect("sent");
}

#[test]
fn lines_of_a_request_say_whose_it_is() {
    let directory = temporary();
    let users = directory.path().join("users");
    let hash = bcrypt::hash("secret", 4).expect("hashed");
    std::fs::write(&users, format!("anna:{hash}\n")).expect("written");
    let more = format!("auth:\n  htpasswd:\n    realm: r\n    path: {}\n", users.display());
    let registry = TestRegistry::with(directory, &more, &[]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let ask = |password: &str| {
        registry
            .request("GET", "/v2/a/b/tags/list")
            .basic_auth("anna", Some(password))
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
            .header("x-forwarded-for", "203.0.113.7")
            .send()
            .expect("answered")
    };
    assert_eq!(ask("wrong").status(), 401);
    let refused = line(&registry, "error authorizing context");
    for (key, value) in [
        ("method", "GET"),
        ("uri", "/v2/a/b/tags/list"),
        ("remote_ip", "203.0.113.7"),
        ("trace_id", trace),
    ] {
        assert_eq!(refused[key], value, "{key}: {refused}");
    }
    let access = line(&registry, "access");
    assert_eq!(access["correlation_id"], refused["correlation_id"]);
    assert_eq!(
        (&access["status"], &access["auth_user_name"]),
        (&json!(401), &Value::Null)
    );
    assert_eq!(ask("secret").status(), 404);
    let access = line(&registry, "access");
    assert_eq!(
        (&access["status"], &access["auth_user_name"]),
        (&json!(404), &json!("anna"))
    );
    assert!(
        access["remote_addr"]
            .as_str()
            .is_some_and(|text| text.starts_with("127.0.0.1:"))
    );
}

#[test]
fn whoever_is_no_trusted_proxy_names_nobody() {
    let more = "  trustedproxies: [192.0.2.1]\n";
    let registry = TestRegistry::with(temporary(), more, &[]);
    let answer = registry.request("GET", "/v2/").header("x-forwarded-for", "203.0.113.7");
    assert_eq!(answer.send().expect("answered").status(), 200);
    assert_eq!(line(&registry, "access")["remote_ip"], "127.0.0.1");
}

#[test]
fn a_failure_is_logged_once_with_its_cause_and_told_to_nobody() {
    let registry = TestRegistry::with(temporary(), "", &[("KDK_FAILPOINTS", "storage:commit=fail@1")]);
    let digest = crate::support::registry::digest(b"x");
    let push = || {
        let path = format!("/v2/a/b/blobs/uploads/?digest={digest}");
        registry.request("POST", &path).body("x").send().expect("answered")
    };
    let failed = push();
    assert_eq!(failed.status(), 500);
    let body = failed.text().expect("read");
    assert!(!body.contains("os error") && !body.contains("storage:"), "{body}");
    let failure = line(&registry, "request failed");
    let cause = failure["error"].as_str().expect("text");
    assert!(cause.contains("storage") && cause.contains("os error 5"), "{failure}");
    assert_eq!(failure["route"], "/v2/{name}/blobs/uploads/");
    let next = registry.wait_for_line(|line| line["msg"].as_str().map(str::to_owned));
    assert_eq!(next, "access", "the cause is logged once");
    assert_eq!(push().status(), 201);
}

#[test]
fn numbers_have_few_labels_and_tell_of_process_and_storage() {
    let debug = crate::support::port();
    let more = format!("  debug:\n    addr: 127.0.0.1:{debug}\n    prometheus:\n      enabled: true\n");
    let registry = TestRegistry::with(temporary(), &more, &[]);
    for method in ["AAA1", "AAA2", "get"] {
        let mut stream = TcpStream::connect(&registry.address).expect("connected");
        let request = format!("{method} /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    }
    let numbers = || {
        let answer = registry.get(&format!("http://127.0.0.1:{debug}/metrics"));
        answer.text().expect("read")
    };
    let text = wait("the room is known", || {
        let text = numbers();
        text.contains("registry_storage_space_bytes").then_some(text)
    });
    assert!(
        text.contains("code=\"405\",method=\"other\",route=\"/v2/\"} 3"),
        "{text}"
    );
    assert!(!text.to_lowercase().contains("aaa1"), "{text}");
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number")
    };
    assert!(value("registry_storage_space_bytes{kind=\"free\"}") > 1e6);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") > 3.0 && value("process_max_fds") > 100.0);
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_start_time_seconds") > 1.7e9);
    assert!((value("registry_http_in_flight_requests")).abs() < 0.5);
}

#[test]
fn a_dead_endpoint_and_its_recovery_are_told() {
    let port = crate::support::port();
    let registry = TestRegistry::with(temporary(), &endpoint(port, "      maxretries: 100000\n"), &[]);
    registry.push_blob("a/b", b"x");
    let told = line(&registry, "the notification endpoint does not take events");
    assert_eq!(told["endpoint"], "listener");
    let text = told.to_string();
    assert!(text.contains("refused") && !text.contains("hidden"), "{text}");
    // It is tried many times, and told once.
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("bound");
    let answer = |status: &str| {
        let (mut stream, _) = listener.accept().expect("it is tried again");
        let _ = stream.read(&mut [0; 4096]);
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
    };
    (0..5).for_each(|_| answer("500"));
    answer("200");
    let mut told = 0;
    registry.wait_for_line(|line| {
        let message = line["msg"].as_str().expect("text");
        told += usize::from(message.starts_with("the notification endpoint does not take events"));
        message
            .starts_with("the notification endpoint answers again")
            .then_some(())
    });
    assert_eq!(told, 0, "it was told before");
}

#[test]
fn what_a_queue_has_no_room_for_is_counted_and_told() {
    let (port, debug) = (crate::support::port(), crate::support::port());
    let more = format!(
        "  debug:\n    addr: 127.0.0.1:{debug}\n    prometheus:\n      enabled: true\n{}",
        endpoint(port, "      maxretries: 100000\n      queuesizelimit: 2\n")
    );
    let registry = TestRegistry::with(temporary(), &more, &[]);
    for content in ["1", "2", "3", "4", "5"] {
        registry.push_blob("a/b", content.as_bytes());
    }
    let told = line(&registry, "a notification was dropped");
    assert_eq!((&told["endpoint"], &told["waiting"]), (&json!("listener"), &json!(2)));
    let text = registry
        .get(&format!("http://127.0.0.1:{debug}/metrics"))
        .text()
        .expect("read");
    for expected in [
        "registry_notifications_pending{endpoint=\"listener\"} 2",
        "registry_notifications_events_total{endpoint=\"listener\",type=\"Dropped\"} 3",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn what_became_of_events_is_counted() {
    let debug = crate::support::port();
    let (port, requests) = receiver(vec![200, 400, 200]);
    let more = format!(
        "  debug:\n    addr: 127.0.0.1:{debug}\n    prometheus:\n      enabled: true\n{}",
        endpoint(port, "")
    );
    let registry = TestRegistry::with(temporary(), &more, &[]);
    for content in ["1", "2", "3"] {
        registry.push_blob("a/b", content.as_bytes());
        requests.recv_timeout(Duration::from_secs(20)).expect("a request");
    }
    wait("all are counted", || {
        let text = registry
            .get(&format!("http://127.0.0.1:{debug}/metrics"))
            .text()
            .expect("read");
        let is_there = |line: &str| text.lines().any(|own| own == line);
        let count = |kind, number| {
            is_there(&format!(
                "registry_notifications_events_total{{endpoint=\"listener\",type=\"{kind}\"}} {number}"
            ))
        };
        (count("Events", 3) && count("Successes", 2) && count("Failures", 1)).then_some(())
    });
}

#[test]
fn a_redirection_counts_as_delivered_and_is_told_once() {
    let (port, requests) = receiver(vec![302, 302, 200]);
    let registry = TestRegistry::with(temporary(), &endpoint(port, ""), &[]);
    for content in ["1", "2"] {
        registry.push_blob("a/b", content.as_bytes());
        let (head, body) = requests.recv_timeout(Duration::from_secs(20)).expect("a request");
        assert!(head.starts_with("post "), "{head}");
        let envelope: Value = serde_json::from_str(&body).expect("JSON");
        let id = envelope["events"][0]["source"]["instanceID"].as_str().expect("text");
        assert_eq!(id.len(), 36, "{envelope}");
    }
    let told = line(&registry, "the notification endpoint answers with a redirection");
    assert_eq!(told["status"], 302);
    registry.push_blob("a/b", b"3");
    assert!(requests.recv_timeout(Duration::from_secs(20)).is_ok());
    assert_eq!(registry.get("/v2/").status(), 200);
    registry.wait_for_line(|line| {
        let text = line["msg"].as_str().expect("text");
        assert!(!text.contains("redirection"), "told again");
        (line["uri"] == "/v2/").then_some(())
    });
}

/// Whatever was acknowledged has its event, also when the server is killed in
/// that moment.
#[test]
fn the_last_event_survives_a_kill() {
    for round in 0..5 {
        let closed = crate::support::port();
        let mut registry = TestRegistry::with(temporary(), &endpoint(closed, "      maxretries: 100000\n"), &[]);
        let (_, image) = registry.push_image("a/b", "t", &format!("x{round}"));
        registry.kill();
        let (port, requests) = receiver(vec![200; 9]);
        let registry = registry.again(&endpoint(port, ""), &[]);
        let found = (0..3).any(|_| {
            let request = requests.recv_timeout(Duration::from_secs(20));
            request.is_ok_and(|(_, body)| body.contains(&image))
        });
        assert!(found, "the event of the manifest is lost");
        drop(registry);
    }
}

#[test]
fn a_changed_configuration_is_taken_up_without_a_dropped_request() {
    let registry = TestRegistry::with(temporary(), "log:\n  level: info\n", &[]);
    let (bytes, _) = registry.push_image("a/b", "t", "x");
    let config = registry.directory.path().join("config.yml");
    let text = std::fs::read_to_string(&config).expect("read");
    // One that is under way when changes end comes to its end.
    let digest = crate::support::registry::digest(b"x");
    let mut slow = TcpStream::connect(&registry.address).expect("connected");
    let head = format!(
        "POST /v2/a/b/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).expect("sent");
    let mut go_on = [0; 25];
    slow.read_exact(&mut go_on).expect("asked for the body");
    let readonly = text.replace(
        "storage:\n",
        "storage:\n  maintenance:\n    readonly:\n      enabled: true\n",
    );
    std::fs::write(&config, &readonly).expect("written");
    send(&registry, Signal::SIGHUP);
    send(&registry, Signal::SIGUSR1);
    wait("changes are refused", || {
        (registry.put_manifest("a/b", "u", OCI_MANIFEST, &bytes).status() == 405).then_some(())
    });
    slow.write_all(b"x").expect("still there");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let told = line(&registry, "configuration reloaded");
    assert_eq!(told["read_only"], true);
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
    // Now another one may write.
    let other = TestRegistry::on(temporary(), &write(&registry, "other.yml", &text), &[]);
    other.push_image("a/b", "other", "y");
    assert_eq!(registry.get("/v2/a/b/manifests/other").status(), 200);
    // Back, which takes the other's end.
    std::fs::write(&config, &text).expect("written");
    send(&registry, Signal::SIGHUP);
    let refused = line(&registry, "the storage cannot be written");
    assert!(
        refused["error"]
            .as_str()
            .is_some_and(|text| text.contains(&other.address)),
        "{refused}"
    );
    drop(other);
    send(&registry, Signal::SIGHUP);
    wait("changes are taken", || {
        (registry.put_manifest("a/b", "u", OCI_MANIFEST, &bytes).status() == 201).then_some(())
    });
    // How much is logged, too.
    assert_eq!(registry.get("/v2/last/tags/list").status(), 404);
    std::fs::write(&config, text.replace("level: info", "level: error")).expect("written");
    send(&registry, Signal::SIGHUP);
    registry.wait_for_line(|line| (line["uri"] == "/v2/last/tags/list").then_some(()));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(registry.get("/v2/quiet/tags/list").status(), 404);
    std::fs::write(&config, &text).expect("written");
    send(&registry, Signal::SIGHUP);
    registry.wait_for_line(|line| {
        assert_ne!(line["uri"], "/v2/quiet/tags/list", "{line}");
        line["msg"]
            .as_str()?
            .starts_with("configuration reloaded")
            .then_some(())
    });
    // What cannot be read changes nothing.
    std::fs::write(&config, "version: [").expect("written");
    send(&registry, Signal::SIGHUP);
    line(&registry, "the new configuration cannot be used");
    assert_eq!(registry.put_manifest("a/b", "v", OCI_MANIFEST, &bytes).status(), 201);
}

fn write(registry: &TestRegistry, name: &str, text: &str) -> std::path::PathBuf {
    let path = registry.directory.path().join(name);
    std::fs::write(&path, text).expect("written");
    path
}

/// A request that is given up leaves nothing behind in the numbers.
#[test]
fn requests_that_are_given_up_are_not_under_way_for_ever() {
    let debug = crate::support::port();
    let more = format!(
        "  h2c:\n    enabled: true\n  debug:\n    addr: 127.0.0.1:{debug}\n    prometheus:\n      enabled: true\n"
    );
    let release = temporary();
    let hold = release.path().join("go");
    let plan = format!("storage:get=hold:{}@1+", hold.display());
    let registry = TestRegistry::with(temporary(), &more, &[("KDK_FAILPOINTS", &plan)]);
    let digest = crate::support::registry::digest(b"x");
    let mut given_up: Vec<_> = (0..20)
        .map(|_| {
            let mut curl = std::process::Command::new("curl");
            curl.args(["-sS", "--http2-prior-knowledge", "-o", "/dev/null"]);
            curl.arg(registry.url(&format!("/v2/a/b/blobs/{digest}")));
            curl.stderr(std::process::Stdio::null()).spawn().expect("started")
        })
        .collect();
    let under_way = || {
        let text = registry
            .get(&format!("http://127.0.0.1:{debug}/metrics"))
            .text()
            .expect("read");
        let line = text
            .lines()
            .find(|line| line.starts_with("registry_http_in_flight_requests "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok())
            .expect("a number")
    };
    wait("they are under way", || (under_way() == 20).then_some(()));
    for curl in &mut given_up {
        curl.kill().expect("killed");
        curl.wait().expect("reaped");
    }
    wait("they are given up", || (under_way() == 0).then_some(()));
    std::fs::write(&hold, "").expect("written");
    assert_error(registry.get(&format!("/v2/a/b/blobs/{digest}")), 404, "BLOB_UNKNOWN");
}

/// What is in memory is answered, and health, while the storage hangs.
#[test]
fn a_storage_that_hangs_keeps_nobody_from_what_needs_it_not() {
    let debug = crate::support::port();
    let more = format!(
        "  debug:\n    addr: 127.0.0.1:{debug}\nhealth:\n  storagedriver:\n    enabled: true\n    interval: 100ms\n    threshold: 1\n"
    );
    let release = temporary();
    let hold = release.path().join("go");
    std::fs::write(&hold, "").expect("written");
    // Whatever asks the disk waits while there is no such file.
    let plan = format!("disk:any=hold:{}@1+", hold.display());
    let registry = TestRegistry::with(temporary(), &more, &[("KDK_FAILPOINTS", &plan)]);
    registry.push_image("a/b", "t", "x");
    let layer = crate::support::registry::digest(b"layer x");
    let path = format!("/v2/a/b/blobs/{layer}");
    assert_eq!(registry.send("HEAD", &path).status(), 200);
    let began = Instant::now();
    std::fs::remove_file(&hold).expect("removed");
    // As long as what is in memory needs no look.
    let mut answered = 0;
    while began.elapsed() < Duration::from_millis(500) {
        assert_eq!(registry.send("HEAD", &path).status(), 200);
        answered += 1;
    }
    assert!(
        began.elapsed() < Duration::from_millis(900) && answered > 5,
        "{answered}: {:?}",
        began.elapsed()
    );
    let mut hanging = TcpStream::connect(&registry.address).expect("connected");
    hanging
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .expect("sent");
    // What needs no disk is answered for as long as it hangs, and health says so.
    let health = format!("http://127.0.0.1:{debug}/debug/health");
    wait("health says so", || {
        assert_eq!(registry.get("/").status(), 200);
        let said = registry.get(&health);
        (said.status() == 503 && said.text().expect("read").contains("does not answer")).then_some(())
    });
    std::fs::write(&hold, "").expect("written");
    let mut answer = String::new();
    hanging.read_to_string(&mut answer).expect("read");
    assert!(answer.ends_with("layer x"), "{answer}");
    wait("health recovers", || {
        (registry.get(&health).status() == 200).then_some(())
    });
}

/// Two requests of one connection: one that panics would end both.
#[test]
fn answers_to_odd_references_are_those_of_the_specification() {
    let registry = TestRegistry::start();
    let (bytes, _) = registry.push_image("a/b", "t", "x");
    let odd = "/v2/a/b/manifests/.INVALID_MANIFEST_NAME";
    assert_error(registry.get(odd), 404, "MANIFEST_UNKNOWN");
    assert_eq!(registry.send("HEAD", odd).status(), 404);
    assert_error(registry.send("DELETE", odd), 404, "MANIFEST_UNKNOWN");
    let put = registry.put_manifest("a/b", ".INVALID_MANIFEST_NAME", OCI_MANIFEST, &bytes);
    assert_error(put, 400, "TAG_INVALID");
    for method in ["GET", "PUT", "DELETE"] {
        let path = "/v2/a/b/manifests/sha256:short";
        assert_error(registry.send(method, path), 400, "DIGEST_INVALID");
    }
    let moved = registry.send("GET", "/v2/a/b/tags/list/");
    assert!(moved.status() == 200 || header(&moved, "location") == "/v2/a/b/tags/list");
}
