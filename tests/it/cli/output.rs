//! Every command's output, as a person sees it.

use crate::support::{KDK, Output, TestRoot, temporary};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Hides numbers that change: process ids, times.
fn stable(root: &TestRoot, text: &str) -> String {
    let mut lines = Vec::new();
    for line in root.stable(text).lines() {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for at in 0..words.len() {
            let pid = at > 0 && words[at - 1] == "(process";
            if pid {
                words[at] = "PID)".to_owned();
            }
        }
        lines.push(words.join(" "));
    }
    lines.join("\n") + "\n"
}

#[test]
fn help_of_every_command() {
    let root = TestRoot::new();
    insta::assert_snapshot!("help", root.kdk(&["--help"]).ok());
    for command in [
        "init",
        "config",
        "reconfigure",
        "diff-config",
        "start",
        "stop",
        "restart",
        "status",
        "tail",
        "kill",
        "trust-docker-registry",
        "login",
        "up",
        "logs",
        "roots",
        "doctor",
        "env",
        "user",
        "token",
        "registry",
        "completions",
        "man",
    ] {
        insta::assert_snapshot!(format!("help_{command}"), root.kdk(&[command, "--help"]).ok());
    }
}

#[test]
fn a_first_session() {
    let root = TestRoot::with_registry("");
    let mut session = String::new();
    for arguments in [
        &["config", "get", "registry.port"][..],
        &["status"],
        &["start"],
        &["reconfigure", "--dry-run"],
        &["reconfigure"],
        &["reconfigure"],
        &["start"],
        &["restart", "registry"],
        &["diff-config"],
        &["stop", "registry"],
        &["stop"],
        &["stop"],
        &["kill", "--yes"],
    ] {
        let output = root.kdk(arguments);
        session.push_str(&format!("$ kdk {}\n{}\n", arguments.join(" "), output.shown()));
    }
    insta::assert_snapshot!(stable(&root, &session));
}

#[test]
fn mistakes_get_one_sentence_each() {
    let root = TestRoot::with_registry("");
    let mut session = String::new();
    for arguments in [
        &["restrat"][..],
        &["start", "regstry"],
        &["start", "tunnel"],
        &["restart", "tunnel"],
        &["status", "nothing"],
        &["tail", "nothing", "--no-follow"],
        &["tail", "registry", "--no-follow", "--since", "yesterday"],
        &["kill"],
        &["user", "add", "Anna"],
        &["login"],
        &["registry", "token", "--scope", "repository:a:pull"],
        &["registry", "check-name", "_a/B-c:-x"],
        &["config", "get", "rails.port"],
        &["completions", "nosuchshell"],
        &["--root", "/nonexistent", "status"],
    ] {
        let output = root.kdk(arguments);
        assert_ne!(output.code, 0, "{arguments:?}");
        session.push_str(&format!("$ kdk {}\n{}\n", arguments.join(" "), output.shown()));
    }
    insta::assert_snapshot!(stable(&root, &session));
    let outside = temporary();
    let error = Output::of(
        Command::new(KDK)
            .args(["status"])
            .env_clear()
            .current_dir(outside.path()),
    )
    .fails(1);
    assert!(
        error.contains("is not in a KDK root") && error.contains("kdk init"),
        "{error}"
    );
}

#[test]
fn init_makes_a_root_once() {
    let parent = temporary();
    let init = || {
        let mut command = Command::new(KDK);
        command
            .args(["init", "kdk", "--with-registry"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir(parent.path());
        Output::of(&mut command)
    };
    let root = parent.path().join("kdk");
    // Where everybody may write, nothing is begun.
    std::fs::create_dir(&root).expect("made");
    std::fs::set_permissions(&root, PermissionsExt::from_mode(0o777)).expect("opened up");
    let refused = init().fails(1);
    assert!(refused.contains("chmod o-w"), "{refused}");
    assert_eq!(std::fs::read_dir(&root).expect("there").count(), 0);
    std::fs::remove_dir(&root).expect("removed");
    init().ok();
    let made = std::fs::read_to_string(root.join("kdk.yml")).expect("there");
    // Where the default ports are taken, others stand there.
    let is_the_same = |line: &&str| !line.is_empty() && !line.contains("port: ");
    let made: Vec<&str> = made.lines().filter(is_the_same).collect();
    insta::assert_snapshot!("init_kdk_yml", made.join("\n"));
    assert!(init().fails(1).contains("a KDK root already"));
    let make = Output::of(
        Command::new("make")
            .args(["-s", "reconfigure", "status"])
            .env("HOME", parent.path())
            .env("KDK", KDK)
            .current_dir(&root),
    )
    .ok();
    assert!(make.contains("rails-web"), "{make}");
}

#[test]
fn colour_is_for_terminals_only() {
    let root = TestRoot::with_registry("");
    for (no_color, expected) in [(false, true), (true, false)] {
        // `script` gives the command a terminal.
        let variable = if no_color { "NO_COLOR=1" } else { "TERM=xterm" };
        let line = format!("env {variable} {KDK} --root {} status", root.path().display());
        let output = Output::of(
            Command::new("script")
                .args(["-qec", &line, "/dev/null"])
                .env("TERM", "xterm")
                .env_remove("NO_COLOR"),
        )
        .ok();
        assert_eq!(output.contains("\u{1b}["), expected, "{output:?}");
    }
    assert!(!root.kdk(&["status"]).ok().contains('\u{1b}'));
}

#[test]
fn completions_and_man_pages_are_made() {
    let root = TestRoot::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = root.kdk(&["completions", shell]).ok();
        assert!(script.contains("KDK_COMPLETE"), "{shell}");
    }
    root.kdk(&["man", "pages"]).ok();
    assert!(
        root.read("pages/kdk-config-set.1").contains(".SH NAME") || root.read("pages/kdk-config-set.1").contains(".SH"),
        "no man page"
    );
    assert_eq!(
        root.kdk(&["version"]).ok(),
        format!("kdk {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(
        root.kdk(&["registry", "--version"])
            .ok()
            .contains(env!("CARGO_PKG_VERSION"))
    );
}

/// Hides secrets and dates, which change from run to run.
fn without_secrets(text: &str) -> String {
    let word = |word: &str| {
        if word.starts_with("khpat-") {
            return "khpat-SECRET".to_owned();
        }
        let date = word.len() == 10 && word.bytes().filter(|byte| *byte == b'-').count() == 2 && word.starts_with("20");
        let time = word.len() == 5 && word.as_bytes()[2] == b':';
        if date {
            "YYYY-MM-DD".to_owned()
        } else if time {
            "HH:MM".to_owned()
        } else {
            word.to_owned()
        }
    };
    text.split('\n')
        .map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn users_and_tokens() {
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    let mut session = String::new();
    for arguments in [
        &["user", "list"][..],
        &["user", "add", "anna"],
        &["user", "add", "anna"],
        &["token", "create", "--user", "anna", "--name", "laptop"],
        &["token", "create", "--user", "nobody"],
        &["token", "create", "--expires", "soon"],
        &["token", "list"],
        &["token", "revoke", "1"],
        &["token", "revoke", "1"],
        &[
            "registry",
            "token",
            "--user",
            "anna",
            "--scope",
            "repository:root/app:pull",
        ],
        &["registry", "token", "--scope", "nonsense"],
        &["user", "remove", "anna"],
        &["user", "remove", "anna", "--yes"],
        &["user", "list"],
        &["trust-docker-registry", "--remove"],
    ] {
        let output = root.kdk(arguments);
        session.push_str(&format!("$ kdk {}\n{}\n", arguments.join(" "), output.shown()));
    }
    insta::assert_snapshot!(without_secrets(&stable(&root, &session)));
}

/// An overview is read by people and by scripts in the same words, and fits.
#[test]
fn an_overview_says_what_runs_and_how_it_is() {
    let root = TestRoot::with_registry("");
    // Nothing is enabled that is not there.
    root.up();
    let job = root.service("registry");
    assert_eq!(
        (
            job["state"].as_str(),
            job["kind"].as_str(),
            job["settings_applied"].as_bool()
        ),
        (Some("up"), Some("embedded"), Some(true)),
        "{job}"
    );
    let shown = root.kdk(&["status"]).ok();
    assert!(shown.contains("  up") && shown.contains("embedded"), "{shown}");
    for columns in [60, 80] {
        let mut narrow = root.command(&["status"]);
        let shown = crate::support::Output::of(narrow.env("COLUMNS", columns.to_string())).ok();
        for line in shown.lines() {
            assert!(line.chars().count() <= columns, "{columns}: {line}");
        }
        assert!(
            shown.contains(&format!("http://127.0.0.1:{}", root.registry_port)),
            "{shown}"
        );
    }
    // What runs is what was rendered, whatever stands in the file since.
    let other = crate::support::port();
    root.kdk(&["config", "set", "registry.port", &other.to_string()]).ok();
    let said = root.kdk(&["status"]);
    assert!(
        said.stdout.contains(&format!(":{}", root.registry_port)) && !said.stdout.contains(&format!(":{other}")),
        "{}",
        said.stdout
    );
    assert!(
        said.stderr.contains("apply it with: kdk reconfigure"),
        "{}",
        said.stderr
    );
    root.kdk(&["config", "unset", "registry.port"]).ok();
    // One that should run and does not ends it badly, for scripts.
    root.kdk(&["config", "set", "registry.port", &root.registry_port.to_string()])
        .ok();
    root.kdk(&["kill", "--yes"]).ok();
    let said = root.kdk(&["status"]);
    assert_eq!(said.code, 0, "it was stopped on purpose: {}", said.stderr);
}
