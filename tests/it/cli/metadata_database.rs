//! The user document's "Metadata Database": a new registry, the import of an
//! existing one, and starting over.

use std::process::Command;

use serde_json::Value;

use crate::support::postgres::programs;
use crate::support::registry::TestRegistry;
use crate::support::{Output, TestRoot, temporary};

const OPEN: &str = "  auth_enabled: false\n";

fn root(more: &str) -> TestRoot {
    TestRoot::with_registry(&format!("{OPEN}{more}"))
}

fn set(root: &TestRoot, key: &str, value: &str) {
    root.kdk(&["config", "set", key, value]).ok();
}

/// Pushes an image with skopeo and returns its digest.
fn push(root: &TestRoot, name: &str, seed: &str) -> String {
    let layout = temporary();
    crate::support::image::layout(layout.path(), seed);
    let address = format!("docker://127.0.0.1:{}/{name}", root.registry_port);
    let mut command = Command::new("skopeo");
    command.args(["copy", "-q", "--dest-tls-verify=false"]);
    Output::of(
        command
            .arg(format!("oci:{}:image", layout.path().display()))
            .arg(&address),
    )
    .ok();
    digest_of(root, name).expect("pushed")
}

fn digest_of(root: &TestRoot, name: &str) -> Option<String> {
    let address = format!("docker://127.0.0.1:{}/{name}", root.registry_port);
    let mut command = Command::new("skopeo");
    let output = Output::of(command.args(["inspect", "--tls-verify=false", &address]));
    if output.code != 0 {
        return None;
    }
    let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
    Some(answer["Digest"].as_str().expect("text").to_owned())
}

/// "Use a new registry".
#[test]
fn a_new_registry_uses_the_database() {
    let root = root("  database:\n    enabled: true\n");
    let done = root.kdk(&["reconfigure"]);
    assert!(done.stderr.contains("new database registry_dev"), "{}", done.stderr);
    done.ok();
    root.kdk(&["restart", "registry"]).ok();
    let service = root.service("postgresql");
    assert_eq!((&service["state"], &service["health"]), (&"up".into(), &"ok".into()));
    assert_eq!(service["kind"], "binary");
    assert!(
        service["version"].as_str().is_some_and(|version| version.contains('.')),
        "{service}"
    );
    let digest = push(&root, "group/project/image:1.0", "one");
    let count = root.kdk(&["psql", "-A", "-t", "-c", "SELECT count(*) FROM tags"]).ok();
    assert_eq!(count, "1\n");
    // Once more changes nothing, and a restart of everything neither.
    assert!(root.kdk(&["reconfigure"]).shown().contains("Nothing to change"));
    root.kdk(&["restart"]).ok();
    assert_eq!(digest_of(&root, "group/project/image:1.0"), Some(digest));
    let status = root.kdk(&["registry", "database", "migrate", "status"]).ok();
    assert!(!status.contains("| no "), "{status}");
    // As root, PostgreSQL's data are elsewhere, and found when the link to them is lost.
    let link = root.join("postgresql");
    if link.is_symlink() {
        root.kdk(&["stop"]).ok();
        std::fs::remove_file(&link).expect("removed");
        root.kdk(&["start"]).ok();
        assert!(digest_of(&root, "group/project/image:1.0").is_some());
        // What is in its place is nobody's to remove.
        root.kdk(&["stop"]).ok();
        std::fs::remove_file(&link).expect("removed");
        std::fs::write(&link, "mine").expect("written");
        let refused = root.kdk(&["start"]).refused();
        assert!(refused.contains("is in the way"), "{refused}");
        std::fs::remove_file(&link).expect("removed");
        root.kdk(&["start"]).ok();
        assert!(digest_of(&root, "group/project/image:1.0").is_some());
    }
    // Without the database it would seem empty.
    set(&root, "registry.database.enabled", "false");
    let running = root.pid("registry");
    let refused = root.kdk(&["reconfigure"]).refused();
    assert!(
        refused.contains("database-in-use") && refused.contains("nothing was written"),
        "{refused}"
    );
    let planned = root.kdk(&["reconfigure", "--dry-run"]).refused();
    assert!(planned.contains("database-in-use"), "{planned}");
    assert_eq!(root.pid("registry"), running, "it was stopped");
    set(&root, "registry.database.enabled", "true");
    root.kdk(&["reconfigure"]).ok();
    root.kdk(&["start"]).ok();
    // Another database is another registry.
    set(&root, "registry.database.dbname", "other");
    let other = root.kdk(&["reconfigure"]);
    assert!(other.stderr.contains("set it back"), "{}", other.stderr);
    other.ok();
    assert_eq!(digest_of(&root, "group/project/image:1.0"), None);
    root.kdk(&["config", "unset", "registry.database.dbname"]).ok();
    let back = root.kdk(&["reconfigure"]);
    assert!(!back.stderr.contains("set it back"), "{}", back.stderr);
    back.ok();
    assert!(digest_of(&root, "group/project/image:1.0").is_some());
    // Offline garbage collection would eat what only the database knows.
    let refused = root.kdk(&["registry", "garbage-collect", "--dry-run"]).refused();
    assert!(refused.contains("in a database"), "{refused}");
    // Starting over.
    let refused = root.kdk(&["reset-registry-data"]).refused();
    assert!(refused.contains("--yes"), "{refused}");
    let refused = root
        .kdk(&["reset-registry-data", "--yes", "--database", "other"])
        .refused();
    assert!(refused.contains("other is not the metadata database"), "{refused}");
    assert!(digest_of(&root, "group/project/image:1.0").is_some());
    let done = root.kdk(&["reset-registry-data", "--yes"]);
    assert!(done.stderr.contains("stay in the storage"), "{}", done.stderr);
    done.ok();
    assert_eq!(digest_of(&root, "group/project/image:1.0"), None);
    push(&root, "group/project/image:1.0", "one");
    // Data that are gone are not replaced by empty ones without a word.
    root.kdk(&["stop"]).ok();
    std::fs::remove_dir_all(root.join("postgresql/data")).expect("removed");
    let migrate: &[&str] = &["registry", "database", "migrate", "status"];
    for command in [&["start"], migrate, &["reconfigure"]] {
        let refused = root.kdk(command).refused();
        assert!(
            refused.contains("are gone") && refused.contains("kdk reset-registry-data"),
            "{refused}"
        );
    }
    // What an initdb that was killed leaves behind does no harm.
    std::fs::create_dir_all(root.join("postgresql/data.new")).expect("made");
    std::fs::write(root.join("postgresql/data.new/PG_VERSION"), "15\n").expect("written");
    root.kdk(&["reset-registry-data", "--yes"]).ok();
    root.kdk(&["start"]).ok();
    assert_eq!(digest_of(&root, "group/project/image:1.0"), None);
    let refused = root
        .kdk(&["config", "set", "registry.database.dbname", "template1"])
        .refused();
    assert!(refused.contains("needs for itself"), "{refused}");
    root.kdk(&["stop"]).ok();
    crate::support::wait("nothing runs any more", || root.processes().is_empty().then_some(()));
}

/// "Use existing registries", with images that docker-registry took, and some
/// that are broken.
#[test]
fn an_existing_registry_is_imported() {
    let root = root("");
    root.kdk(&["reconfigure"]).ok();
    {
        // The same rendered file, the same storage.
        let config = root.read("registry/config.yml");
        let path = root.join("registry/docker.yml");
        std::fs::write(&path, config).expect("written");
        let _docker = TestRegistry::docker(temporary(), &path);
        push(&root, "group/project/image:1.0", "one");
        push(&root, "group/project/image:2.0", "two");
        push(&root, "other/image:latest", "three");
        push(&root, "broken/image:latest", "four");
    }
    let kept: Vec<(&str, String)> = {
        root.kdk(&["start"]).ok();
        let kept = [
            "group/project/image:1.0",
            "group/project/image:2.0",
            "other/image:latest",
        ]
        .map(|name| (name, digest_of(&root, name).expect("there")));
        kept.to_vec()
    };
    let broken = digest_of(&root, "broken/image:latest").expect("there");
    let hex = broken.strip_prefix("sha256:").expect("sha256");
    let blobs = root.join("registry/storage/docker/registry/v2/blobs/sha256");
    std::fs::remove_dir_all(blobs.join(&hex[..2]).join(hex)).expect("removed");

    // In a registry that takes pushes an import would miss some.
    let refused = root.kdk(&["import-registry-data", "--yes"]).refused();
    assert!(
        refused.contains("read_only_maintenance_enabled: true (it is false)"),
        "{refused}"
    );
    let config = root.join("registry/config.yml");
    let refused = root
        .kdk(&["registry", "database", "import", config.to_str().expect("UTF-8")])
        .refused();
    assert!(refused.contains("takes pushes"), "{refused}");
    root.kdk(&["stop", "registry"]).ok();
    set(&root, "registry.read_only_maintenance_enabled", "true");
    let refused = root.kdk(&["import-registry-data", "--yes"]).refused();
    assert!(refused.contains("kdk reconfigure"), "{refused}");
    root.kdk(&["reconfigure"]).ok();
    assert!(root.kdk(&["import-registry-data"]).refused().contains("--yes"));
    let planned = root.kdk(&["import-registry-data", "--dry-run"]);
    assert!(planned.stderr.contains("Nothing was written"), "{}", planned.stderr);
    let done = root.kdk(&["import-registry-data", "--yes", "--row-count"]);
    assert!(
        done.stderr.contains("broken/image@sha256:") && done.stderr.contains("is left out"),
        "{}",
        done.stderr
    );
    // The backup that is proposed is a line that a shell takes.
    let proposed = done.stderr.lines().find_map(|line| line.split_once("such as with: "));
    let (_, copy) = proposed.unwrap_or_else(|| panic!("{}", done.stderr));
    Output::of(Command::new("sh").args(["-c", copy])).ok();
    assert!(
        root.join("registry/storage.backup/docker/registry/v2").is_dir(),
        "{copy}"
    );
    let said = done.ok();
    assert!(said.contains("registry import complete\n"), "{said}");
    assert!(
        said.lines()
            .any(|line| line.starts_with("tags ") && line.ends_with(" 3")),
        "{said}"
    );
    // Twice would mix what is there with what was.
    let refused = root.kdk(&["import-registry-data", "--yes"]).refused();
    assert!(refused.contains("has repositories already"), "{refused}");

    root.kdk(&["config", "unset", "registry.read_only_maintenance_enabled"])
        .ok();
    set(&root, "registry.database.enabled", "true");
    root.kdk(&["reconfigure"]).ok();
    root.kdk(&["restart", "registry"]).ok();
    for (name, digest) in &kept {
        assert_eq!(digest_of(&root, name).as_ref(), Some(digest), "{name}");
    }
    let pulled = temporary();
    let mut command = Command::new("skopeo");
    command.args(["copy", "-q", "--src-tls-verify=false"]);
    let from = format!("docker://127.0.0.1:{}/other/image:latest", root.registry_port);
    Output::of(command.arg(from).arg(format!("dir:{}", pulled.path().display()))).ok();
    push(&root, "group/project/image:3.0", "five");
    root.kdk(&["stop"]).ok();
}

/// What is missing is named, with what to do, and the rest goes on.
#[test]
fn without_postgresql_the_others_run() {
    let root = root("  database:\n    enabled: true\npostgresql:\n  bin_dir: /nowhere\n");
    let refused = root.kdk(&["reconfigure"]).refused();
    assert!(
        refused.contains("PostgreSQL 15 or later is not installed") && refused.contains("install"),
        "{refused}"
    );
    let refused = root.kdk(&["start"]).refused();
    assert!(refused.contains("PostgreSQL 15 or later is not installed"), "{refused}");
    assert_eq!(root.service("rails-web")["state"], "up");
    assert_eq!(root.service("registry")["state"], "up");
    let away = reqwest::blocking::get(root.registry_url("/v2/_catalog")).expect("answered");
    assert_eq!(away.status(), 503);
    // Once it is there, all is well.
    set(&root, "postgresql.bin_dir", programs().to_str().expect("UTF-8"));
    root.kdk(&["reconfigure"]).ok();
    root.kdk(&["start"]).ok();
    let back = reqwest::blocking::get(root.registry_url("/v2/_catalog")).expect("answered");
    assert_eq!(back.status(), 200);
    root.kdk(&["stop"]).ok();
}

/// Pulled from under the registry: it says so, and goes on when it is back.
#[test]
fn postgresql_is_killed_and_comes_back() {
    let root = root("  database:\n    enabled: true\n");
    root.up();
    let digest = push(&root, "group/image:1", "one");
    let pid = root.pid("postgresql");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("sent");
    crate::support::wait("the image is there again", || {
        (digest_of(&root, "group/image:1").as_ref() == Some(&digest) && root.pid("postgresql") != pid).then_some(())
    });
    root.kdk(&["stop"]).ok();
}

/// What `registry.env` says to the service holds for the commands, too.
#[test]
fn the_environment_of_the_registry_reaches_its_commands() {
    let postgres = crate::support::postgres::TestPostgres::shared();
    postgres.database("by_environment");
    let root = root("");
    for (name, value) in [
        ("HOST", postgres.socket.display().to_string()),
        ("PORT", postgres.port.to_string()),
        ("USER", "postgres".to_owned()),
        ("DBNAME", "by_environment".to_owned()),
    ] {
        set(&root, &format!("registry.env.REGISTRY_DATABASE_{name}"), &value);
    }
    root.kdk(&["reconfigure"]).ok();
    let version = root.kdk(&["registry", "database", "migrate", "version"]).ok();
    assert_eq!(version, "20251021070732_bbm_backfill_blobs_id_column\n");
    // Named by its path, it is the same file.
    let path = root.path().join("registry/config.yml").display().to_string();
    let again = root.kdk(&["registry", "database", "migrate", "version", &path]).ok();
    assert_eq!(again, version);
    // It is not the one that kdk.yml names, which would be emptied otherwise.
    let refused = root.kdk(&["reset-registry-data", "--yes"]).refused();
    assert!(refused.contains("by_environment"), "{refused}");
    postgres.forget("by_environment");
}

/// The steps one by one, and what each command needs that is not there yet.
#[test]
fn each_step_takes_what_it_needs() {
    let root = root("");
    root.kdk(&["reconfigure"]).ok();
    let refused = root.kdk(&["psql", "-c", "SELECT 1"]).refused();
    assert!(refused.contains("postgresql.enabled true"), "{refused}");
    root.kdk(&["start"]).ok();
    let one = push(&root, "a/b:1", "one");
    let refused = root.kdk(&["registry", "database", "import", "--step-one"]).refused();
    assert!(refused.contains("kdk stop registry"), "{refused}");
    root.kdk(&["stop", "registry"]).ok();
    // PostgreSQL is not enabled: it runs while it is needed.
    root.kdk(&["registry", "database", "import", "--step-one"]).ok();
    let refused = root.kdk(&["psql", "-c", "SELECT 1"]).refused();
    assert!(refused.contains("does not run"), "{refused}");
    root.kdk(&["registry", "database", "migrate", "status", "--up-to-date"])
        .ok();
    root.kdk(&["start", "registry"]).ok();
    let two = push(&root, "a/b:2", "two");
    root.kdk(&["stop", "registry"]).ok();
    // The registry would refuse: said before anything is changed for it.
    set(&root, "registry.database.enabled", "true");
    let early = root.kdk(&["reconfigure"]).refused();
    assert!(
        early.contains("nothing was written") && early.contains("import-registry-data"),
        "{early}"
    );
    set(&root, "registry.database.enabled", "false");
    root.kdk(&["registry", "database", "import", "--step-two"]).ok();
    set(&root, "registry.database.enabled", "true");
    root.kdk(&["reconfigure"]).ok();
    let planned = root.kdk(&["registry", "database", "import", "--dry-run"]).refused();
    assert!(planned.contains("would be refused"), "{planned}");
    root.kdk(&["start"]).ok();
    assert_eq!(digest_of(&root, "a/b:1"), Some(one));
    assert_eq!(digest_of(&root, "a/b:2"), Some(two));
    root.kdk(&["registry", "database", "import", "--step-three"]).ok();
    let again = root.kdk(&["registry", "database", "import", "--step-three"]);
    assert!(
        again
            .stdout
            .contains("0 repositories, 0 tags, 0 manifests, 0 blobs (0 B)"),
        "{}",
        again.stderr
    );
    again.ok();
    // Commands that need PostgreSQL for a moment do not take it from each other.
    root.kdk(&["stop"]).ok();
    let statuses: Vec<i32> = std::thread::scope(|scope| {
        let version = || root.kdk(&["registry", "database", "migrate", "version"]).code;
        let all: Vec<_> = (0_u64..4)
            .map(|number| {
                scope.spawn(move || {
                    std::thread::sleep(std::time::Duration::from_millis(150 * number));
                    version()
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("ended")).collect()
    });
    assert_eq!(statuses, [0; 4]);
    let refused = root.kdk(&["psql", "-c", "SELECT 1"]).refused();
    assert!(refused.contains("does not run"), "{refused}");
    let well = root.kdk(&["registry", "verify"]).ok();
    assert!(well.contains("2 manifests in 1 repositories: all is well"), "{well}");
    // One that is killed leaves it running; the next that needs it ends it.
    let mut killed = Command::new(crate::support::KDK)
        .args(["registry", "database", "import", "--step-three"])
        .env("KDK_ROOT", root.path())
        .spawn()
        .expect("started");
    let borrowed = root.join(".kdk/postgresql.borrowed");
    crate::support::wait("PostgreSQL is started for it", || borrowed.exists().then_some(()));
    killed.kill().expect("killed");
    killed.wait().expect("reaped");
    assert!(borrowed.exists());
    root.kdk(&["registry", "database", "migrate", "version"]).ok();
    assert!(!borrowed.exists());
    let refused = root.kdk(&["psql", "-c", "SELECT 1"]).refused();
    assert!(refused.contains("does not run"), "{refused}");
    // Nor from who began to need it meanwhile.
    std::thread::scope(|scope| {
        let imports = scope.spawn(|| root.kdk(&["registry", "database", "import", "--step-three"]));
        root.kdk(&["start"]).ok();
        imports.join().expect("ended").ok();
    });
    assert!(digest_of(&root, "a/b:1").is_some());
    // Tokens name the project, as Rails' do where it renames one.
    let token = root
        .kdk(&[
            "registry",
            "token",
            "--scope",
            "repository:a/b:pull,push",
            "--scope",
            "repository:a/b/*:pull",
        ])
        .ok();
    let payload = token.trim().split('.').nth(1).expect("a payload");
    let payload = data_encoding::BASE64URL_NOPAD
        .decode(payload.as_bytes())
        .expect("base64");
    let claims: Value = serde_json::from_slice(&payload).expect("JSON");
    for number in 0..2 {
        assert_eq!(claims["access"][number]["meta"]["project_path"], "a/b");
    }
    root.kdk(&["stop"]).ok();
}
