//! Every fault, and what each place says of it: the client, the log, and
//! health on the debug listener.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_MANIFEST, digest};
use crate::support::{TestRegistry, temporary, wait};

/// What a place says.
struct Expected {
    /// Status and code for a push.
    push: (u16, &'static str),
    /// Status for a pull of what was there before.
    pull: u16,
    /// A part of the line of the push that failed.
    log: &'static str,
    /// A part of what health says; nothing when all is well.
    health: &'static str,
}

const DEBUG: &str = "    interval: 50ms\n    threshold: 1\n";

/// A registry with an image, and one that reads beside it, whose checks say how all is.
struct Pair {
    registry: TestRegistry,
    _watching: TestRegistry,
    health: String,
}

fn start(more: &str, env: &[(&str, &str)]) -> Pair {
    let debug = crate::support::port();
    let quiet = format!("log: {{accesslog: {{disabled: true}}}}\n{more}");
    let registry = TestRegistry::with(temporary(), &quiet, env);
    registry.push_image("a/b", "t", "before");
    let config = registry.directory.path().join("config.yml");
    let text = std::fs::read_to_string(&config).expect("read");
    let text = text.replace(
        "  addr: 127.0.0.1:0\n",
        &format!("  addr: 127.0.0.1:0\n  debug:\n    addr: 127.0.0.1:{debug}\n"),
    );
    let checks =
        format!("health:\n  storagedriver:\n    enabled: true\n{DEBUG}  database:\n    enabled: true\n{DEBUG}");
    let own = registry.directory.path().join("watching.yml");
    std::fs::write(&own, format!("{text}{checks}")).expect("written");
    let reads = [("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")];
    let watching = TestRegistry::on(temporary(), &own, &reads);
    Pair {
        registry,
        _watching: watching,
        health: format!("http://127.0.0.1:{debug}/debug/health"),
    }
}

#[track_caller]
fn check(fault: &str, pair: &Pair, expected: &Expected) {
    let (registry, health) = (&pair.registry, &pair.health);
    if !expected.health.is_empty() {
        wait(&format!("{fault}: health says so"), || {
            let said = registry.get(health).text().expect("read");
            said.contains(expected.health).then_some(())
        });
    }
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c/c","digest":"{}","size":12}},"layers":[],"annotations":{{"fault":"{fault}"}}}}"#,
        digest(b"layer before")
    );
    let push = registry.put_manifest("a/b", "moves", OCI_MANIFEST, manifest.as_bytes());
    let status = push.status().as_u16();
    let body = push.text().expect("read");
    assert_eq!(status, expected.push.0, "{fault}: {body}");
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    assert_eq!(
        answer["errors"][0]["code"].as_str().unwrap_or_default(),
        expected.push.1,
        "{fault}: {body}"
    );
    assert!(!body.contains("os error"), "{fault}: {body}");
    if !expected.log.is_empty() {
        let said = registry.wait_for_line(|line| {
            let is_own = line["msg"] == "request failed" && line["method"] == "PUT";
            is_own.then(|| line["error"].to_string())
        });
        assert!(said.contains(expected.log), "{fault}: {said}");
    }
    let pull = registry.get("/v2/a/b/manifests/t").status().as_u16();
    assert_eq!(pull, expected.pull, "{fault}");
    if expected.health.is_empty() {
        // A check whose own connection was cut says so until the next.
        wait(&format!("{fault}: health says that all is well"), || {
            (registry.get(health).status() == 200).then_some(())
        });
    }
}

#[test]
fn faults_of_the_storage_are_told_everywhere() {
    for (fault, place, log, push) in [
        (
            "no space for a file",
            "disk:write=full",
            "No space left",
            (507, "UNKNOWN"),
        ),
        (
            "no space for a name",
            "disk:rename=full",
            "No space left",
            (507, "UNKNOWN"),
        ),
        (
            "no space for a directory",
            "disk:make-directory=full",
            "No space left",
            (507, "UNKNOWN"),
        ),
        (
            "a write fails",
            "disk:write=fail",
            "Input/output error",
            (500, "UNKNOWN"),
        ),
        (
            "a name cannot be given",
            "disk:rename=fail",
            "Input/output error",
            (500, "UNKNOWN"),
        ),
        (
            "a sync fails",
            "disk:sync-all=fail;disk:sync-file=fail",
            "Input/output error",
            (500, "UNKNOWN"),
        ),
    ] {
        let release = temporary();
        // What is held goes on with the error; before, nothing is wrong.
        let begin = begin_with(place, &release);
        let pair = start("", &[("KDK_FAILPOINTS", &begin)]);
        std::fs::write(release.path().join("on"), "").expect("written");
        let expected = Expected {
            push,
            pull: 200,
            log,
            health: "",
        };
        check(fault, &pair, &expected);
    }
}

/// Lets faults begin when there is a file `on`.
fn begin_with(plan: &str, directory: &tempfile::TempDir) -> String {
    let on = directory.path().join("on");
    let points = plan
        .split(';')
        .map(|point| format!("{point}:{}", on.display()))
        .collect::<Vec<_>>();
    points.join(";")
}

#[test]
fn a_storage_that_hangs_or_is_gone_is_told_everywhere() {
    let pair = start("", &[]);
    let registry = &pair.registry;
    let storage: PathBuf = registry.directory.path().join("storage");
    let aside = registry.directory.path().join("aside");
    std::fs::rename(&storage, &aside).expect("moved");
    std::fs::write(&storage, "a file in its place").expect("written");
    // Nothing is there, and nothing can be put there.
    std::thread::sleep(std::time::Duration::from_millis(5100));
    let gone = Expected {
        push: (400, "MANIFEST_BLOB_UNKNOWN"),
        pull: 404,
        log: "",
        health: "Not a directory",
    };
    check("the directory is gone", &pair, &gone);
    std::fs::remove_file(&storage).expect("removed");
    std::fs::rename(&aside, &storage).expect("moved back");
    wait("it recovers", || {
        (registry.get("/v2/a/b/manifests/t").status() == 200).then_some(())
    });
}

#[test]
fn faults_of_the_database_are_told_everywhere() {
    let mut postgres = TestPostgres::start();
    postgres.make_template();
    postgres.database("registry_dev");
    postgres.sql(
        "postgres",
        "CREATE ROLE registry SUPERUSER LOGIN; ALTER DATABASE registry_dev OWNER TO registry",
    );
    let section = format!(
        "database:\n  enabled: true\n  host: {}\n  user: registry\n  dbname: registry_dev\n  sslmode: disable\n  requesttimeout: 2s\n",
        postgres.socket.display()
    );
    let pair = start(&section, &[]);
    let registry = &pair.registry;
    let away = |log, health| Expected {
        push: (503, "UNAVAILABLE"),
        pull: 503,
        log,
        health,
    };
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kdk registry'";
    let recovers = |what: &str| {
        wait(&format!("{what}: it recovers"), || {
            (registry.get("/v2/a/b/manifests/t").status() == 200).then_some(())
        });
    };
    for (fault, begin, end, log) in [
        (
            "no login",
            "ALTER ROLE registry NOLOGIN",
            "ALTER ROLE registry LOGIN",
            "is not permitted to log in",
        ),
        (
            "no connections",
            "ALTER ROLE registry NOSUPERUSER CONNECTION LIMIT 0",
            "ALTER ROLE registry SUPERUSER CONNECTION LIMIT -1",
            "too many connections for role",
        ),
        (
            "no database",
            "ALTER DATABASE registry_dev RENAME TO aside",
            "ALTER DATABASE aside RENAME TO registry_dev",
            "does not exist",
        ),
        (
            "closed for all",
            "ALTER ROLE registry NOSUPERUSER; ALTER DATABASE registry_dev WITH ALLOW_CONNECTIONS false",
            "ALTER DATABASE registry_dev WITH ALLOW_CONNECTIONS true; ALTER ROLE registry SUPERUSER",
            "not currently accepting connections",
        ),
    ] {
        // A database in use cannot be renamed.
        wait("it begins", || {
            postgres.sql("postgres", cut);
            postgres.try_sql("postgres", begin).then_some(())
        });
        postgres.sql("postgres", cut);
        check(fault, &pair, &away(log, "is not available"));
        postgres.sql("postgres", end);
        recovers(fault);
    }
    postgres.sql(
        "registry_dev",
        "ALTER DATABASE registry_dev SET default_transaction_read_only = on",
    );
    postgres.sql("postgres", cut);
    let readonly = Expected {
        push: (503, "UNAVAILABLE"),
        pull: 200,
        log: "read-only transaction",
        health: "",
    };
    check("a standby", &pair, &readonly);
    postgres.sql(
        "postgres",
        "ALTER DATABASE registry_dev RESET default_transaction_read_only",
    );
    postgres.sql("postgres", cut);
    recovers("a standby");
    postgres.signal("STOP");
    check("frozen", &pair, &away("does not answer", "does not answer"));
    postgres.signal("CONT");
    recovers("frozen");
    postgres.kill();
    check("killed", &pair, &away("is not available", "is not available"));
    postgres.start_again();
    recovers("killed");
    // Of a backup, perhaps: another database, with nothing in it.
    wait("it is exchanged", || {
        postgres.sql("postgres", cut);
        postgres
            .try_sql("postgres", "ALTER DATABASE registry_dev RENAME TO aside")
            .then_some(())
    });
    postgres.sql("postgres", "CREATE DATABASE registry_dev OWNER registry");
    check("no schema", &pair, &away("has no schema", "has no schema"));
}
