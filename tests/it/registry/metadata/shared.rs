//! A database that GitLab's registry writes to, too: rows as it writes them,
//! and databases as they were left by what was there before.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::database::{ALL_DUE, collecting};
use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, assert_error, digest, header};
use crate::support::{KDK, Output, TestRegistry, temporary, wait};

const CONFIG: &str = "application/vnd.oci.empty.v1+json";
const SIGNATURE: &str = "application/x-signature";

fn serving(name: &str) -> TestRegistry {
    let postgres = TestPostgres::shared();
    postgres.database(name);
    TestRegistry::with(temporary(), &postgres.section(name, true), &[])
}

/// Pushes what is attached to a manifest, by its digest; returns its digest.
/// Its type is in its configuration alone, as with older clients.
#[track_caller]
fn attach(registry: &TestRegistry, reference: &str, subject: &str, size: usize, note: &str) -> (String, usize) {
    let config = registry.push_blob("a/b", b"{}");
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "annotations": {"note": note},
        "config": {"mediaType": SIGNATURE, "digest": config, "size": 2}, "layers": [],
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": size}})
    .to_string();
    let own = digest(manifest.as_bytes());
    let reference = if reference.is_empty() { &own } else { reference };
    let pushed = registry.put_manifest("a/b", reference, OCI_MANIFEST, manifest.as_bytes());
    assert_eq!(pushed.status(), 201, "{:?}", pushed.text());
    (own, manifest.len())
}

fn referrers(registry: &TestRegistry, subject: &str) -> Vec<String> {
    let listed: Value = registry
        .get(&format!("/v2/a/b/referrers/{subject}"))
        .json()
        .expect("JSON");
    let listed = listed["manifests"].as_array().expect("a list");
    listed
        .iter()
        .map(|one| one["digest"].as_str().expect("text").to_owned())
        .collect()
}

/// GitLab's registry leaves the type of what is attached empty, where the
/// configuration has it. It is attached all the same: when its subject is
/// deleted and pushed again, and in every collection.
#[test]
fn signatures_that_came_through_gitlabs_registry_are_kept() {
    let postgres = TestPostgres::shared();
    let registry = collecting("signatures");
    let (bytes, image) = registry.push_image("a/b", "t", "x");
    let (signature, _) = attach(&registry, "", &image, bytes.len(), "untagged");
    let (tagged, _) = attach(&registry, "signature", &image, bytes.len(), "tagged");
    let both = || {
        let mut both = vec![signature.clone(), tagged.clone()];
        both.sort_unstable();
        both
    };
    let as_gitlab = "UPDATE manifests SET artifact_media_type_id = NULL";
    postgres.sql("signatures", as_gitlab);
    let list = "/gitlab/v1/repositories/a/b/tags/list/?referrers=true";
    let of_tag = |query: &str| {
        let listed: Value = registry.get(&format!("{list}{query}")).json().expect("JSON");
        let one = listed.as_array().expect("a list").iter().find(|one| one["name"] == "t");
        one.map(|one| one["referrers"].clone()).unwrap_or_default()
    };
    assert_eq!(of_tag("")[0]["artifactType"], SIGNATURE);
    assert_eq!(
        of_tag(&format!("&referrer_type={SIGNATURE}")).as_array().map(Vec::len),
        Some(2)
    );
    // Without any there is no such list.
    assert_eq!(of_tag("&referrer_type=application/x-other"), Value::Null);
    let rounds = std::env::var("KDK_STORM_ROUNDS").map_or(3, |rounds| rounds.parse().expect("a number"));
    for round in 0..rounds {
        let path = format!("/v2/a/b/manifests/{image}");
        assert_eq!(registry.send("DELETE", &path).status(), 202, "{round}");
        assert_eq!(referrers(&registry, &image), both(), "{round}: without its subject");
        registry.push_image("a/b", "t", "x");
        assert_eq!(referrers(&registry, &image), both(), "{round}");
        postgres.sql("signatures", as_gitlab);
        postgres.sql("signatures", ALL_DUE);
        wait("all is reviewed", || {
            let waiting = postgres.sql("signatures", "SELECT count(*) FROM gc_manifest_review_queue");
            (waiting == "0\n").then_some(())
        });
        assert_eq!(referrers(&registry, &image), both(), "{round}: after a collection");
        let attached = "SELECT count(*) FROM manifests WHERE subject_id IS NOT NULL";
        assert_eq!(postgres.sql("signatures", attached), "2\n", "{round}");
        for own in both() {
            assert_eq!(
                registry.get(&format!("/v2/a/b/manifests/{own}")).status(),
                200,
                "{round}"
            );
        }
    }
    postgres.forget("signatures");
}

/// The schema's trigger fails where a statement takes a subject and what is
/// attached to it; a collection takes them one by one.
#[test]
fn an_image_with_what_is_attached_to_it_is_collected() {
    let postgres = TestPostgres::shared();
    let registry = collecting("attached");
    let (bytes, image) = registry.push_image("a/b", "t", "x");
    let (first, size) = attach(&registry, "", &image, bytes.len(), "one");
    attach(&registry, "", &image, bytes.len(), "two");
    attach(&registry, "", &first, size, "of one");
    assert_eq!(registry.send("DELETE", "/v2/a/b/manifests/t").status(), 202);
    // What lives by its subject is in no queue: GitLab's collection would take it.
    let queued = "SELECT count(*) FROM gc_manifest_review_queue AS q JOIN manifests AS m ON m.id = q.manifest_id
        WHERE m.subject_id IS NOT NULL";
    assert_eq!(postgres.sql("attached", queued), "0\n");
    postgres.sql("attached", ALL_DUE);
    wait("all are removed", || {
        (postgres.sql("attached", "SELECT count(*) FROM manifests") == "0\n").then_some(())
    });
    let counts = "SELECT count(*) FROM gc_manifest_review_queue WHERE review_count > 0";
    assert_eq!(postgres.sql("attached", counts), "0\n");
    postgres.forget("attached");
}

/// As GitLab's trigger: what takes a subject along with all that is attached
/// to it, without saying so, is refused.
#[test]
fn nobody_takes_what_is_attached_along_without_a_word() {
    let postgres = TestPostgres::shared();
    let registry = serving("along");
    let (bytes, image) = registry.push_image("a/b", "t", "x");
    attach(&registry, "", &image, bytes.len(), "one");
    let delete = "DELETE FROM tags; DELETE FROM manifests WHERE subject_id IS NULL";
    assert!(!postgres.try_sql("along", delete));
    assert_eq!(referrers(&registry, &image).len(), 1);
    postgres.forget("along");
}

/// GitLab's registry stores BuildKit's caches as images that do not conform.
#[test]
fn a_cache_of_buildkit_is_an_index_however_it_is_stored() {
    let postgres = TestPostgres::shared();
    let registry = serving("buildkit");
    let layer = registry.push_blob("a/b", b"layer");
    let config = registry.push_blob("a/b", b"{}");
    for with_type in [true, false] {
        let mut cache = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5},
            {"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": config, "size": 2}]});
        if with_type {
            cache["mediaType"] = OCI_INDEX.into();
        }
        let pushed = registry.put_manifest("a/b", "cache", OCI_INDEX, cache.to_string().as_bytes());
        assert_eq!(pushed.status(), 201, "{:?}", pushed.text());
        postgres.sql(
            "buildkit",
            &format!(
                "UPDATE manifests SET non_conformant = true, media_type_id =
                    (SELECT id FROM media_types WHERE media_type = '{OCI_MANIFEST}')"
            ),
        );
        for reference in ["cache", &digest(cache.to_string().as_bytes())] {
            let answer = registry.get(&format!("/v2/a/b/manifests/{reference}"));
            assert_eq!(header(&answer, "content-type"), OCI_INDEX, "{with_type} {reference}");
        }
    }
    postgres.forget("buildkit");
}

/// GitLab's server fails on every read of an image with a configuration of
/// which nothing is kept, unless it reads JSON's null there.
#[test]
fn a_configuration_that_is_too_large_to_be_kept_is_null() {
    let postgres = TestPostgres::shared();
    let registry = serving("large_configuration");
    let content = format!("{{\"x\":\"{}\"}}", "x".repeat(300_000));
    let config = registry.push_blob("a/b", content.as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
        "config": {"mediaType": CONFIG, "digest": config, "size": content.len()}})
    .to_string();
    let pushed = registry.put_manifest("a/b", "t", OCI_MANIFEST, manifest.as_bytes());
    assert_eq!(pushed.status(), 201);
    let kept = "SELECT encode(configuration_payload, 'escape') FROM manifests";
    assert_eq!(postgres.sql("large_configuration", kept), "null\n");
    let described = registry.get("/gitlab/v1/repositories/a/b/tags/detail/t/");
    assert_eq!(described.status(), 200);
    postgres.forget("large_configuration");
}

/// A background migration of GitLab's makes the column wider.
#[test]
fn media_types_may_have_wider_numbers() {
    let postgres = TestPostgres::shared();
    postgres.database("wide");
    postgres.sql("wide", "ALTER TABLE manifests ALTER COLUMN media_type_id TYPE bigint");
    let registry = serving("wide");
    let (bytes, image) = registry.push_image("a/b", "t", "x");
    attach(&registry, "", &image, bytes.len(), "one");
    let answer = registry.get("/v2/a/b/manifests/t");
    assert_eq!(header(&answer, "content-type"), OCI_MANIFEST);
    postgres.forget("wide");
}

/// What is mended in the schema is mended in databases that are there, and
/// noted where GitLab's registry does not look.
#[test]
fn databases_of_before_are_mended() {
    let postgres = TestPostgres::shared();
    postgres.database_of_kdk("of_before");
    let mut registry = serving("of_before");
    let (bytes, image) = registry.push_image("a/b", "t", "x");
    attach(&registry, "signature", &image, bytes.len(), "one");
    registry.stop();
    // As version 0.1 left it.
    let types = ["appliciation/vnd.sylabs.sif.layer.tar", "binary/octet-stream"];
    postgres.sql(
        "of_before",
        &format!(
            "DROP SCHEMA kdk CASCADE; DROP INDEX manifests_that_wait_for_their_subject;
            DROP INDEX kdk_manifests_referrers;
            UPDATE manifests SET configuration_payload = NULL;
            DELETE FROM media_types WHERE media_type IN ('{}', '{}')",
            types[0], types[1]
        ),
    );
    let list = |sql: &str| postgres.sql("of_before", sql);
    let known = list("SELECT id, media_type FROM media_types ORDER BY id");
    let config = registry.directory.path().join("config.yml");
    let mut registry = registry.restart_with_own_configuration();
    let warned = registry.wait_for_line(|line| {
        let text = line["msg"].as_str()?;
        text.contains("lacks 6 of this version's migrations")
            .then(|| text.to_owned())
    });
    assert!(warned.contains("migrate up"), "{warned}");
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
    registry.stop();
    let migrate = |arguments: &[&str]| {
        let mut command = Command::new(KDK);
        command.args(["registry", "database", "migrate"]).args(arguments);
        Output::of(command.arg(&config)).ok()
    };
    assert!(migrate(&["status"]).contains("kdk/0002_configurations"));
    let done = migrate(&["up"]);
    assert_eq!(
        done.lines().filter(|line| line.starts_with("kdk/")).count(),
        6,
        "{done}"
    );
    assert_eq!(migrate(&["up"]).lines().count(), 1);
    assert_eq!(list("SELECT count(*) FROM schema_migrations"), "184\n");
    assert_eq!(list("SELECT count(*) FROM kdk.migrations"), "6\n");
    assert_eq!(
        list("SELECT count(*) FROM manifests WHERE configuration_payload IS NULL"),
        "0\n"
    );
    let now = list("SELECT id, media_type FROM media_types ORDER BY id");
    assert!(now.starts_with(&known), "{now}");
    for name in types {
        assert!(now.contains(name), "{name}");
    }
    // What is newer than this version is left alone.
    postgres.sql(
        "of_before",
        "DELETE FROM kdk.migrations; INSERT INTO schema_migrations (id, applied_at) VALUES ('2999', now())",
    );
    assert!(migrate(&["up"]).starts_with("OK: applied 0 pre"));
    assert_eq!(list("SELECT count(*) FROM kdk.migrations"), "0\n");
    postgres.forget("of_before");
}

/// Whatever changes a repository, through whichever server, what is read
/// afterwards is as it is now.
#[test]
fn what_is_in_memory_is_never_older_than_the_database() {
    let postgres = TestPostgres::shared();
    let registry = serving("in_memory");
    let other = TestRegistry::with(temporary(), &postgres.section("in_memory", true), &[]);
    let (_, one) = registry.push_image("a/b", "t", "one");
    let (_, two) = registry.push_image("a/b", "t2", "two");
    let layer = digest(b"layer one");
    let tagged = |on: &TestRegistry| {
        let answer = on.get("/v2/a/b/manifests/t");
        (answer.status() == 200).then(|| header(&answer, "docker-content-digest"))
    };
    let has = |on: &TestRegistry, digest: &str| on.get(&format!("/v2/a/b/manifests/{digest}")).status() == 200;
    let has_blob = |digest: &str| registry.send("HEAD", &format!("/v2/a/b/blobs/{digest}")).status() == 200;
    let move_to = |on: &TestRegistry, digest: &str| {
        let bytes = registry.get(&format!("/v2/a/b/manifests/{digest}")).bytes();
        let pushed = on.put_manifest("a/b", "t", OCI_MANIFEST, &bytes.expect("read"));
        assert_eq!(pushed.status(), 201);
    };
    for on in [&registry, &other] {
        // Once to know it, and once from memory.
        for _ in 0..2 {
            assert_eq!(tagged(on).as_deref(), Some(&*one));
            assert!(has(on, &one) && has(on, &two));
        }
    }
    for _ in 0..2 {
        assert!(has_blob(&layer));
    }
    for round in 0..20 {
        let (mover, digest) = [(&registry, &two), (&registry, &one)][round % 2];
        move_to(mover, digest);
        for on in [&registry, &other] {
            assert_eq!(tagged(on).as_deref(), Some(&**digest), "{round}");
        }
    }
    // As GitLab's registry would.
    let to_two = format!(
        "UPDATE tags SET manifest_id = (SELECT id FROM manifests WHERE digest = '\\x01{}') WHERE name = 't'",
        two.trim_start_matches("sha256:")
    );
    postgres.sql("in_memory", &to_two);
    assert_eq!(tagged(&registry).as_deref(), Some(&*two));
    postgres.sql("in_memory", "DELETE FROM repository_blobs");
    assert!(!has_blob(&layer));
    assert_eq!(other.send("DELETE", "/v2/a/b/manifests/t").status(), 202);
    assert_eq!(tagged(&registry), None);
    assert!(has(&registry, &two));
    let path = format!("/v2/a/b/manifests/{two}");
    assert_eq!(other.send("DELETE", &path).status(), 202);
    assert!(!has(&registry, &two) && has(&registry, &one));
    // A repository that has its name from another.
    registry.push_image("c/d", "t", "three");
    postgres.sql(
        "in_memory",
        "UPDATE repositories SET path = 'x' WHERE path = 'a/b'; UPDATE repositories SET path = 'a/b' WHERE path = 'c/d'",
    );
    assert!(!has(&registry, &one));
    assert_ne!(tagged(&registry), None);
    // A database that was restored does not know what was added since.
    postgres.sql("postgres", "CREATE DATABASE in_memory_before TEMPLATE template_kdk");
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'in_memory%'";
    wait("the database is exchanged", || {
        postgres.sql("postgres", ended);
        let done = postgres.try_sql("postgres", "ALTER DATABASE in_memory RENAME TO in_memory_after");
        done.then_some(())
    });
    postgres.sql("postgres", "ALTER DATABASE in_memory_before RENAME TO in_memory");
    wait("it is gone", || tagged(&registry).is_none().then_some(()));
    postgres.forget("in_memory_after");
    postgres.forget("in_memory");
}

/// Whether it is as it was is all that is asked.
#[test]
fn what_is_in_memory_needs_no_row_of_it() {
    let postgres = TestPostgres::shared();
    postgres.database_of_kdk("statements_of_memory");
    // A connection that is made meanwhile would make all doubtful.
    let section = postgres.section("statements_of_memory", true);
    let registry = TestRegistry::with(temporary(), &format!("{section}  pool:\n    maxopen: 1\n"), &[]);
    let (_, image) = registry.push_image("a/b", "t", "x");
    let layer = digest(b"layer x");
    let all = || {
        let head = |path: String| registry.send("HEAD", &path).status().as_u16();
        [
            head("/v2/a/b/manifests/t".to_owned()),
            head(format!("/v2/a/b/manifests/{image}")),
            head(format!("/v2/a/b/blobs/{layer}")),
        ]
    };
    assert_eq!(all(), [200; 3]);
    // Nothing else can be asked.
    postgres.sql(
        "statements_of_memory",
        "ALTER TABLE tags RENAME TO tags_away; ALTER TABLE manifests RENAME TO manifests_away;
         ALTER TABLE repository_blobs RENAME TO repository_blobs_away",
    );
    assert_eq!(all(), [200; 3]);
    let absent = format!("/v2/a/b/manifests/{}", digest(b"absent"));
    assert_eq!(registry.send("HEAD", &absent).status(), 503);
    postgres.forget("statements_of_memory");
}

/// Each media type stays for ever, and their numbers are few.
#[test]
fn a_manifest_brings_few_media_types_that_are_new() {
    let postgres = TestPostgres::shared();
    let registry = serving("media_types");
    let config = registry.push_blob("a/b", b"{}");
    let put = |first: usize, count: usize, config: &str| {
        let layers: Vec<Value> = (first..first + count)
            .map(|number| json!({"mediaType": format!("application/x-{number}"), "digest": config, "size": 2}))
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers,
            "config": {"mediaType": CONFIG, "digest": config, "size": 2}});
        registry.put_manifest("a/b", "t", OCI_MANIFEST, manifest.to_string().as_bytes())
    };
    let known = || {
        let sql =
            "SELECT count(*), max(id), pg_sequence_last_value(pg_get_serial_sequence('media_types', 'id')::regclass)
            FROM media_types";
        postgres.sql("media_types", sql)
    };
    let before = known();
    let body = assert_error(put(0, 17, &config), 400, "MANIFEST_INVALID");
    assert!(body.to_string().contains("at most 16"), "{body}");
    assert_error(put(0, 3, &digest(b"absent")), 400, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(known(), before);
    assert_eq!(put(0, 16, &config).status(), 201);
    assert_eq!(put(10, 16, &config).status(), 201);
    // And again, when nothing of it is remembered any more.
    let after = known();
    drop(registry);
    let registry = serving("media_types");
    registry.push_image("a/b", "other", "x");
    assert_eq!(known(), after);
    postgres.forget("media_types");
}

/// Reads share what is asked of the database; each sees all that was
/// acknowledged before it began.
#[test]
fn who_reads_along_with_others_sees_what_was_pushed_before() {
    let postgres = TestPostgres::shared();
    let registry = serving("read_along");
    let other = TestRegistry::with(temporary(), &postgres.section("read_along", true), &[]);
    let images: Vec<(Vec<u8>, String)> = (0..3)
        .map(|number| registry.push_image("a/b", &format!("t{number}"), &format!("image {number}")))
        .collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (on, is_over, images) = ([&registry, &other][number % 2], &is_over, &images);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let path = format!("/v2/a/b/manifests/t{}", number % 3);
                    assert_eq!(on.get(&path).status(), 200);
                    let path = format!("/v2/a/b/manifests/{}", images[number % 3].1);
                    assert_eq!(on.get(&path).status(), 200);
                    assert_eq!(on.get(&format!("/v2/none/{number}/manifests/t")).status(), 404);
                }
            });
        }
        for round in 0..100 {
            let (bytes, digest) = &images[round % 3];
            let pushed = registry.put_manifest("a/b", "moving", OCI_MANIFEST, bytes);
            assert_eq!(pushed.status(), 201);
            for on in [&registry, &other] {
                let answer = on.send("HEAD", "/v2/a/b/manifests/moving");
                assert_eq!(&header(&answer, "docker-content-digest"), digest, "{round}");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    postgres.forget("read_along");
}

/// What only its owner may change in a schema that is complete is left to the
/// owner: the registry serves without it.
#[test]
fn who_does_not_own_the_schema_leaves_it_as_it_is() {
    let postgres = TestPostgres::shared();
    postgres.database_of_kdk("of_another");
    postgres.sql(
        "of_another",
        "DROP SCHEMA kdk CASCADE; CREATE ROLE guest LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO guest;
            GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO guest; GRANT CREATE ON DATABASE of_another TO guest",
    );
    let section = postgres
        .section("of_another", true)
        .replace("user: postgres", "user: guest");
    let registry = TestRegistry::with(temporary(), &section, &[]);
    let config = registry.directory.path().join("config.yml");
    let mut command = Command::new(KDK);
    command.args(["registry", "database", "migrate", "up"]).arg(&config);
    let output = Output::of(&mut command);
    assert_eq!(output.code, 0, "{}", output.shown());
    assert!(
        output.stderr.contains("6 of kdk's own migrations are left"),
        "{}",
        output.shown()
    );
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'kdk'";
    assert_eq!(postgres.sql("of_another", made), "0\n");
    registry.push_image("a/b", "t", "x");
    for _ in 0..2 {
        assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
    }
    postgres.forget("of_another");
}
