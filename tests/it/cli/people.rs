//! What is made for people who watch: `tail`, `status --watch`, `open`, `report`.

use std::process::Command;

use crate::support::{KDK, Output, TestRoot, wait};

/// Runs a command in a terminal, without colours.
fn in_terminal(root: &TestRoot, line: &str) -> Output {
    let line = format!("env TERM=xterm NO_COLOR=1 HOME={0}/home {line}", root.path().display());
    let line = line.replace("kdk ", &format!("{KDK} --root {} ", root.path().display()));
    Output::of(Command::new("script").args(["-qec", &line, "/dev/null"]))
}

#[test]
fn a_log_is_short_on_a_terminal_and_as_stored_in_a_pipe() {
    let root = TestRoot::with_registry("  auth_enabled: false\n");
    root.up();
    let client = reqwest::blocking::Client::builder()
        .user_agent("probe/1.0 (it)")
        .build()
        .expect("a client");
    for path in ["/v2/", "/v2/a/b/manifests/v1", "/v2/c/tags/list"] {
        client.get(root.registry_url(path)).send().expect("answered");
    }
    let stored = wait("the requests are logged", || {
        let stored = root.kdk(&["tail", "registry", "--no-follow", "-n", "50"]).ok();
        (stored.matches("probe/1.0").count() == 3).then_some(stored)
    });
    assert!(stored.contains(r#""msg":"access""#), "{stored}");
    let short = in_terminal(&root, "kdk tail registry --no-follow -n 50").ok();
    assert!(!short.contains("{\""), "{short}");
    assert!(short.contains("registry GET    /v2/a/b/manifests/v1 404 "), "{short}");
    // The documents tell people to look for the version where it starts.
    let start = short
        .lines()
        .find(|line| line.contains("listening on"))
        .unwrap_or_default();
    assert!(start.contains("version=v"), "{short}");
    assert!(
        in_terminal(&root, "kdk tail registry --no-follow --raw")
            .ok()
            .contains(r#""msg":"access""#)
    );
    let only = |arguments: &[&str]| {
        let arguments = [&["tail", "registry", "--no-follow"], arguments].concat();
        let said = root.kdk(&arguments).ok();
        said.lines().filter(|line| line.contains("probe/1.0")).count()
    };
    assert_eq!(only(&["--status", "404"]), 2);
    assert_eq!(only(&["--status", "2xx"]), 1);
    assert_eq!(only(&["--repo", "a/b"]), 1);
    assert_eq!(only(&["--grep", "tags/list|manifests"]), 2);
    assert_eq!(only(&["--grep", "GET +/v2/c/tags/list 404"]), 1);
    assert_eq!(only(&["--level", "error"]), 0);
    assert!(root.kdk(&["tail", "--grep", "("]).fails(2).contains("--grep"));
    assert!(root.kdk(&["tail", "--status", "abc"]).fails(2).contains("404 or 5xx"));
}

#[test]
fn a_status_is_looked_at_again_and_again() {
    let root = TestRoot::with_registry("");
    root.up();
    let refused = root.kdk(&["status", "--watch"]).fails(1);
    assert!(
        refused.contains("needs a terminal") && refused.contains("--json"),
        "{refused}"
    );
    let shown = in_terminal(&root, "timeout 3 kdk status --watch");
    assert!(shown.stdout.matches("again in 2 s").count() >= 2, "{}", shown.stdout);
    assert!(shown.stdout.matches("rails-web").count() >= 2, "{}", shown.stdout);
}

#[test]
fn pages_are_opened_or_named() {
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    let print = |what: &[&str]| root.kdk(&[&["open", "--print"], what].concat()).ok().trim().to_owned();
    assert_eq!(print(&[]), root.rails_url("/"));
    assert_eq!(
        print(&["group/project"]),
        root.rails_url("/group/project/container_registry")
    );
    assert_eq!(print(&["registry"]), root.registry_url("/v2/"));
    for what in ["a b", "../..", "a//b"] {
        assert!(root.kdk(&["open", what]).fails(1).contains("no path of a project"));
    }
    // What opens it gets the address alone, and no shell.
    root.write("bin/xdg-open", "#!/bin/sh\nprintf '%s\\n' \"$@\" > \"$0.log\"\n");
    let program = root.join("bin/xdg-open");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let mut open = root.command(&["open", "group/project"]);
    open.env("PATH", format!("{}:/usr/bin:/bin", root.join("bin").display()));
    Output::of(&mut open).ok();
    assert_eq!(
        root.read("bin/xdg-open.log").trim(),
        root.rails_url("/group/project/container_registry")
    );
}

#[test]
fn a_report_has_all_but_secrets() {
    const PASSWORD: &str = "pass-word-of-the-database";
    let root = TestRoot::with_registry(&format!(
        "  notification_secret: hush-hush-hush\n  env: {{AWS_SESSION: from-the-environment, GITHUB_PAT: ghp}}\n  notifications:\n    endpoints:\n      - {{name: other, url: 'http://127.0.0.1:9/', headers: {{X-Custom: [a-header-of-mine]}}}}\n  database:\n    password: {PASSWORD}\nrunner:\n  enabled: true\n  token: glrt-abcdefgh\n"
    ));
    root.up();
    let token = root.token();
    // One that somebody put where it does not belong.
    let leaked = reqwest::blocking::Client::new().get(root.registry_url(&format!("/v2/{token}/tags/list")));
    leaked.send().expect("answered");
    let query = root.registry_url("/v2/?account=x&password=in-a-query&access_token=tok");
    reqwest::blocking::get(query).expect("answered");
    let settings = root.read("kdk.yml");
    root.write("kdk.yml", &format!("# the password is in-a-remark\n{settings}"));
    let secrets: serde_json::Value = serde_json::from_str(&root.read(".kdk/secrets.json")).expect("JSON");
    let kept: Vec<&str> = secrets
        .as_object()
        .expect("a map")
        .values()
        .filter_map(|value| value.as_str())
        .collect();
    root.kdk(&["report", "--yes", "--output", "report.txt"]).ok();
    let text = root.read("report.txt");
    let mode = std::fs::metadata(root.join("report.txt")).expect("there").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    for part in [
        "## System",
        "$ kdk status",
        "$ kdk doctor",
        "## kdk.yml",
        "## registry/config.yml",
        "## Log of registry, last 200 lines",
        "listening on",
        "[redacted]",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for secret in [
        token.as_str(),
        "hush-hush-hush",
        PASSWORD,
        "glrt-abcdefgh",
        "PRIVATE KEY",
        "from-the-environment",
        "a-header-of-mine",
        "in-a-query",
        "access_token=tok",
        "in-a-remark",
        "ghp",
    ]
    .into_iter()
    .chain(kept)
    {
        assert!(!text.contains(secret), "{secret} is in the report");
    }
    assert!(root.kdk(&["report", "--print"]).ok().contains("## System"));
    // Of settings that cannot be read nobody can tell what in them is secret.
    let settings = root.read("kdk.yml");
    root.write("kdk.yml", "registry: {env: {A: not-to-be-seen}\n");
    let broken = root.kdk(&["report", "--print"]).ok();
    assert!(
        broken.contains("left out: it is no YAML") && !broken.contains("not-to-be-seen"),
        "{broken}"
    );
    root.write("kdk.yml", &settings);
    let refused = root.kdk(&["report"]).fails(1);
    assert!(refused.contains("--yes"), "{refused}");
    assert!(
        root.kdk(&["report", "--yes", "--output", "report.txt"])
            .fails(1)
            .contains("is there already")
    );
    let made = std::fs::read_dir(root.path()).expect("listed").flatten();
    assert!(
        !made
            .into_iter()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("kdk-report-"))
    );
}
