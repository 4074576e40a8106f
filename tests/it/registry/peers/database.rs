//! What a database does that files do not.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::registry::metadata::database::{ALL_DUE, QUICK_GC, collecting};
use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_MANIFEST, assert_error, digest, header};
use crate::support::{Face, KDK, Output, TestRegistry, temporary, wait};

fn blob_is_stored(registry: &TestRegistry, digest: &str) -> bool {
    let blobs = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/blobs/sha256");
    let hex = &digest[7..];
    blobs.join(&hex[..2]).join(hex).join("data").exists()
}

fn migrate(config: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(KDK);
    command.args(["registry", "database", "migrate"]).args(arguments);
    Output::of(command.arg(config))
}

/// Writes a configuration for a database, and returns where.
fn configuration(directory: &tempfile::TempDir, section: &str) -> std::path::PathBuf {
    let config = directory.path().join("config.yml");
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n{section}",
        directory.path().join("storage").display()
    );
    std::fs::write(&config, text).expect("written");
    config
}

/// A database of somebody else's orders names as it was made to. Pages follow
/// that order, and each name is on one of them.
#[test]
fn pages_follow_the_order_of_the_database() {
    let postgres = TestPostgres::shared();
    postgres.sql(
        "postgres",
        "CREATE DATABASE of_a_locale TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8'",
    );
    let directory = temporary();
    let section = postgres.section("of_a_locale", true);
    let config = configuration(&directory, &section);
    migrate(&config, &["up"]).ok();
    let registry = TestRegistry::on(directory, &config, &[]);
    let tags = ["B", "a", "C", "b", "A-1", "a_1", "0", "z", "Z"];
    let (content, _) = registry.push_image("a", "first", "x");
    for tag in tags {
        assert_eq!(registry.put_manifest("a", tag, OCI_MANIFEST, &content).status(), 201);
    }
    for name in ["a-b", "a/b", "a0", "b/a", "ab"] {
        registry.push_image(name, "t", name);
    }
    let all_by_one = |path: &str, key: &str| {
        let (mut found, mut next) = (Vec::new(), Some(format!("{path}?n=1")));
        while let Some(path) = next {
            let answer = registry.get(&path);
            let link = answer
                .headers()
                .get("link")
                .map(|link| link.to_str().expect("text").to_owned());
            next = link.and_then(|link| Some(link.trim_start_matches('<').split_once('>')?.0.to_owned()));
            let body: Value = answer.json().expect("JSON");
            let names = body[key].as_array().expect("a list").iter();
            found.extend(names.map(|name| name.as_str().expect("text").to_owned()));
            assert!(found.len() < 30, "it comes to no end: {found:?}");
        }
        found
    };
    for (path, key, mut expected) in [
        ("/v2/a/tags/list", "tags", [tags.as_slice(), &["first"]].concat()),
        (
            "/v2/_catalog",
            "repositories",
            vec!["a", "a-b", "a/b", "a0", "b/a", "ab"],
        ),
    ] {
        let whole: Value = registry.get(path).json().expect("JSON");
        let mut paged = all_by_one(path, key);
        assert_eq!(json!(paged), whole[key], "{path}");
        paged.sort();
        expected.sort_unstable();
        assert_eq!(paged, expected, "{path}");
    }
    drop(registry);
    postgres.forget("of_a_locale");
}

/// Who owns a database and nothing else makes the schema in it; an old server is told of.
#[test]
fn an_owner_without_more_rights_makes_the_schema() {
    let postgres = TestPostgres::shared();
    postgres.sql("postgres", "CREATE ROLE plain LOGIN");
    postgres.sql("postgres", "CREATE DATABASE plain_owned OWNER plain");
    let directory = temporary();
    let section = postgres
        .section("plain_owned", true)
        .replace("user: postgres", "user: plain");
    let config = configuration(&directory, &section);
    let done = migrate(&config, &["up"]).ok();
    assert!(
        done.contains("OK: applied 184 pre-deployment migration(s), 10 post"),
        "{done}"
    );
    let registry = TestRegistry::on(directory, &config, &[]);
    registry.push_image("a/b", "t", "x");
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
    drop(registry);
    postgres.forget("plain_owned");
    // A server that says it is older.
    postgres.sql("postgres", "CREATE DATABASE of_an_old_server");
    postgres.sql(
        "of_an_old_server",
        "CREATE SCHEMA fake;
        CREATE FUNCTION fake.current_setting(name text) RETURNS text LANGUAGE sql AS $$
            SELECT CASE name WHEN 'server_version_num' THEN '120011' WHEN 'server_version' THEN '12.11'
                ELSE pg_catalog.current_setting(name) END $$;
        ALTER DATABASE of_an_old_server SET search_path = fake, pg_catalog, public",
    );
    let directory = temporary();
    let config = configuration(&directory, &postgres.section("of_an_old_server", true));
    let refused = migrate(&config, &["up"]).refused();
    assert!(refused.contains("PostgreSQL 12.11 is too old"), "{refused}");
    postgres.forget("of_an_old_server");
}

/// What may follow while a registry serves may also stay away: imports and servers do without.
#[test]
fn half_a_schema_imports_and_serves() {
    let postgres = TestPostgres::shared();
    postgres.sql("postgres", "CREATE DATABASE half");
    let mut registry = TestRegistry::start();
    registry.push_image("a/b", "t", "x");
    registry.stop();
    let directory = std::mem::replace(&mut registry.directory, temporary());
    let config = configuration(&directory, &postgres.section("half", false));
    migrate(&config, &["up", "--skip-post-deployment"]).ok();
    let mut command = Command::new(KDK);
    command.args(["registry", "database", "import"]).arg(&config);
    Output::of(&mut command).ok();
    let config = configuration(&directory, &postgres.section("half", true));
    let registry = TestRegistry::on(directory, &config, &[]);
    registry.wait_for_line(|line| {
        let text = line["msg"].as_str()?;
        text.contains("of this version's migrations; run: kdk registry database migrate up")
            .then_some(())
    });
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
    registry.push_image("a/b", "u", "y");
    drop(registry);
    postgres.forget("half");
}

/// A repository may become that of its top-level namespace's first level, if it stays below that.
#[test]
fn a_repository_moves_to_the_namespace_itself() {
    let registry = Face::Database.start();
    registry.push_image("group/sub/project", "t", "x");
    let moved = registry
        .request("PATCH", "/gitlab/v1/repositories/group/sub/project/")
        .header("content-type", "application/json")
        .body(r#"{"namespace":"group"}"#)
        .send()
        .expect("answered");
    assert_eq!(moved.status(), 204, "{:?}", moved.text());
    let catalog: Value = registry.get("/v2/_catalog").json().expect("JSON");
    assert_eq!(catalog["repositories"], json!(["group/project"]));
    assert_eq!(registry.get("/v2/group/project/manifests/t").status(), 200);
    assert_error(
        registry.get("/v2/group/sub/project/manifests/t"),
        404,
        "MANIFEST_UNKNOWN",
    );
}

/// Who is in others' way each time is asked to come again, and has not hung.
#[test]
fn who_loses_every_time_is_asked_to_come_again() {
    let postgres = TestPostgres::shared();
    postgres.database("losing");
    let registry = TestRegistry::with(temporary(), &postgres.section("losing", true), &[]);
    let (content, _) = registry.push_image("a/b", "t", "x");
    postgres.sql(
        "losing",
        "CREATE SEQUENCE tries;
        CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM nextval('tries');
            RAISE EXCEPTION 'in the way' USING ERRCODE = '40001';
        END $$;
        CREATE TRIGGER lose BEFORE INSERT ON tags FOR EACH ROW EXECUTE FUNCTION lose()",
    );
    let began = Instant::now();
    let refused = registry.put_manifest("a/b", "u", OCI_MANIFEST, &content);
    assert!(header(&refused, "retry-after").parse::<u64>().is_ok());
    assert_error(refused, 503, "UNAVAILABLE");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(postgres.sql("losing", "SELECT last_value FROM tries"), "8\n");
    postgres.sql("losing", "DROP TRIGGER lose ON tags");
    assert_eq!(registry.put_manifest("a/b", "u", OCI_MANIFEST, &content).status(), 201);
    postgres.forget("losing");
}

/// A review that fails is the one that is put off, whatever else falls due meanwhile, and the others go on.
#[test]
fn a_review_that_fails_is_put_off_by_itself() {
    let postgres = TestPostgres::shared();
    let registry = collecting("failing");
    let sql = |text: &str| postgres.sql("failing", text);
    let [failing, fine] = ["failing", "fine"].map(|content| registry.push_blob("a/b", content.as_bytes()));
    let key = |digest: &str| format!("'\\x01{}'::bytea", &digest[7..]);
    sql("CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_sleep(2); RAISE EXCEPTION 'it fails';
        END $$");
    sql(&format!(
        "CREATE TRIGGER fail BEFORE DELETE ON blobs FOR EACH ROW WHEN (OLD.digest = {}) EXECUTE FUNCTION fail()",
        key(&failing)
    ));
    for digest in [&failing, &fine] {
        assert_eq!(
            registry.send("DELETE", &format!("/v2/a/b/blobs/{digest}")).status(),
            202
        );
    }
    let fall_due = |digest: &str, ago: &str| {
        sql(&format!(
            "UPDATE gc_blob_review_queue SET review_after = now() - interval '{ago}' WHERE digest = {}",
            key(digest)
        ))
    };
    let row = |digest: &str| {
        sql(&format!(
            "SELECT review_count, review_after > now() + interval '4 minutes' FROM gc_blob_review_queue WHERE digest = {}",
            key(digest)
        ))
    };
    fall_due(&failing, "1 minute");
    let is_reviewed = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'failing' AND wait_event = 'PgSleep'";
    wait("it is being reviewed", || (sql(is_reviewed) == "1\n").then_some(()));
    // Now another is the first that is due.
    fall_due(&fine, "1 hour");
    wait("the other is gone", || {
        (!blob_is_stored(&registry, &fine)).then_some(())
    });
    wait("it is put off", || (row(&failing) == "1|t\n").then_some(()));
    assert_eq!(row(&fine), "");
    assert!(blob_is_stored(&registry, &failing));
    postgres.forget("failing");
}

/// A review whose connection breaks is no failure of what it looked at.
#[test]
fn a_review_that_loses_its_connection_puts_nothing_off() {
    let postgres = TestPostgres::shared();
    postgres.database("cut_off");
    let directory = temporary();
    let go = directory.path().join("go");
    let plan = format!("storage:set_aside=hold:{}@1", go.display());
    let section = postgres.section("cut_off", true);
    let registry = TestRegistry::with(directory, &format!("{section}{QUICK_GC}"), &[("KDK_FAILPOINTS", &plan)]);
    let blob = registry.push_blob("a/b", b"content");
    assert_eq!(registry.send("DELETE", &format!("/v2/a/b/blobs/{blob}")).status(), 202);
    postgres.sql("cut_off", ALL_DUE);
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = 'cut_off' AND state = 'idle in transaction'";
    wait("its connection is cut", || {
        (postgres.sql("cut_off", ended) != "0\n").then_some(())
    });
    std::fs::write(&go, "").expect("written");
    // Nothing is put off for minutes.
    let put_off = "SELECT count(*) FROM gc_blob_review_queue WHERE review_count > 0";
    wait("it is removed later", || {
        assert_eq!(postgres.sql("cut_off", put_off), "0\n");
        (!blob_is_stored(&registry, &blob)).then_some(())
    });
    postgres.forget("cut_off");
}

/// A manifest whose layer has no data any more is refused, whatever the rows say.
#[test]
fn rows_without_data_carry_no_manifest() {
    for face in [Face::Files, Face::Database] {
        let registry = face.start();
        let (content, _) = registry.push_image("a/b", "t", "x");
        let layer = digest(b"layer x");
        let blobs = registry
            .directory
            .path()
            .join("storage/docker/registry/v2/blobs/sha256");
        std::fs::remove_dir_all(blobs.join(&layer[7..9]).join(&layer[7..])).expect("removed");
        // What was found a moment ago is believed for so long.
        wait("it is noticed", || {
            let again = registry.put_manifest("a/b", "again", OCI_MANIFEST, &content);
            (again.status() == 400).then(|| assert_error(again, 400, "MANIFEST_BLOB_UNKNOWN"))
        });
    }
}

/// What was signed and deleted takes its signatures along in the end, with their layers.
#[test]
fn signatures_go_when_what_they_sign_does_not_come_back() {
    let postgres = TestPostgres::shared();
    let registry = collecting("unsigned");
    let (_, image) = registry.push_image("a/b", "t", "x");
    let (config, layer) = (
        registry.push_blob("a/b", b"{}"),
        registry.push_blob("a/b", b"signature"),
    );
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/x", "digest": layer, "size": 9}],
        "subject": {"mediaType": OCI_MANIFEST, "digest": image, "size": 1}})
    .to_string();
    let signature = digest(manifest.as_bytes());
    assert_eq!(
        registry
            .put_manifest("a/b", &signature, OCI_MANIFEST, manifest.as_bytes())
            .status(),
        201
    );
    assert_eq!(
        registry.send("DELETE", &format!("/v2/a/b/manifests/{image}")).status(),
        202
    );
    wait("the signature goes", || {
        postgres.sql("unsigned", ALL_DUE);
        let there = registry.get(&format!("/v2/a/b/manifests/{signature}")).status();
        (there == 404 && !blob_is_stored(&registry, &layer)).then_some(())
    });
    postgres.forget("unsigned");
}
