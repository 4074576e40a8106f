//! The server as a process: its settings, its end, and what it tells of itself.

use std::process::Command;
use std::time::{Duration, Instant};

use kdk::serve::log::Level;

use crate::registry::api::wire::Line;
use crate::support::postgres::TestPostgres;
use crate::support::registry::header;
use crate::support::{KDK, Output, TestRegistry, temporary};

/// Levels that other registries have count as the nearest; what is none is named.
#[test]
fn levels_of_other_registries_are_understood() {
    let ours = |text: &str| Level::parse(text);
    assert_eq!(ours("trace"), Some(Level::Debug));
    assert_eq!(ours("FATAL"), Some(Level::Error));
    assert_eq!(ours("panic"), Some(Level::Error));
    assert_eq!(ours("warn"), Some(Level::Warning));
    assert_eq!((ours("nonsense"), ours("")), (None, None));
    let directory = temporary();
    let config = directory.path().join("config.yml");
    let text = "version: 0.1\nstorage:\n  inmemory: {}\nhttp:\n  addr: 127.0.0.1:0\nlog:\n  level: loud\n";
    std::fs::write(&config, text).expect("written");
    let error = Output::of(Command::new(KDK).args(["registry", "serve"]).arg(&config)).fails(1);
    assert!(
        error.contains("config.yml:7: log.level: \"loud\" is no level"),
        "{error}"
    );
}

/// A stop waits as long as it is told for requests that do not end, and not much longer.
#[test]
fn a_stop_is_bounded_whatever_goes_on() {
    let mut registry = TestRegistry::with(temporary(), "  draintimeout: 1s\n", &[]);
    let started = registry.send("POST", "/v2/a/b/blobs/uploads/");
    let location = header(&started, "location");
    let path = location[location.find("/v2/").expect("a path")..].to_owned();
    let mut line = Line::to(&registry);
    line.say(&format!(
        "PATCH {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    ));
    assert_eq!(line.hear(true).status, 100);
    let pid = nix::unistd::Pid::from_raw(registry.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("sent");
    let began = Instant::now();
    assert_eq!(registry.wait_end(), Some(0));
    let took = began.elapsed();
    // The time it is given, five seconds for changes that were begun, and two for the rest.
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(12),
        "{took:?}"
    );
}

/// Numbers are where the configuration says, and nowhere else.
#[test]
fn numbers_are_where_the_configuration_says() {
    let debug = crate::support::port();
    let more = format!(
        "  debug:\n    addr: 127.0.0.1:{debug}\n    prometheus:\n      enabled: true\n      path: /numbers\nnotifications:\n  endpoints:\n    - name: listener\n      url: http://127.0.0.1:1/\n"
    );
    let registry = TestRegistry::with(temporary(), &more, &[]);
    let ask = |path: &str| registry.get(&format!("http://127.0.0.1:{debug}{path}"));
    let numbers = ask("/numbers");
    assert_eq!(numbers.status(), 200);
    assert!(numbers.text().expect("text").ends_with("# EOF\n"));
    assert_eq!(ask("/metrics").status(), 404);
    let vars: serde_json::Value = ask("/debug/vars").json().expect("JSON");
    let endpoint = &vars["registry"]["notifications"]["endpoints"]["listener"];
    for name in ["pending", "successes", "failures", "dropped"] {
        assert_eq!(endpoint[name], 0, "{name}: {vars}");
    }
}

/// Whether pushes may come is the running server's word, not the file's.
#[test]
fn an_import_asks_the_server_and_not_the_file() {
    let postgres = TestPostgres::shared();
    postgres.database("asked");
    let registry = TestRegistry::start();
    registry.push_image("a/b", "t", "x");
    let config = registry.directory.path().join("config.yml");
    let text = std::fs::read_to_string(&config).expect("read");
    let readonly = "storage:\n  maintenance:\n    readonly:\n      enabled: true\n";
    let text = format!(
        "{}{}",
        text.replacen("storage:\n", readonly, 1),
        postgres.section("asked", false)
    );
    std::fs::write(&config, text).expect("written");
    let refused = registry.verb(&["database", "import"]).refused();
    assert!(refused.contains("takes pushes"), "{refused}");
    let pid = nix::unistd::Pid::from_raw(registry.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("sent");
    registry.wait_for_line(|line| {
        let text = line["msg"].as_str()?;
        text.contains("configuration reloaded").then_some(())
    });
    registry.verb(&["database", "import"]).ok();
    assert_eq!(postgres.sql("asked", "SELECT name FROM tags"), "t\n");
    postgres.forget("asked");
}
