//! Supervision under bad conditions: no orphan, no double, no lie.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Output, TestRoot, wait};

fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
}

fn registries(root: &TestRoot) -> Vec<i32> {
    root.processes()
        .into_iter()
        .filter(|(_, line)| line.contains("registry serve"))
        .map(|(pid, _)| pid)
        .collect()
}

#[test]
fn a_killed_service_comes_back() {
    let root = TestRoot::with_registry("");
    root.up();
    let first = root.pid("registry");
    end(first);
    let job = wait("it is up again", || {
        Some(root.service("registry")).filter(|job| job["state"] == "up" && job["pid"] != first)
    });
    assert_eq!(
        (job["restarts"].as_u64(), job["health"].as_str()),
        (Some(1), Some("ok"))
    );
    assert_eq!(registries(&root).len(), 1);
    // Its log tells why there is a gap.
    let log = root.read("log/registry/current");
    assert!(
        log.contains(" kdk: signal: 9 (SIGKILL); started again in 1s\n"),
        "{log}"
    );
    root.kdk(&["stop"]).ok();
    wait("nothing is left", || root.processes().is_empty().then_some(()));
}

#[test]
fn a_crash_loop_is_shown_and_ended() {
    let root = TestRoot::with_registry("  bin: /bin/false\n");
    root.kdk(&["reconfigure"]).ok();
    let error = root.kdk(&["start"]).fails(1);
    assert!(
        error.contains("registry: ended before it was ready: exit status: 1"),
        "{error}"
    );
    assert_eq!(root.service("rails-web")["state"], "up");
    let job = root.wait_for_state("registry", "crash loop");
    // What should run and does not is told to scripts, too.
    assert_eq!(root.kdk(&["status"]).code, 1);
    assert!(job["restarts"].as_u64().expect("a number") >= 2, "{job}");
    root.kdk(&["stop", "registry"]).ok();
    assert_eq!(root.service("registry")["state"], "down");
    let missing = TestRoot::with_registry("  bin: /nonexistent/registry\n");
    missing.kdk(&["reconfigure"]).ok();
    let error = missing.kdk(&["start", "registry"]).fails(1);
    assert!(
        error.contains("registry cannot run: /nonexistent/registry does not exist"),
        "{error}"
    );
    assert_eq!(missing.service("registry")["state"], "down");
}

/// Asked for while what is left of an attempt before is being ended, a service
/// is not said to have failed for that one's end.
#[test]
fn the_end_of_an_attempt_before_is_not_that_of_the_next() {
    let root = TestRoot::with_registry("  bin: ./sometimes\n");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && exit\n[ -f ok ] && exec kdk registry \"$@\"\n(trap '' TERM; sleep 30) &\nexit 1\n";
    root.write("sometimes", script);
    let program = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root.join("sometimes"), program).expect("set");
    root.kdk(&["reconfigure"]).ok();
    root.kdk(&["start"]).fails(1);
    root.wait_for_state("registry", "stopping");
    root.write("ok", "");
    root.kdk(&["start", "registry"]).ok();
    assert_eq!(root.service("registry")["state"], "up");
}

#[test]
fn a_taken_port_is_named_with_who_holds_it() {
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    let listener = std::net::TcpListener::bind(("127.0.0.1", root.registry_port)).expect("bound");
    let error = root.kdk(&["start"]).fails(1);
    let me = std::process::id();
    assert!(
        error.contains(&format!("port {} is taken by", root.registry_port)) && error.contains(&format!("process {me}")),
        "{error}"
    );
    assert!(
        error.contains(&format!("kdk config set registry.port {}", root.registry_port + 100)),
        "{error}"
    );
    assert!(
        !error.contains("is available at 127.0.0.1") && !error.contains("see more with"),
        "{error}"
    );
    let log = root.read("log/registry/current");
    assert!(
        log.contains(&format!("kdk: not started: port {} is taken by", root.registry_port)),
        "{log}"
    );
    drop(listener);
    // A process that another test forked this instant may hold a copy still.
    wait("it starts", || (root.kdk(&["start"]).code == 0).then_some(()));
}

#[test]
fn airplay_is_recognised() {
    use std::io::{Read as _, Write as _};
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    let listener = std::net::TcpListener::bind(("127.0.0.1", root.registry_port)).expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accepted");
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(
                b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nServer: AirTunes/605.1\r\nConnection: close\r\n\r\n",
            );
        }
    });
    let error = root.kdk(&["start", "registry"]).fails(1);
    assert!(
        error.contains("AirPlay")
            && error.contains(&format!("kdk config set registry.port {}", root.registry_port + 100)),
        "{error}"
    );
}

#[test]
fn a_name_that_does_not_resolve_gets_the_hosts_line() {
    let root = TestRoot::with_registry("  host: registry.kdk-nowhere.invalid\nhostname: kdk-nowhere.invalid\n");
    let said = root.kdk(&["reconfigure"]).stderr;
    assert!(
        said.contains("add this line to /etc/hosts: 127.0.0.1 kdk-nowhere.invalid"),
        "{said}"
    );
    let error = root.kdk(&["start"]).fails(1);
    assert!(
        error.contains("the host name kdk-nowhere.invalid does not resolve"),
        "{error}"
    );
    assert!(error.contains("/etc/hosts: 127.0.0.1 kdk-nowhere.invalid"), "{error}");
}

/// The address is of a network that is nobody's (RFC 5737).
#[test]
fn an_address_that_lacks_gets_its_command_and_stops_nothing() {
    let root = TestRoot::with_registry(
        "  host: registry.kdk-nowhere.invalid\n  listen_address: 192.0.2.77\nhostname: kdk-nowhere.invalid\n",
    );
    let said = root.kdk(&["reconfigure"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let lines = "add this line to /etc/hosts: 192.0.2.77 kdk-nowhere.invalid registry.kdk-nowhere.invalid";
    let alias = if cfg!(target_os = "linux") {
        "sudo ip addr add 192.0.2.77/32 dev lo"
    } else {
        "sudo ifconfig lo0 alias 192.0.2.77"
    };
    for wanted in [lines, alias] {
        assert_eq!(said.stderr.matches(wanted).count(), 1, "{}", said.stderr);
    }
    assert_eq!(said.stderr.matches("192.0.2.77").count(), 3, "{}", said.stderr);
    let error = root.kdk(&["start"]).fails(1);
    assert!(
        error.contains("registry: 192.0.2.77 is no address of this machine") && error.contains(alias),
        "{error}"
    );

    let root = TestRoot::with_registry("");
    root.up();
    let before = root.pid("registry");
    root.kdk(&["config", "set", "registry.listen_address", "192.0.2.77"])
        .ok();
    let error = root.kdk(&["reconfigure"]).fails(1);
    assert!(
        error.contains("registry is not restarted: 192.0.2.77 is no address of this machine") && error.contains(alias),
        "{error}"
    );
    assert!(root.read("registry/config.yml").contains("192.0.2.77"));
    assert_eq!(root.pid("registry"), before);
    root.kdk(&["config", "unset", "registry.listen_address"]).ok();
    root.kdk(&["reconfigure"]).ok();
}

#[test]
fn the_next_command_takes_over_after_kill_9_of_the_daemon() {
    let root = TestRoot::with_registry("");
    root.up();
    for round in 0..5 {
        let (registry, rails) = (root.pid("registry"), root.pid("rails-web"));
        let daemon = root.daemon().expect("a daemon");
        end(daemon);
        wait("the daemon is gone", || (root.daemon() != Some(daemon)).then_some(()));
        if round == 2 {
            // A service that ends while nobody looks is started again.
            end(registry);
            wait("it is gone", || registries(&root).is_empty().then_some(()));
        }
        let job = root.wait_for_state("registry", "up");
        assert_eq!(root.pid("rails-web"), rails);
        if round == 2 {
            assert_ne!(job["pid"], registry);
        } else {
            assert_eq!(job["pid"], registry, "round {round}");
        }
        assert_eq!(registries(&root).len(), 1, "round {round}");
    }
    // What the service wrote while no daemon ran is not lost.
    end(root.daemon().expect("a daemon"));
    let marker = "/v2/written-while-nobody-looked/tags/list";
    reqwest::blocking::get(root.registry_url(marker)).expect("it goes on");
    root.kdk(&["status"]).ok();
    wait("the line is in the log", || {
        root.kdk(&["tail", "registry", "--no-follow"])
            .ok()
            .contains(marker)
            .then_some(())
    });
    end(root.daemon().expect("a daemon"));
    root.kdk(&["stop"]).ok();
    wait("nothing is left", || root.processes().is_empty().then_some(()));
}

/// Starts a daemon that is killed when it comes by a place for the nth time.
fn daemon_that_dies(root: &TestRoot, nth: usize) -> std::process::Child {
    let log = std::fs::File::create(root.join("daemon.log")).expect("made");
    let mut daemon = root.command(&["--root", root.path().to_str().expect("UTF-8"), "supervise"]);
    let mut daemon = daemon
        .env("KDK_FAILPOINTS", format!("daemon=kill@{nth}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("cloned"))
        .stderr(log)
        .spawn()
        .expect("started");
    wait("the daemon is there, or was", || {
        let ended = daemon.try_wait().expect("asked").is_some();
        (ended || root.daemon().is_some()).then_some(())
    });
    daemon
}

#[test]
fn daemons_killed_while_they_start_services_leave_no_double() {
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    for nth in 1.. {
        let mut daemon = daemon_that_dies(&root, nth);
        // It asks, and where the daemon is gone starts another, which goes on.
        root.kdk(&["start"]).ok();
        assert_eq!(registries(&root).len(), 1, "killed at place {nth}");
        root.wait_for_state("rails-web", "up");
        let killed = daemon.try_wait().expect("asked").is_some();
        root.kdk(&["stop"]).ok();
        wait("nothing is left", || root.processes().is_empty().then_some(()));
        if !killed {
            assert!(nth > 8, "it came by {nth} places only");
            break;
        }
    }
}

#[test]
fn stop_while_starting_and_many_at_once() {
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    std::thread::scope(|scope| {
        for index in 0..8 {
            let root = &root;
            scope.spawn(move || Output::of(&mut root.command(if index % 2 == 0 { &["start"] } else { &["stop"] })));
        }
    });
    root.kdk(&["start"]).ok();
    assert_eq!(registries(&root).len(), 1);
    let slow = root
        .command(&["restart"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    root.kdk(&["stop"]).ok();
    slow.expect("started").wait().expect("reaped");
    root.kdk(&["stop"]).ok();
    wait("nothing is left", || root.processes().is_empty().then_some(()));
}

#[test]
fn children_of_a_service_end_with_it() {
    let root = TestRoot::with_registry("");
    let script = format!(
        "#!/bin/sh\nsleep 1000 &\ntrap '' TERM\n{} registry serve \"$2\" &\nwait\nwait\n",
        crate::support::KDK
    );
    root.write("stubborn", &script);
    Output::of(std::process::Command::new("chmod").arg("+x").arg(root.join("stubborn"))).ok();
    root.kdk(&["config", "set", "registry.bin", "stubborn"]).ok();
    root.kdk(&["config", "set", "kdk.runit_wait_secs", "5"]).ok();
    root.up();
    assert!(root.processes().iter().any(|(_, line)| line.contains("sleep 1000")));
    root.kdk(&["stop"]).ok();
    wait("nothing is left", || root.processes().is_empty().then_some(()));
}

#[test]
fn two_roots_do_not_touch_each_other() {
    let (one, two) = (TestRoot::with_registry(""), TestRoot::with_registry(""));
    one.up();
    two.up();
    let pid = two.pid("registry");
    one.kdk(&["kill", "--yes"]).ok();
    wait("nothing of it is left", || one.processes().is_empty().then_some(()));
    assert_eq!(two.pid("registry"), pid);
    let refused = two.kdk(&["kill"]).fails(1);
    assert!(refused.contains("KDK_KILL_CONFIRM=true"), "{refused}");
    assert_eq!(two.pid("registry"), pid);
}

#[test]
fn a_port_that_another_root_has_is_told_with_that_root() {
    let (one, two) = (TestRoot::with_registry(""), TestRoot::with_registry(""));
    one.up();
    two.write(
        "kdk.yml",
        &format!(
            "port: {}\nregistry:\n  enabled: true\n  port: {}\n",
            two.rails_port, one.registry_port
        ),
    );
    // Of one user, whose list of roots names both.
    let state = one.join("home/.local/state");
    let kdk = |arguments: &[&str]| Output::of(two.command(arguments).env("XDG_STATE_HOME", &state));
    kdk(&["reconfigure"]).ok();
    let refused = kdk(&["start"]).fails(1);
    let free = format!(
        "the root {0} has it; free it with: kdk --root {0} stop",
        one.path().display()
    );
    assert!(refused.contains(&free), "{refused}");
}

#[test]
fn logs_are_tailed_with_stamp_and_name() {
    let root = TestRoot::with_registry("");
    root.up();
    let lines = root.kdk(&["tail", "registry", "--no-follow", "--lines", "50"]).ok();
    let line = lines
        .lines()
        .find(|line| line.contains("listening on"))
        .expect("the line");
    let (stamp, rest) = line.split_once(' ').expect("a stamp");
    assert!(stamp.len() == 25 && stamp.as_bytes()[10] == b'_', "{line}");
    assert!(rest.starts_with("registry : {\"go_version\""), "{line}");
    let both = root.kdk(&["tail", "registry", "rails", "--no-follow"]).ok();
    assert!(
        both.contains(" registry  : {") && both.contains(" rails-web : {"),
        "{both}"
    );
    let json = root.kdk(&["tail", "registry", "--no-follow", "--json", "-n", "1"]).ok();
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["service"], "registry");
    assert!(
        !root
            .kdk(&["tail", "registry", "--no-follow", "--since", "1h"])
            .ok()
            .is_empty()
    );
    assert_eq!(
        root.kdk(&["tail", "registry", "--no-follow", "--since", "2999-01-01T00:00:00Z"])
            .ok(),
        ""
    );
    let mut following = root
        .command(&["tail", "registry", "--lines", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let output = std::io::BufReader::new(following.stdout.take().expect("piped"));
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::io::BufRead as _;
        output
            .lines()
            .map_while(Result::ok)
            .for_each(|line| drop(sender.send(line)));
    });
    // Asked again and again: the first line may come before anybody follows.
    let line = wait("a line is followed", || {
        reqwest::blocking::get(root.registry_url("/v2/followed/tags/list")).expect("answered");
        lines.recv_timeout(std::time::Duration::from_millis(100)).ok()
    });
    assert!(line.contains("/v2/followed/"), "an old line was shown: {line}");
    following.kill().expect("killed");
    following.wait().expect("reaped");
}

#[test]
fn a_deep_root_works() {
    let deep = "deep/".repeat(30);
    let root = TestRoot::with_registry("");
    let inner = root.join(&deep);
    std::fs::create_dir_all(&inner).expect("made");
    std::fs::copy(root.join("kdk.yml"), inner.join("kdk.yml")).expect("copied");
    let argument = inner.to_str().expect("UTF-8");
    for command in ["reconfigure", "start", "status", "stop"] {
        root.kdk(&["--root", argument, command]).ok();
    }
}

#[test]
fn a_broken_file_blocks_neither_status_nor_stop() {
    let root = TestRoot::with_registry("");
    root.up();
    root.write("kdk.yml", "registry: [\n");
    let status = root.kdk(&["status"]);
    assert!(
        status.stdout.contains("registry") && status.stderr.contains("not valid YAML"),
        "{status:?}"
    );
    assert!(
        root.kdk(&["tail", "registry", "--no-follow"])
            .ok()
            .contains("listening")
    );
    root.kdk(&["stop", "registry"]).ok();
    root.kdk(&["kill", "--yes"]).ok();
    wait("nothing is left", || root.processes().is_empty().then_some(()));
}

#[test]
fn what_is_ready_is_not_starting_when_its_supervisor_was_replaced() {
    let root = TestRoot::with_registry("");
    root.up();
    let states = |said: Output| -> Vec<String> {
        let all: serde_json::Value = serde_json::from_str(&said.ok()).expect("JSON");
        let all = all.as_array().expect("a list").iter();
        all.map(|job| job["state"].as_str().expect("text").to_owned()).collect()
    };
    // By the next one, after kill -9.
    end(root.daemon().expect("a daemon"));
    assert_eq!(states(root.kdk(&["status", "--json"])), ["up", "up"]);
    // By one of another build, to which it gives way.
    let daemon = root.daemon().expect("a daemon");
    let other = root.join("kdk-of-another-build");
    std::fs::copy(crate::support::KDK, &other).expect("copied");
    let mut command = std::process::Command::new(&other);
    command
        .args(["status", "--json"])
        .current_dir(root.path())
        .env("HOME", root.join("home"));
    assert_eq!(states(Output::of(&mut command)), ["up", "up"]);
    assert_ne!(root.daemon(), Some(daemon));
}

#[test]
fn a_lost_kdk_yml_strands_nothing_and_its_copy_is_named() {
    let root = TestRoot::with_registry("");
    root.up();
    let settings = root.read("kdk.yml");
    let applied = root.join(".kdk/applied.yml");
    assert_eq!(root.read(".kdk/applied.yml"), settings);
    // One that was never applied to the end.
    std::fs::remove_file(&applied).expect("removed");
    std::fs::remove_file(root.join("kdk.yml")).expect("removed");
    let refused = root.kdk(&["reconfigure"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("kdk.yml is gone") && refused.stderr.contains("make a new one with: kdk init"),
        "{refused:?}"
    );
    root.write(".kdk/applied.yml", &settings);
    let restored = format!("cp {} {}", applied.display(), root.join("kdk.yml").display());
    assert!(root.kdk(&["start"]).stderr.contains(&restored));
    let status = root.kdk(&["status"]);
    assert!(
        status.stdout.contains("registry") && status.stderr.contains(&restored),
        "{status:?}"
    );
    let listed = root.kdk(&["roots"]).ok();
    assert!(
        listed.contains("up") && listed.contains(root.path().to_str().expect("UTF-8")),
        "{listed}"
    );
    // From a directory below as well, and without a supervisor.
    end(root.daemon().expect("a daemon"));
    std::fs::create_dir(root.join("below")).expect("made");
    let stopped = Output::of(root.command(&["stop"]).current_dir(root.join("below")));
    stopped.ok();
    wait("nothing is left", || root.processes().is_empty().then_some(()));
}

#[test]
fn a_stopped_supervisor_blocks_nobody() {
    let root = TestRoot::with_registry("");
    root.up();
    let daemon = root.daemon().expect("a daemon");
    let pids = [root.pid("registry"), root.pid("rails-web")];
    let signal = |signal| kill(Pid::from_raw(daemon), signal).expect("sent");
    signal(Signal::SIGSTOP);
    for command in [&["status"][..], &["stop"], &["restart", "registry"]] {
        let said = root.kdk(command);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.stderr.contains(&format!(
                "the supervisor (process {daemon}) has said nothing for 5 seconds"
            )) && said.stderr.contains(&format!("kill -CONT {daemon}")),
            "{said:?}"
        );
    }
    assert!(root.kdk(&["roots"]).ok().contains("unknown"));
    signal(Signal::SIGCONT);
    // Nothing of what was asked for in vain is done afterwards.
    root.kdk(&["status"]).ok();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!([root.pid("registry"), root.pid("rails-web")], pids);
    signal(Signal::SIGSTOP);
    root.kdk(&["kill", "--yes"]).ok();
    wait("nothing is left", || root.processes().is_empty().then_some(()));
}

#[test]
fn a_damaged_store_and_a_removed_socket_strand_nothing() {
    let root = TestRoot::with_registry("");
    root.up();
    std::fs::remove_file(root.join(".kdk/socket")).expect("removed");
    root.wait_for_state("registry", "up");
    end(root.daemon().expect("a daemon"));
    root.write(".kdk/supervisor.json", "{");
    let before = registries(&root);
    root.wait_for_state("registry", "up");
    assert_eq!(registries(&root), before);
    // What runs is nobody's known specification, so the next reconfigure puts it right.
    root.kdk(&["reconfigure"]).ok();
    assert_eq!(root.wait_for_state("registry", "up")["health"], "ok");
    assert_eq!(registries(&root).len(), 1);
    root.kdk(&["stop"]).ok();
    wait("nothing is left", || root.processes().is_empty().then_some(()));
}

#[test]
fn settings_that_are_not_applied_yet_are_named_and_harm_nothing() {
    let root = TestRoot::with_registry("");
    root.up();
    let other = crate::support::port().to_string();
    root.kdk(&["config", "set", "registry.port", &other]).ok();
    assert_eq!(root.service("registry")["health"], "ok");
    for command in [&["restart", "registry"][..], &["stop"], &["start"]] {
        let said = root.kdk(command);
        assert_eq!(said.code, 0, "{said:?}");
        if command[0] != "stop" {
            assert!(
                said.stderr.contains("apply it with: kdk reconfigure"),
                "{}",
                said.stderr
            );
            assert!(
                !said.stderr.contains(&format!("available at 127.0.0.1:{other}")),
                "{}",
                said.stderr
            );
        }
    }
    assert_eq!(
        reqwest::blocking::get(root.registry_url("/v2/"))
            .expect("answers")
            .status(),
        401
    );
}

#[test]
fn what_was_stopped_without_a_daemon_stays_stopped() {
    let root = TestRoot::with_registry("");
    root.up();
    end(root.daemon().expect("a daemon"));
    for (pid, _) in root.processes() {
        end(pid);
    }
    wait("all is gone", || root.processes().is_empty().then_some(()));
    root.kdk(&["stop"]).ok();
    root.kdk(&["start", "rails-web"]).ok();
    assert_eq!(root.service("registry")["state"], "down");
}

#[test]
fn a_restart_cut_short_leaves_nothing_down() {
    let root = TestRoot::with_registry("");
    root.up();
    for nth in 1.. {
        let mut restart = root.command(&["restart"]);
        let restart = Output::of(restart.env("KDK_FAILPOINTS", format!("client=kill@{nth}")));
        root.wait_for_state("registry", "up");
        root.wait_for_state("rails-web", "up");
        if restart.code == 0 {
            assert!(nth > 4, "it came by {nth} places only");
            break;
        }
    }
}

#[test]
fn a_start_with_newer_settings_does_not_claim_them() {
    let root = TestRoot::with_registry("");
    root.up();
    root.kdk(&["config", "set", "registry.relativeurls", "true"]).ok();
    root.kdk(&["reconfigure", "--no-restart"]).ok();
    let said = root.kdk(&["start", "registry"]).stderr;
    assert!(
        said.contains("registry runs with older settings; apply the new ones with: kdk restart registry"),
        "{said}"
    );
    assert!(!said.contains("is available at"), "{said}");
}

/// What is removed or moved while it runs ends, and comes back nowhere.
#[test]
fn a_root_that_goes_takes_its_services_with_it() {
    for is_moved in [false, true] {
        let root = TestRoot::with_registry("");
        root.up();
        let own: Vec<i32> = root.processes().into_iter().map(|(pid, _)| pid).collect();
        assert!(own.len() >= 3, "{own:?}");
        let aside = root.path().with_extension("aside");
        if is_moved {
            std::fs::rename(root.path(), &aside).expect("moved");
        } else {
            std::fs::remove_dir_all(root.path()).expect("removed");
        }
        let runs = |pid: i32| kill(Pid::from_raw(pid), None).is_ok();
        wait("all have ended", || own.iter().all(|pid| !runs(*pid)).then_some(()));
        let ghost: Vec<_> = std::fs::read_dir(root.path()).into_iter().flatten().flatten().collect();
        assert!(
            !root.path().exists(),
            "something was written where the root was: {ghost:?}"
        );
        // Another one at the same place starts as if there never had been one.
        std::fs::create_dir(root.path()).expect("made");
        std::fs::write(root.join("kdk.yml"), "registry:\n  enabled: true\n").expect("written");
        let ports = [("registry.port", root.registry_port), ("port", root.rails_port)];
        for (key, port) in ports {
            root.kdk(&["config", "set", key, &port.to_string()]).ok();
        }
        root.up();
        let _ = std::fs::remove_dir_all(&aside);
    }
}

/// Where the supervisor was killed before, nobody notices; whoever starts at the same place ends what is left.
#[test]
fn what_a_removed_root_left_is_ended_by_the_next() {
    let root = TestRoot::with_registry("");
    root.up();
    let left = [root.pid("registry"), root.pid("rails-web")];
    let settings = root.read("kdk.yml");
    let daemon = root.daemon().expect("it runs");
    kill(Pid::from_raw(daemon), Signal::SIGKILL).expect("killed");
    std::fs::remove_dir_all(root.path()).expect("removed");
    let runs = |pid: i32| kill(Pid::from_raw(pid), None).is_ok();
    assert!(left.iter().all(|pid| runs(*pid)));
    std::fs::create_dir(root.path()).expect("made");
    std::fs::write(root.join("kdk.yml"), settings).expect("written");
    root.kdk(&["reconfigure"]).ok();
    let started = root.kdk(&["start"]);
    for pid in left {
        let expected = format!(
            "(process {pid}), left by a root that was removed from {}",
            root.path().display()
        );
        assert!(started.stderr.contains(&expected), "{}", started.stderr);
        // Whoever inherits it may not have noticed yet.
        assert!(root.processes().iter().all(|(running, _)| *running != pid));
    }
    started.ok();
    assert_eq!(root.wait_for_state("registry", "up")["health"], "ok");
}

/// Logs are bounded as the settings say, also while services run.
#[test]
fn logs_are_put_aside_as_the_settings_say() {
    let root = TestRoot::with_registry("  auth_enabled: false\nkdk:\n  log:\n    max_size: 1\n    keep: 3\n");
    root.up();
    let pid = root.pid("registry");
    let client = reqwest::blocking::Client::new();
    let url = format!("http://127.0.0.1:{}/v2/", root.registry_port);
    let agent = "x".repeat(6000);
    let old = || {
        let entries = std::fs::read_dir(root.join("log/registry")).expect("there");
        let sizes = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with('@'));
        sizes
            .map(|entry| entry.metadata().expect("there").len() >> 20)
            .collect::<Vec<u64>>()
    };
    let fill = |mebibytes: usize| {
        for _ in 0..mebibytes * 190 {
            let answer = client.get(&url).header("User-Agent", &agent).send().expect("answered");
            assert_eq!(answer.status(), 200);
        }
    };
    fill(6);
    wait("there are three of 1 MiB", || (old() == [1, 1, 1]).then_some(()));
    root.kdk(&["config", "set", "kdk.log.keep", "1"]).ok();
    root.kdk(&["reconfigure"]).ok();
    fill(2);
    wait("there is one", || (old() == [1]).then_some(()));
    assert_eq!(root.pid("registry"), pid);
    assert!(
        root.kdk(&["config", "set", "kdk.log.max_size", "0"])
            .fails(1)
            .contains('1')
    );
}

/// A copy of a root is another root: it touches neither the services nor the images of the first.
#[test]
fn a_copy_of_a_root_leaves_the_first_alone() {
    let root = TestRoot::with_registry("  auth_enabled: false\n");
    root.up();
    let pids = [root.pid("registry"), root.pid("rails-web")];
    let copy = crate::support::temporary();
    let place = copy.path().join("copy");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(root.path())
        .arg(&place)
        .status();
    assert!(copied.expect("run").success());
    let kdk = |arguments: &[&str]| {
        let mut command = root.command(arguments);
        crate::support::Output::of(command.current_dir(&place))
    };
    let status = kdk(&["status"]);
    assert!(
        status.stderr.contains("this root was moved or copied from") && !status.stdout.contains(" up "),
        "{}",
        status.shown()
    );
    for command in [&["start"][..], &["restart"]] {
        let refused = kdk(command).fails(1);
        assert!(refused.contains("render them anew with: kdk reconfigure"), "{refused}");
    }
    kdk(&["stop"]).ok();
    kdk(&["kill", "--yes"]).ok();
    assert_eq!([root.pid("registry"), root.pid("rails-web")], pids);
    // With ports of its own it runs beside the first, on images of its own.
    for (key, port) in [
        ("registry.port", crate::support::port()),
        ("port", crate::support::port()),
    ] {
        kdk(&["config", "set", key, &port.to_string()]).ok();
    }
    kdk(&["reconfigure"]).ok();
    kdk(&["start"]).ok();
    let config = std::fs::read_to_string(place.join("registry/config.yml")).expect("read");
    assert!(
        config.contains(place.join("registry/storage").to_str().expect("UTF-8")),
        "{config}"
    );
    assert_eq!([root.pid("registry"), root.pid("rails-web")], pids);
    kdk(&["kill", "--yes"]).ok();
    assert_eq!([root.pid("registry"), root.pid("rails-web")], pids);
}
