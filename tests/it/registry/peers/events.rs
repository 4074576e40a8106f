//! Notifications: who hears them, when, and what becomes of those that fail.

use std::io::{Read as _, Write as _};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::registry::settings::receiver;
use crate::support::{TestRegistry, temporary};

fn endpoint(name: &str, port: u16, more: &str) -> String {
    format!("    - name: {name}\n      url: http://127.0.0.1:{port}/events\n      timeout: 2s\n{more}")
}

fn endpoints(all: &[String]) -> String {
    format!("notifications:\n  endpoints:\n{}", all.concat())
}

/// The digest that the next request tells of.
fn told(heard: &Receiver<(String, String)>) -> String {
    let (_, body) = heard.recv_timeout(Duration::from_secs(20)).expect("an event");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let events = body["events"].as_array().expect("a list");
    assert_eq!(events.len(), 1, "{body}");
    events[0]["target"]["digest"].as_str().expect("a digest").to_owned()
}

/// One that takes nothing keeps no other from its events.
#[test]
fn an_endpoint_that_is_down_costs_the_others_nothing() {
    let (alive, heard) = receiver(vec![200]);
    let debug = crate::support::port();
    let more = format!(
        "  debug:\n    addr: 127.0.0.1:{debug}\n{}",
        endpoints(&[
            endpoint(
                "dead",
                crate::support::port(),
                "      maxretries: 1\n      backoff: 10ms\n"
            ),
            endpoint("alive", alive, "")
        ])
    );
    let registry = TestRegistry::with(temporary(), &more, &[]);
    let blob = registry.push_blob("a/b", b"content");
    assert_eq!(told(&heard), blob);
    registry.wait_for_line(|line| (line["msg"] == "error writing event" && line["endpoint"] == "dead").then_some(()));
    let counted = crate::support::wait("it is counted", || {
        let vars: Value = registry
            .get(&format!("http://127.0.0.1:{debug}/debug/vars"))
            .json()
            .ok()?;
        let endpoints = vars["registry"]["notifications"]["endpoints"].clone();
        let count = |endpoint: &str, name: &str| endpoints[endpoint][name].as_u64();
        let all = [
            count("dead", "successes")?,
            count("dead", "failures")?,
            count("alive", "successes")?,
            count("alive", "failures")?,
        ];
        (all[1] > 0 && all[2] > 0).then_some(all)
    });
    assert_eq!(counted, [0, 1, 1, 0]);
}

/// What an endpoint may take later is sent again; what it will never take is not.
#[test]
fn only_what_may_be_taken_later_is_sent_again() {
    let (port, heard) = receiver(vec![408, 429, 500, 403, 200]);
    let more = endpoints(&[endpoint(
        "listener",
        port,
        "      maxretries: 20\n      backoff: 10ms\n",
    )]);
    let registry = TestRegistry::with(temporary(), &more, &[]);
    let first = registry.push_blob("a/b", b"first");
    let second = registry.push_blob("a/b", b"second");
    let told: Vec<String> = (0..5).map(|_| told(&heard)).collect();
    let told: Vec<&String> = told.iter().collect();
    assert_eq!(told, [&first, &first, &first, &first, &second]);
}

/// A threshold is a number of tries where none is given, and pauses grow.
#[test]
fn a_threshold_bounds_the_tries_and_pauses_grow() {
    let (port, heard) = receiver(vec![500, 500, 500, 500, 500, 200]);
    let more = endpoints(&[endpoint("listener", port, "      threshold: 2\n      backoff: 100ms\n")]);
    let registry = TestRegistry::with(temporary(), &more, &[]);
    let first = registry.push_blob("a/b", b"first");
    let second = registry.push_blob("a/b", b"second");
    let mut arrivals = Vec::new();
    for _ in 0..5 {
        assert_eq!(told(&heard), first);
        arrivals.push(Instant::now());
    }
    assert_eq!(told(&heard), second);
    registry.wait_for_line(|line| (line["msg"] == "error writing event").then_some(()));
    let pauses: Vec<Duration> = arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[3] > pauses[0] * 2, "{pauses:?}");
}

/// A server that stops in the middle of tries is quick about it, and tries again when it is back.
#[test]
fn a_stop_waits_for_no_endpoint() {
    let more = |port: u16| {
        endpoints(&[endpoint(
            "listener",
            port,
            "      maxretries: 1000\n      backoff: 50ms\n",
        )])
    };
    let mut registry = TestRegistry::with(temporary(), &more(crate::support::port()), &[]);
    let blob = registry.push_blob("a/b", b"content");
    registry.wait_for_line(|line| {
        let text = line["msg"].as_str().unwrap_or_default();
        text.contains("does not take events").then_some(())
    });
    let began = Instant::now();
    registry.stop();
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let (port, heard) = receiver(vec![200]);
    let _registry = registry.again(&more(port), &[]);
    assert_eq!(told(&heard), blob);
}

/// What is on this machine is asked for without the proxy that the environment names.
#[test]
fn a_proxy_is_not_asked_for_what_is_here() {
    let (port, heard) = receiver(vec![200]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let checked = listener.local_addr().expect("an address").port();
    let (sender, heads) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("taken");
            let mut piece = [0; 2048];
            let read = stream.read(&mut piece).unwrap_or_default();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if sender
                .send(String::from_utf8_lossy(&piece[..read]).to_lowercase())
                .is_err()
            {
                return;
            }
        }
    });
    let more = format!(
        "{}health:\n  http:\n    - uri: http://127.0.0.1:{checked}/\n      interval: 50ms\n",
        endpoints(&[endpoint("listener", port, "")])
    );
    let proxy = "http://127.0.0.1:1";
    let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"].map(|name| (name, proxy));
    let registry = TestRegistry::with(temporary(), &more, &names);
    let head = heads.recv_timeout(Duration::from_secs(10)).expect("it is checked");
    assert!(
        head.starts_with("head / ") && head.contains("\r\nuser-agent: kdk-registry-health/"),
        "{head}"
    );
    let blob = registry.push_blob("a/b", b"content");
    assert_eq!(told(&heard), blob);
    assert_eq!(registry.get("/v2/").status(), 200);
}
