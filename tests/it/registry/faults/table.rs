//! Every fault, and what each place says of it: the client, the log, health on
//! the debug listener, the version check, `kdk status`.

use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_MANIFEST, digest, header};
use crate::support::{TestRegistry, TestRoot, temporary, wait};

/// What a place says.
struct Expected {
    /// Status and code for a push.
    push: (u16, &'static str),
    /// Status for a pull of what was there before.
    pull: u16,
    /// A part of the line of the push that failed.
    log: &'static str,
    /// A part of what health says.
    health: &'static str,
    /// A part of what the version check warns of, and `kdk status` with it.
    status: &'static str,
}

const NO_SPACE: &str = "no space left on the registry's storage: pushes fail, pulls go on";
const STORAGE: &str = "the registry's storage fails or does not answer";
const DATABASE: &str = "the metadata database is not available";

/// A root with a registry that has an image.
struct Pair {
    root: TestRoot,
    registry: TestRegistry,
    health: String,
}

/// Starts one with more settings of the registry.
fn start(more: &str) -> Pair {
    let debug = crate::support::port();
    let root = TestRoot::with_registry(&format!(
        "  auth_enabled: false\n  debug_addr: 127.0.0.1:{debug}\n  health_storagedriver_enabled: false\n{more}"
    ));
    root.up();
    let registry = TestRegistry::in_root(&root);
    registry.push_image("a/b", "t", "before");
    assert_eq!(root.service("registry")["health"], "ok");
    Pair {
        root,
        registry,
        health: format!("http://127.0.0.1:{debug}/debug/health"),
    }
}

fn failpoints(plan: &str) -> String {
    format!("  env: {{KDK_FAILPOINTS: \"{plan}\"}}\n")
}

#[track_caller]
fn check(fault: &str, pair: &Pair, expected: &Expected) {
    let registry = &pair.registry;
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c/c","digest":"{}","size":12}},"layers":[],"annotations":{{"fault":"{fault}"}}}}"#,
        digest(b"layer before")
    );
    let push = registry.put_manifest("a/b", "moves", OCI_MANIFEST, manifest.as_bytes());
    let status = push.status().as_u16();
    let body = push.text().expect("read");
    assert_eq!(status, expected.push.0, "{fault}: {body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
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
    told(fault, pair, expected.health, expected.status);
}

/// Waits until health says it; the version check and `kdk status` do then.
#[track_caller]
fn told(fault: &str, pair: &Pair, health: &str, status: &str) {
    let mut said = String::new();
    wait(&format!("{fault}: health says {health}"), || {
        let answer = pair.registry.get(&pair.health);
        // No check is configured: nothing is turned off.
        assert_eq!(answer.status(), 200, "{fault}");
        said = answer.text().expect("read");
        said.contains(health).then_some(())
    });
    let version = pair.registry.get("/v2/");
    assert_eq!(version.status(), 200, "{fault}");
    assert_eq!(header(&version, "warning"), format!("299 - \"{status}\""), "{fault}");
    let service = pair.root.service("registry");
    assert_eq!(service["health"], "degraded", "{fault}");
    let reason = service["reason"].as_str().expect("text");
    let told = format!("{status}; see: kdk tail registry; last error there: ");
    assert!(
        reason.starts_with(&told) && reason.len() > told.len() + 10,
        "{fault}: {reason}"
    );
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
        let pair = start(&failpoints(&begin));
        std::fs::write(release.path().join("on"), "").expect("written");
        let expected = Expected {
            push,
            pull: 200,
            log,
            health: log,
            status: if push.0 == 507 { NO_SPACE } else { STORAGE },
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
fn a_storage_that_hangs_is_told_everywhere() {
    let release = temporary();
    let hold = release.path().join("go");
    std::fs::write(&hold, "").expect("written");
    let pair = start(&failpoints(&format!("disk:any=hold:{}", hold.display())));
    std::fs::remove_file(&hold).expect("removed");
    told("it hangs", &pair, "it does not answer", STORAGE);
    std::fs::write(&hold, "").expect("written");
    assert_eq!(pair.registry.get("/v2/a/b/manifests/t").status(), 200);
    wait("it is told no more", || {
        (pair.root.service("registry")["health"] == "ok").then_some(())
    });
    assert_eq!(pair.registry.get(&pair.health).text().expect("read"), "{}\n");
}

#[test]
fn a_storage_that_is_gone_is_told_everywhere() {
    let pair = start("");
    let registry = &pair.registry;
    let storage = pair.root.join("registry/storage");
    let aside = pair.root.join("aside");
    std::fs::rename(&storage, &aside).expect("moved");
    std::fs::write(&storage, "a file in its place").expect("written");
    // Nothing is there, and nothing can be put there.
    std::thread::sleep(std::time::Duration::from_millis(5100));
    let gone = Expected {
        push: (400, "MANIFEST_BLOB_UNKNOWN"),
        pull: 404,
        log: "",
        health: "Not a directory",
        status: STORAGE,
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
        "  database: {{enabled: true, host: {}, user: registry, dbname: registry_dev}}\n  config: {{database: {{requesttimeout: 2s}}}}\n",
        postgres.socket.display()
    );
    let pair = start(&section);
    let registry = &pair.registry;
    let away = |log, health| Expected {
        push: (503, "UNAVAILABLE"),
        pull: 503,
        log,
        health,
        status: DATABASE,
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
        check(fault, &pair, &away(log, log));
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
        health: "read-only transaction",
        status: DATABASE,
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
