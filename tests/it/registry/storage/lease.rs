//! One server at a time writes to a directory.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Face, KDK, Output, TestRegistry, temporary};

const READS: [(&str, &str); 1] = [("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")];

fn serve(registry: &TestRegistry) -> Command {
    let mut command = Command::new(KDK);
    command
        .args(["registry", "serve"])
        .arg(registry.directory.path().join("config.yml"));
    command
}

fn send(registry: &TestRegistry, signal: Signal) {
    kill(Pid::from_raw(registry.pid()), signal).expect("sent");
}

/// A process that is killed when the test ends, however it does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_second_server_names_the_first_and_ends() {
    let mut first = TestRegistry::start();
    let (bytes, _) = first.push_image("a/b", "t", "x");
    let named = format!("a registry (pid {}, {})", first.pid(), first.address);
    let refused = || {
        let said = Output::of(&mut serve(&first)).fails(1);
        assert!(said.contains(&named), "{said}");
        assert!(said.contains("storage.maintenance.readonly.enabled"), "{said}");
    };
    refused();
    // One that stands still may go on at any time.
    send(&first, Signal::SIGSTOP);
    refused();
    send(&first, Signal::SIGCONT);
    assert!(first.get("/v2/a/b/manifests/t").bytes().expect("read") == bytes);
    // Reading is no matter: what the writer does is seen at once.
    let config = first.directory.path().join("config.yml");
    let reader = TestRegistry::on(temporary(), &config, &READS);
    assert!(reader.get("/v2/a/b/manifests/t").bytes().expect("read") == bytes);
    for round in 0..20 {
        let (content, _) = first.push_image("a/b", "t", &format!("y{round}"));
        let seen = reader.get("/v2/a/b/manifests/t").bytes().expect("read");
        assert!(seen == content, "{round}");
    }
    assert_eq!(reader.send("POST", "/v2/a/b/blobs/uploads/").status(), 405);
    // Offline work has to wait for one that writes, and for no other.
    let verify = |config: &std::path::Path| {
        let mut command = Command::new(KDK);
        Output::of(command.args(["registry", "verify", "--repair", "--yes"]).arg(config))
    };
    let said = verify(&config).fails(1);
    assert!(
        said.contains(&named) && said.contains("stop it before a repair"),
        "{said}"
    );
    first.kill();
    verify(&config).ok();
    // After a kill the next one serves.
    let first = first.again("", &[]);
    first.push_image("a/b", "u", "z");
    assert_eq!(reader.get("/v2/a/b/manifests/u").status(), 200);
}

/// Begins an upload of one byte, which the server now waits for.
fn begin_upload(registry: &TestRegistry) -> TcpStream {
    let digest = crate::support::registry::digest(b"x");
    let mut slow = TcpStream::connect(&registry.address).expect("connected");
    let head = format!(
        "POST /v2/a/b/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).expect("sent");
    let mut go_on = [0; 25];
    slow.read_exact(&mut go_on).expect("asked for the body");
    slow
}

/// Waits until a server that was told to stop takes no new connection.
fn wait_for_draining(registry: &TestRegistry) {
    crate::support::wait("no new connection is taken", || {
        TcpStream::connect(&registry.address).is_err().then_some(())
    });
}

#[test]
fn a_server_waits_for_one_that_ends() {
    let first = TestRegistry::start();
    let mut slow = begin_upload(&first);
    send(&first, Signal::SIGTERM);
    wait_for_draining(&first);
    let log = first.directory.path().join("second.log");
    let second = serve(&first).stdout(std::fs::File::create(&log).expect("made")).spawn();
    let _second = Running(second.expect("started"));
    let said = |word: &str| {
        crate::support::wait(word, || {
            std::fs::read_to_string(&log)
                .expect("read")
                .contains(word)
                .then_some(())
        });
    };
    said(&format!("waiting for a registry that is stopping (pid {}", first.pid()));
    assert!(!std::fs::read_to_string(&log).expect("read").contains("listening on"));
    slow.write_all(b"x").expect("still there");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    said("listening on");
}

#[test]
fn a_server_waits_for_offline_work() {
    let mut registry = TestRegistry::start();
    registry.push_image("a/b", "t", "x");
    registry.stop();
    let config = registry.directory.path().join("config.yml");
    let mut collecting = Running(
        Command::new(KDK)
            .args(["registry", "garbage-collect", "-q"])
            .arg(&config)
            .env("KDK_FAILPOINTS", "collect:mark=stop@1")
            .stdout(Stdio::null())
            .spawn()
            .expect("started"),
    );
    let pid = collecting.0.id();
    // Not by another collection, which might be the first.
    let record = registry.directory.path().join("storage/.kdk/server.lock");
    crate::support::wait("it has the storage", || {
        std::fs::read_to_string(&record)
            .is_ok_and(|text| text.contains(&format!("\"pid\":{pid},")))
            .then_some(())
    });
    let mut command = Command::new(KDK);
    let refused = Output::of(command.args(["registry", "garbage-collect", "-q"]).arg(&config));
    let holder = format!("a garbage collection (pid {pid})");
    assert!(refused.stderr.contains(&holder), "{}", refused.stderr);
    let log = registry.directory.path().join("server.log");
    let server = serve(&registry)
        .stdout(std::fs::File::create(&log).expect("made"))
        .spawn();
    let _server = Running(server.expect("started"));
    let said = |word: &str| {
        crate::support::wait(word, || {
            std::fs::read_to_string(&log)
                .expect("read")
                .contains(word)
                .then_some(())
        });
    };
    said(&format!("waiting for a garbage collection (pid {pid})"));
    let own = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    kill(own, Signal::SIGCONT).expect("sent");
    assert!(collecting.0.wait().expect("reaped").success());
    said("listening on");
}

/// A second signal ends a server that drains; the next one makes sure of what it left.
#[test]
fn a_server_that_is_cut_off_counts_as_killed() {
    for signals in [1, 2] {
        let mut first = TestRegistry::start();
        first.push_image("a/b", "t", "x");
        // What it waits for.
        let _slow = (signals == 2).then(|| begin_upload(&first));
        send(&first, Signal::SIGTERM);
        if signals == 2 {
            wait_for_draining(&first);
            send(&first, Signal::SIGTERM);
        }
        assert_eq!(first.wait_end(), Some(0));
        let log = first.directory.path().join("disk.log");
        let first = first.again("", &[("KDK_DISK_LOG", log.to_str().expect("UTF-8"))]);
        let settled = std::fs::read_to_string(&log).is_ok_and(|log| log.contains("sync-all"));
        assert_eq!(settled, signals == 2, "after {signals} signals");
        drop(first);
    }
}

/// What servers of before wrote down of themselves is known.
#[test]
fn the_files_of_earlier_versions_are_no_hindrance() {
    let mut registry = Face::Files.start();
    registry.stop();
    let own = registry.directory.path().join("storage/.kdk");
    std::fs::write(own.join("server.lock"), "").expect("written");
    std::fs::create_dir_all(own.join("servers")).expect("made");
    for name in ["0f8fad5b", "0f8fad5b.socket"] {
        std::fs::write(own.join("servers").join(name), "").expect("written");
    }
    let log = registry.directory.path().join("disk.log");
    let registry = registry.again("", &[("KDK_DISK_LOG", log.to_str().expect("UTF-8"))]);
    let settled = std::fs::read_to_string(&log).is_ok_and(|log| log.contains("sync-all"));
    assert!(settled, "a killed server of before was not noticed");
    assert_eq!(std::fs::read_dir(own.join("servers")).expect("listed").count(), 0);
    drop(registry);
}
