//! The registry with its metadata in PostgreSQL: what the tests of the API, which
//! run on every face, do not ask.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, assert_error, digest, header};
use crate::support::{Face, KDK, Output, TestRegistry, temporary, wait};

/// A registry on a database of a server that others do not use.
fn registry_on(postgres: &TestPostgres, more: &str) -> TestRegistry {
    let section = postgres.section("registry_dev", true);
    TestRegistry::with(temporary(), &format!("{section}{more}"), &[])
}

fn own_postgres() -> TestPostgres {
    let postgres = TestPostgres::start();
    postgres.make_template();
    postgres.database("registry_dev");
    postgres
}

/// Passes connections on to a database, and cuts them on demand.
struct Proxy {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// Whether the answer to the next commit is lost.
    loses: Arc<AtomicBool>,
}

impl Proxy {
    fn to(postgres: &TestPostgres) -> Self {
        let socket = postgres.socket.join(format!(".s.PGSQL.{}", postgres.port));
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let known = Arc::clone(&open);
        let loses = Arc::new(AtomicBool::new(false));
        let losing = Arc::clone(&loses);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&socket) else {
                    continue;
                };
                known.lock().expect("held").push(client.try_clone().expect("cloned"));
                let (mut from, mut to) = (client.try_clone().expect("cloned"), server.try_clone().expect("cloned"));
                let (losing, back) = (Arc::clone(&losing), client.try_clone().expect("cloned"));
                std::thread::spawn(move || {
                    let mut piece = [0; 8192];
                    while let Ok(read @ 1..) = from.read(&mut piece) {
                        let commits = piece[..read].windows(7).any(|part| part == b"COMMIT\0");
                        if commits && losing.swap(false, Ordering::Relaxed) {
                            // It arrives, and nobody hears what came of it.
                            let _ = back.shutdown(Shutdown::Both);
                        }
                        if to.write_all(&piece[..read]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Write);
                });
                std::thread::spawn(move || {
                    let (mut from, mut to) = (server, client);
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        });
        Self { port, open, loses }
    }

    /// Cuts all connections; returns how many there were.
    fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.open.lock().expect("held"));
        for connection in &open {
            let _ = connection.shutdown(Shutdown::Both);
        }
        open.len()
    }
}

/// Whoever is told that what was deleted had not been there would take it for
/// somebody else's doing.
#[test]
fn a_deletion_whose_answer_is_lost_has_happened() {
    let postgres = own_postgres();
    let proxy = Proxy::to(&postgres);
    let section = format!(
        "database:\n  enabled: true\n  host: 127.0.0.1\n  port: {}\n  user: postgres\n  dbname: registry_dev\n  sslmode: disable\n",
        proxy.port
    );
    let registry = TestRegistry::with(temporary(), &section, &[]);
    let (_, digest) = registry.push_image("a/b", "t", "x");
    let layer = crate::support::registry::digest(b"layer x");
    for path in [
        "/v2/a/b/manifests/t".to_owned(),
        format!("/v2/a/b/manifests/{digest}"),
        format!("/v2/a/b/blobs/{layer}"),
    ] {
        proxy.loses.store(true, Ordering::Relaxed);
        assert_eq!(registry.send("DELETE", &path).status(), 202, "{path}");
        assert!(!proxy.loses.load(Ordering::Relaxed), "{path}: nothing was lost");
        assert_eq!(registry.send("DELETE", &path).status(), 404, "{path}");
    }
}

fn index_of(digests: &[(&str, usize)]) -> Vec<u8> {
    let manifests: Vec<Value> = digests
        .iter()
        .map(|(digest, size)| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size}))
        .collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
        .to_string()
        .into_bytes()
}

#[test]
fn a_manifest_of_an_index_is_not_deleted_before_it() {
    let registry = Face::Database.start();
    let (bytes, child) = registry.push_image("a/b", "child", "x");
    let index = index_of(&[(&child, bytes.len())]);
    let done = registry.put_manifest("a/b", "all", OCI_INDEX, &index);
    assert_eq!(done.status(), 201);
    let path = format!("/v2/a/b/manifests/{child}");
    assert_error(registry.send("DELETE", &path), 409, "MANIFEST_REFERENCED");
    assert_eq!(registry.get(&path).status(), 200);
    let all = format!("/v2/a/b/manifests/{}", digest(&index));
    assert_eq!(registry.send("DELETE", &all).status(), 202);
    assert_eq!(registry.send("DELETE", &path).status(), 202);
    assert_error(registry.get(&path), 404, "MANIFEST_UNKNOWN");
}

#[test]
fn while_the_database_is_away_requests_are_told_so_and_then_served() {
    let mut postgres = own_postgres();
    let registry = registry_on(&postgres, "");
    let (bytes, _) = registry.push_image("a/b", "t", "x");
    let blob = registry.push_blob("a/b", b"another");
    postgres.kill();
    let away = registry.get("/v2/a/b/manifests/t");
    assert_eq!(header(&away, "retry-after"), "10");
    assert_error(away, 503, "UNAVAILABLE");
    assert_error(registry.get("/v2/_catalog"), 503, "UNAVAILABLE");
    assert_error(
        registry.put_manifest("a/b", "u", OCI_MANIFEST, &bytes),
        503,
        "UNAVAILABLE",
    );
    assert_error(registry.get(&format!("/v2/a/b/blobs/{blob}")), 503, "UNAVAILABLE");
    // Whether it lives can be asked all the same.
    assert_eq!(registry.get("/v2/").status(), 200);
    postgres.start_again();
    assert!(registry.get("/v2/a/b/manifests/t").bytes().expect("read") == bytes);
    assert_eq!(registry.put_manifest("a/b", "u", OCI_MANIFEST, &bytes).status(), 201);
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{blob}")).status(), 200);
}

/// One that stands still answers nobody, and says nothing.
#[test]
fn a_frozen_database_ends_every_request_in_its_time() {
    let mut postgres = own_postgres();
    let section = format!(
        "health:\n  database:\n    enabled: true\n    interval: 100ms\n    threshold: 1000\ndatabase:\n  enabled: true\n  host: {}\n  user: postgres\n  dbname: registry_dev\n  sslmode: disable\n  requesttimeout: 1s\n",
        postgres.socket.display()
    );
    let registry = TestRegistry::with(temporary(), &section, &[]);
    let (bytes, _) = registry.push_image("a/b", "t", "x");
    postgres.signal("STOP");
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for number in 0..30 {
            let (registry, bytes) = (&registry, &bytes);
            scope.spawn(move || {
                if number % 3 == 0 {
                    let put = registry.put_manifest("a/b", "u", OCI_MANIFEST, bytes);
                    assert_error(put, 503, "UNAVAILABLE");
                } else {
                    let away = registry.get("/v2/a/b/manifests/t");
                    assert_eq!(header(&away, "retry-after"), "10");
                    assert_error(away, 503, "UNAVAILABLE");
                }
            });
        }
    });
    // A push looks at what there is, and then writes.
    assert!(
        began.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let told = registry.wait_for_line(|line| {
        let text = line["error"].as_str().filter(|_| line["msg"] == "request failed")?;
        Some(text.to_owned())
    });
    assert!(
        told.contains("does not answer within 1s") || told.contains("Timeout"),
        "{told}"
    );
    postgres.signal("CONT");
    wait("it serves again", || {
        (registry.get("/v2/a/b/manifests/t").status() == 200).then_some(())
    });
    assert_eq!(registry.put_manifest("a/b", "u", OCI_MANIFEST, &bytes).status(), 201);
}

/// A collection stands still between the row and the data, its session is
/// ended, and the blob is pushed again: it is there when the collection goes on.
#[test]
fn a_blob_that_is_pushed_while_its_collection_stands_still_stays() {
    let postgres = own_postgres();
    let release = temporary();
    let hold = release.path().join("go");
    let gc = "gc:\n  noidlebackoff: true\n  reviewafter: 1s\n  blobs:\n    interval: 20ms\n  manifests:\n    interval: 20ms\n";
    let section = format!(
        "{gc}database:\n  enabled: true\n  host: {}\n  user: postgres\n  dbname: registry_dev\n  sslmode: disable\n",
        postgres.socket.display()
    );
    let plan = format!("storage:set_aside=hold:{}@1", hold.display());
    let registry = TestRegistry::with(temporary(), &section, &[("KDK_FAILPOINTS", &plan)]);
    let blob = registry.push_blob("a/b", b"comes again");
    registry.push_blob("a/c", b"another, which goes");
    assert_eq!(registry.send("DELETE", &format!("/v2/a/b/blobs/{blob}")).status(), 202);
    // Its session holds the row of the queue, and does nothing.
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND application_name = 'kdk registry'";
    wait("the collection stands still", || {
        (postgres.sql("registry_dev", sql).trim() == "1").then_some(())
    });
    postgres.sql(
        "registry_dev",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kdk registry'",
    );
    assert_eq!(registry.push_blob("a/b", b"comes again"), blob);
    std::fs::write(&hold, "").expect("written");
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(3) {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let there = registry.get(&format!("/v2/a/b/blobs/{blob}"));
    assert_eq!(there.text().expect("read"), "comes again");
}

/// Those who wait for each other in one repository leave connections to others.
#[test]
fn one_hot_repository_does_not_hold_up_the_others() {
    let postgres = own_postgres();
    let registry = registry_on(&postgres, "");
    let (bytes, _) = registry.push_image("hot/one", "moving", "x");
    let (other, _) = registry.push_image("cold/two", "t", "y");
    let release = postgres.holds(
        "registry_dev",
        "SELECT pg_advisory_lock(x'6b646b0000000000'::bigint # id) FROM repositories WHERE path = 'hot/one'",
    );
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..20)
            .map(|_| {
                let (registry, bytes) = (&registry, &bytes);
                scope.spawn(move || {
                    registry
                        .put_manifest("hot/one", "moving", OCI_MANIFEST, bytes)
                        .status()
                        .as_u16()
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(500));
        for _ in 0..10 {
            let began = std::time::Instant::now();
            let pulled = registry.get("/v2/cold/two/manifests/t");
            assert!(pulled.bytes().expect("read") == other);
            assert!(
                began.elapsed() < std::time::Duration::from_secs(2),
                "{:?}",
                began.elapsed()
            );
        }
        drop(release);
        for writer in writers {
            let status = writer.join().expect("no panic");
            assert!(matches!(status, 201 | 503), "{status}");
        }
    });
    assert_eq!(
        registry
            .put_manifest("hot/one", "moving", OCI_MANIFEST, &bytes)
            .status(),
        201
    );
}

#[test]
fn a_registry_starts_without_its_database_and_serves_when_it_comes() {
    let mut postgres = own_postgres();
    postgres.kill();
    let registry = registry_on(&postgres, "");
    assert_error(registry.get("/v2/_catalog"), 503, "UNAVAILABLE");
    postgres.start_again();
    registry.push_image("a/b", "t", "x");
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
}

/// What was acknowledged is there, whatever happened to connections, the
/// database or the registry meanwhile.
#[test]
fn nothing_acknowledged_is_lost_when_connections_are_cut_and_processes_killed() {
    let mut postgres = own_postgres();
    let proxy = Proxy::to(&postgres);
    let section = format!(
        "database:\n  enabled: true\n  host: 127.0.0.1\n  port: {}\n  user: postgres\n  dbname: registry_dev\n  sslmode: disable\n",
        proxy.port
    );
    let mut registry = TestRegistry::with(temporary(), &section, &[]);
    let mut acknowledged: Vec<(String, Vec<u8>)> = Vec::new();
    let mut refused = 0;
    for round in 0..12 {
        let pushed = std::thread::scope(|scope| {
            let pushers: Vec<_> = (0..4)
                .map(|number| {
                    let registry = &registry;
                    scope.spawn(move || {
                        let mut pushed = Vec::new();
                        let mut refused = 0;
                        for image in 0..8 {
                            let tag = format!("t{round}-{number}-{image}");
                            match try_push(registry, &tag) {
                                Some(manifest) => pushed.push((tag, manifest)),
                                None => refused += 1,
                            }
                        }
                        (pushed, refused)
                    })
                })
                .collect();
            match round % 3 {
                0 => {
                    for _ in 0..10 {
                        std::thread::sleep(std::time::Duration::from_millis(7));
                        proxy.cut();
                    }
                }
                1 => {
                    postgres.kill();
                    postgres.start_again();
                }
                _ => {}
            }
            pushers
                .into_iter()
                .map(|pusher| pusher.join().expect("no panic"))
                .collect::<Vec<_>>()
        });
        for (images, failures) in pushed {
            acknowledged.extend(images);
            refused += failures;
        }
        if round % 3 == 2 {
            registry.kill();
            let directory = std::mem::replace(&mut registry.directory, temporary());
            registry = TestRegistry::with(directory, &section, &[]);
        }
    }
    assert!(
        acknowledged.len() > 50,
        "{} acknowledged, {refused} refused",
        acknowledged.len()
    );
    for (tag, manifest) in &acknowledged {
        let found = registry.get(&format!("/v2/a/b/manifests/{tag}"));
        assert_eq!(found.status(), 200, "{tag}");
        assert!(found.bytes().expect("read") == *manifest, "{tag}");
        let parsed: Value = serde_json::from_slice(manifest).expect("JSON");
        let layer = parsed["layers"][0]["digest"].as_str().expect("a digest");
        let found = registry.get(&format!("/v2/a/b/blobs/{layer}"));
        assert_eq!(found.status(), 200, "{tag}");
        assert_eq!(digest(&found.bytes().expect("read")), layer);
    }
}

/// Pushes an image; nothing when any step is refused.
fn try_push(registry: &TestRegistry, tag: &str) -> Option<Vec<u8>> {
    let blob = |content: &[u8]| {
        let digest = digest(content);
        let path = format!("/v2/a/b/blobs/uploads/?digest={digest}");
        let done = registry.request("POST", &path).body(content.to_vec()).send().ok()?;
        (done.status() == 201).then_some(digest)
    };
    let layer = format!("layer {tag}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": blob(b"{}")?, "size": 2},
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": blob(layer.as_bytes())?,
            "size": layer.len(),
        }],
    });
    let manifest = manifest.to_string().into_bytes();
    let done = registry
        .request("PUT", &format!("/v2/a/b/manifests/{tag}"))
        .header("content-type", OCI_MANIFEST)
        .body(manifest.clone())
        .send()
        .ok()?;
    (done.status() == 201).then_some(manifest)
}

/// One writes; the other reads beside it, and sees at once what is done there.
#[test]
fn two_registries_share_a_database_and_a_storage() {
    let one = Face::Database.start();
    let config = one.directory.path().join("config.yml");
    let reads = [("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")];
    let two = TestRegistry::on(temporary(), &config, &reads);
    let (bytes, _) = one.push_image("a/b", "t", "x");
    assert!(two.get("/v2/a/b/manifests/t").bytes().expect("read") == bytes);
    let (other, _) = one.push_image("a/b", "u", "y");
    for round in 0..25 {
        let content = if round % 2 == 0 { &bytes } else { &other };
        assert_eq!(one.put_manifest("a/b", "moving", OCI_MANIFEST, content).status(), 201);
        let seen = two.get("/v2/a/b/manifests/moving").bytes().expect("read");
        assert!(seen == *content, "{round}");
    }
    assert_eq!(two.put_manifest("a/b", "moving", OCI_MANIFEST, &bytes).status(), 405);
    // Both changes of one tag, over and over, in one of them.
    std::thread::scope(|scope| {
        for content in [&bytes, &other, &other, &bytes] {
            let one = &one;
            scope.spawn(move || {
                for _ in 0..25 {
                    let done = one.put_manifest("a/b", "moving", OCI_MANIFEST, content);
                    assert_eq!(done.status(), 201);
                    assert_eq!(one.get("/v2/a/b/manifests/moving").status(), 200);
                }
            });
        }
    });
    let seen = [&one, &two].map(|registry| registry.get("/v2/a/b/manifests/moving").bytes().expect("read"));
    assert!(seen[0] == seen[1] && (seen[0] == bytes || seen[0] == other));
}

#[test]
fn the_database_says_whether_a_storage_was_imported() {
    let postgres = TestPostgres::shared();
    postgres.database("guarded");
    let serve = |directory: &std::path::Path, database: &str| {
        let config = directory.join("config.yml");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n{database}",
            directory.join("storage").display()
        );
        std::fs::write(&config, text).expect("written");
        Output::of(Command::new(KDK).args(["registry", "serve"]).arg(&config))
    };
    // Images in files, and the database on: import first.
    let directory = temporary();
    let revisions = directory
        .path()
        .join("storage/docker/registry/v2/repositories/a/b/_manifests/revisions");
    std::fs::create_dir_all(&revisions).expect("made");
    let refused = serve(directory.path(), &postgres.section("guarded", true)).refused();
    assert!(refused.contains("import-registry-data"), "{refused}");
    // Images in the database, and it is off: they would seem gone.
    let mut registry = Face::Database.start();
    registry.push_image("a/b", "t", "x");
    registry.stop();
    let refused = serve(registry.directory.path(), "").refused();
    assert!(
        refused.contains("database-in-use") && refused.contains("database.enabled"),
        "{refused}"
    );
    // A database without a schema.
    postgres.sql("postgres", "CREATE DATABASE bare");
    let refused = serve(temporary().path(), &postgres.section("bare", true)).refused();
    assert!(refused.contains("database migrate up"), "{refused}");
    postgres.forget("bare");
    postgres.forget("guarded");
}

#[test]
fn a_collection_of_files_never_touches_what_a_database_knows() {
    let mut postgres = own_postgres();
    let directory = temporary();
    let section = postgres
        .section("prefer", true)
        .replace("enabled: true", "enabled: prefer");
    postgres.database("prefer");
    postgres.kill();
    // The database comes after the server.
    let mut registry = TestRegistry::with(directory, &section, &[]);
    postgres.start_again();
    wait("the database is reached", || {
        (registry.get("/v2/a/b/tags/list").status() == 404).then_some(())
    });
    let config = registry.directory.path().join("config.yml");
    let mark = registry
        .directory
        .path()
        .join("storage/docker/registry/lockfiles/database-in-use");
    wait("the storage is marked", || mark.exists().then_some(()));
    let (_, image) = registry.push_image("a/b", "t", "x");
    let layer = digest(b"layer x");
    let collect = || {
        let mut command = Command::new(KDK);
        command
            .args(["registry", "garbage-collect", "-m", "--grace", "0s"])
            .arg(&config);
        Output::of(&mut command).fails(1)
    };
    // As on a storage of GitLab's, which has no mark; served, stopped, and without the database.
    for round in 0..4 {
        match round {
            1 => std::fs::remove_file(&mark).expect("removed"),
            2 => registry.stop(),
            3 => postgres.kill(),
            _ => {}
        }
        let refused = collect();
        assert!(refused.contains("in a database"), "{round}: {refused}");
    }
    // Nor does a configuration that says nothing of a database.
    let text = std::fs::read_to_string(&config).expect("read");
    std::fs::write(&config, text.replace("enabled: prefer", "enabled: false")).expect("written");
    let refused = collect();
    assert!(refused.contains("and no repository with a manifest"), "{refused}");
    std::fs::write(&config, text).expect("written");
    postgres.start_again();
    let registry = TestRegistry::on(std::mem::replace(&mut registry.directory, temporary()), &config, &[]);
    assert_eq!(registry.get(&format!("/v2/a/b/manifests/{image}")).status(), 200);
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{layer}")).status(), 200);
}

#[test]
fn migrations_are_applied_listed_and_removed() {
    let postgres = TestPostgres::shared();
    postgres.sql("postgres", "CREATE DATABASE migrated");
    let directory = temporary();
    let config = directory.path().join("config.yml");
    let text = format!(
        "version: 0.1\nstorage:\n  inmemory: {{}}\nhttp:\n  addr: 127.0.0.1:0\n{}",
        postgres.section("migrated", false)
    );
    std::fs::write(&config, text).expect("written");
    let migrate = |arguments: &[&str]| {
        let mut command = Command::new(KDK);
        command.args(["registry", "database", "migrate"]).args(arguments);
        Output::of(command.arg(&config))
    };
    let first = "20210503145024_create_top_level_namespaces_table";
    let last = "20251021070732_bbm_backfill_blobs_id_column";
    assert_eq!(
        migrate(&["version"]).ok(),
        "no database migrations have been applied yet\n"
    );
    let status = migrate(&["status"]).ok();
    assert_eq!(
        status
            .lines()
            .filter(|line| line.ends_with("| no |") || line.contains("| no "))
            .count(),
        200
    );
    migrate(&["status", "--up-to-date"]).fails(1);
    let planned = migrate(&["up", "--dry-run"]).ok();
    assert_eq!(planned.lines().count(), 200);
    assert!(!planned.contains("OK:"), "{planned}");
    let done = migrate(&["up"]).ok();
    assert!(done.starts_with(first), "{done}");
    assert!(
        done.contains("\nOK: applied 184 pre-deployment migration(s), 10 post-deployment migration(s) and 0 background migration(s) in "),
        "{done}"
    );
    let again = migrate(&["up"]).ok();
    assert!(
        again.starts_with("OK: applied 0 pre-deployment migration(s), 0 post"),
        "{again}"
    );
    assert_eq!(migrate(&["version"]).ok().trim(), last);
    assert_eq!(migrate(&["status", "--up-to-date"]).ok(), "true\n");
    let status = migrate(&["status"]).ok();
    assert!(!status.contains("| no "), "{status}");
    // What a newer registry added is served, and left alone.
    postgres.sql(
        "migrated",
        "INSERT INTO schema_migrations (id, applied_at) VALUES ('29990101000000_of_the_future', now())",
    );
    let status = migrate(&["status"]).ok();
    let row = status
        .lines()
        .find(|line| line.contains("of_the_future"))
        .expect("listed");
    assert!(row.contains("unknown migration"), "{row}");
    assert!(migrate(&["up"]).ok().contains("applied 0 pre"));
    let refused = migrate(&["down", "--yes"]).refused();
    assert!(refused.contains("of_the_future"), "{refused}");
    postgres.sql("migrated", "DELETE FROM schema_migrations WHERE id LIKE '2999%'");
    // Nothing with content is taken down, and nothing without a word.
    postgres.sql(
        "migrated",
        "WITH n AS (INSERT INTO top_level_namespaces (name) VALUES ('a') RETURNING id)
         INSERT INTO repositories (top_level_namespace_id, name, path) SELECT id, 'a', 'a' FROM n",
    );
    let refused = migrate(&["down", "--yes"]).refused();
    assert!(refused.contains("1 repositories"), "{refused}");
    postgres.sql("migrated", "DELETE FROM top_level_namespaces");
    // With what renaming a repository leaves behind.
    postgres.sql("migrated", "CREATE TABLE kdk.repository_leases (path text)");
    assert!(migrate(&["down"]).refused().contains("--yes"));
    assert!(migrate(&["down", "--yes"]).ok().contains("OK: removed 184 pre"));
    assert_eq!(
        postgres.sql(
            "migrated",
            "SELECT count(*) FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
                WHERE nspname IN ('public', 'partitions', 'kdk')"
        ),
        "0\n"
    );
    // In two parts, the second while a registry may serve.
    let first_part = migrate(&["up", "--skip-post-deployment"]).ok();
    assert!(
        first_part.contains("applied 184 pre-deployment migration(s), 0 post"),
        "{first_part}"
    );
    migrate(&["status", "--up-to-date"]).fails(1);
    assert_eq!(migrate(&["status", "-u", "-s"]).ok(), "true\n");
    let indexes = || postgres.sql("migrated", "SELECT count(*) FROM pg_class WHERE relkind IN ('i', 'I')");
    let before = indexes();
    assert_eq!(migrate(&["up", "--dry-run"]).ok().lines().count(), 16);
    let future = "INSERT INTO schema_migrations (id, applied_at) VALUES ('29990101000000_of_the_future', now())";
    postgres.sql("migrated", future);
    let refused = migrate(&["up"]).refused();
    assert!(refused.contains("of_the_future"), "{refused}");
    postgres.sql(
        "migrated",
        "DELETE FROM schema_migrations WHERE id LIKE '2999%'; DROP TABLE post_deploy_schema_migrations",
    );
    assert!(
        migrate(&["up"])
            .ok()
            .contains("applied 0 pre-deployment migration(s), 10 post")
    );
    assert_eq!(
        indexes().trim().parse::<u32>().expect("a number"),
        // And the two of kdk's own, with the keys of the list of those, and of repositories' numbers.
        before.trim().parse::<u32>().expect("a number") + 130 + 65 * 2 + 2 + 1
    );
    assert!(migrate(&["up", "-n", "3"]).refused().contains("--limit"));
    assert!(
        migrate(&["down", "-f", "-p", "3"])
            .refused()
            .contains("--post-deploy-limit")
    );
    // An older registry's schema is not ours to bring further.
    postgres.sql(
        "migrated",
        &format!("DELETE FROM schema_migrations WHERE id = '{last}'"),
    );
    let refused = migrate(&["up"]).refused();
    assert!(refused.contains("older registry"), "{refused}");
    postgres.forget("migrated");
}

pub const QUICK_GC: &str =
    "gc:\n  noidlebackoff: true\n  blobs:\n    interval: 20ms\n  manifests:\n    interval: 20ms\n";
// Rows that somebody holds are left alone, else the test would be in a deadlock with what it tests.
pub const ALL_DUE: &str = "UPDATE gc_blob_review_queue SET review_after = now() - interval '1 second'
    WHERE digest IN (SELECT digest FROM gc_blob_review_queue FOR UPDATE SKIP LOCKED);
    UPDATE gc_manifest_review_queue SET review_after = now() - interval '1 second'
    WHERE manifest_id IN (SELECT manifest_id FROM gc_manifest_review_queue FOR UPDATE SKIP LOCKED)";

/// A registry that collects all the time, and the name of its database.
pub fn collecting(name: &str) -> TestRegistry {
    let postgres = TestPostgres::shared();
    postgres.database(name);
    let section = postgres.section(name, true);
    TestRegistry::with(temporary(), &format!("{section}{QUICK_GC}"), &[])
}

fn blob_is_stored(registry: &TestRegistry, digest: &str) -> bool {
    let hex = digest.strip_prefix("sha256:").expect("sha256");
    let blobs = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/blobs/sha256");
    blobs.join(&hex[..2]).join(hex).join("data").exists()
}

#[test]
fn what_nothing_needs_is_removed_while_the_registry_serves() {
    let postgres = TestPostgres::shared();
    postgres.database("collecting");
    let debug = crate::support::port();
    let more = format!("  debug:\n    addr: 127.0.0.1:{debug}\n    prometheus:\n      enabled: true\n");
    let section = postgres.section("collecting", true);
    let registry = TestRegistry::with(temporary(), &format!("{more}{section}{QUICK_GC}"), &[]);
    let (kept_bytes, kept) = registry.push_image("a/b", "kept", "kept");
    let (_, moved) = registry.push_image("a/b", "moving", "old");
    registry.push_image("a/b", "moving", "new");
    let (child_bytes, child) = registry.push_image("a/b", "child", "child");
    let index = index_of(&[(&child, child_bytes.len())]);
    registry.put_manifest("a/b", "index", OCI_INDEX, &index);
    assert_eq!(registry.send("DELETE", "/v2/a/b/manifests/child").status(), 202);
    // Attached to what is kept; to what goes; and to what comes later.
    let attach = |subject: &str, size: usize, note: &str| {
        let config = registry.push_blob("a/b", b"{}");
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x-signature",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
            "layers": [], "annotations": {"note": note},
            "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": size}})
        .to_string();
        let digest = digest(manifest.as_bytes());
        let done = registry.put_manifest("a/b", &digest, OCI_MANIFEST, manifest.as_bytes());
        assert_eq!(done.status(), 201);
        digest
    };
    let signature = attach(&kept, kept_bytes.len(), "a signature");
    let countersignature = attach(&signature, 500, "a signature of the signature");
    let lost = attach(&moved, 500, "of what goes");
    let late = {
        let (bytes, digest) = registry.push_image("x/y", "t", "late");
        let late = attach(&digest, bytes.len(), "early");
        let parsed: Value = serde_json::from_slice(&bytes).expect("JSON");
        for seed in [b"{\"seed\":\"late\"}".as_slice(), b"layer late"] {
            registry.push_blob("a/b", seed);
        }
        assert!(parsed["layers"].is_array());
        registry.put_manifest("a/b", "late", OCI_MANIFEST, &bytes);
        late
    };
    // Tagged, and there before its untagged subject.
    let subject = image_without_layers(&registry, "to come");
    let early = {
        let digest = attach(&digest(subject.as_bytes()), subject.len(), "early and tagged");
        let content = registry
            .get(&format!("/v2/a/b/manifests/{digest}"))
            .bytes()
            .expect("read");
        registry.put_manifest("a/b", "early", OCI_MANIFEST, &content);
        digest
    };
    let subject_digest = digest(subject.as_bytes());
    registry.put_manifest("a/b", &subject_digest, OCI_MANIFEST, subject.as_bytes());
    let alone = registry.push_blob("a/b", b"nobody refers to this");
    assert!(blob_is_stored(&registry, &alone));
    let manifest = |digest: &str| registry.get(&format!("/v2/a/b/manifests/{digest}")).status().as_u16();
    let old_layer = digest(b"layer old");
    crate::support::wait("garbage is removed", || {
        // What goes makes more due.
        postgres.sql("collecting", ALL_DUE);
        let gone = manifest(&moved) == 404 && manifest(&lost) == 404;
        (gone && !blob_is_stored(&registry, &alone) && !blob_is_stored(&registry, &old_layer)).then_some(())
    });
    crate::support::wait("nothing is left to review", || {
        let left = postgres.sql(
            "collecting",
            "SELECT (SELECT count(*) FROM gc_blob_review_queue) + (SELECT count(*) FROM gc_manifest_review_queue)",
        );
        (left == "0\n").then_some(())
    });
    for digest in [
        &kept,
        &child,
        &signature,
        &countersignature,
        &late,
        &early,
        &subject_digest,
    ] {
        assert_eq!(manifest(digest), 200, "{digest}");
    }
    assert_eq!(registry.get("/v2/a/b/manifests/index").status(), 200);
    let referrers: Value = registry.get(&format!("/v2/a/b/referrers/{kept}")).json().expect("JSON");
    assert_eq!(referrers["manifests"][0]["digest"], signature.as_str());
    for content in [
        b"layer kept".as_slice(),
        b"layer child",
        b"layer new",
        b"layer late",
        b"{}",
    ] {
        let path = format!("/v2/a/b/blobs/{}", digest(content));
        assert_eq!(registry.get(&path).status(), 200);
    }
    assert_error(registry.get(&format!("/v2/a/b/blobs/{alone}")), 404, "BLOB_UNKNOWN");
    // What was collected can be pushed again.
    registry.push_image("a/b", "again", "old");
    let config = registry.directory.path().join("config.yml");
    let status = Output::of(
        Command::new(KDK)
            .args(["registry", "gc", "status", "--json"])
            .arg(&config),
    )
    .ok();
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert!(status["removed"]["blobs"].as_u64() >= Some(3), "{status}");
    assert!(status["removed"]["bytes"].as_u64() > Some(20), "{status}");
    assert_eq!(status["manifests"]["postponed"], 0);
    let numbers = registry.get(&format!("http://127.0.0.1:{debug}/metrics"));
    let numbers = numbers.text().expect("read");
    let number = |name: &str| -> u64 {
        let line = numbers.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_default()
    };
    assert_eq!(
        number("registry_gc_runs_total{worker=\"blob\",noop=\"false\",dangling=\"true\",error=\"false\"}"),
        status["removed"]["blobs"].as_u64().expect("a number"),
        "{numbers}"
    );
    assert!(number("registry_gc_storage_deleted_bytes_total") > 20, "{numbers}");
    postgres.forget("collecting");
}

fn image_without_layers(registry: &TestRegistry, note: &str) -> String {
    let config = registry.push_blob("a/b", b"{}");
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "annotations": {"note": note},
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2}})
    .to_string()
}

/// Whatever is pushed again while it is being collected is whole when the
/// push is acknowledged and stays so while it is tagged.
#[test]
fn pushes_and_the_collection_do_not_hurt_each_other() {
    let postgres = TestPostgres::shared();
    let registry = collecting("contended");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                postgres.sql("contended", ALL_DUE);
            }
        });
        let pushers: Vec<_> = (0..4)
            .map(|number| {
                let registry = &registry;
                scope.spawn(move || {
                    let mut pushed = 0;
                    for round in 0..25 {
                        // The same few images over and over, by everybody.
                        let tag = format!("t{}", (round + number) % 3);
                        if try_push(registry, &tag).is_some() {
                            pushed += 1;
                        }
                        if round % 5 == 4 {
                            registry.send("DELETE", &format!("/v2/a/b/manifests/{tag}"));
                        }
                    }
                    pushed
                })
            })
            .collect();
        let pushed: usize = pushers.into_iter().map(|pusher| pusher.join().expect("no panic")).sum();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        // A blob may be collected between its push and its manifest's: then
        // the client is told, and pushes it again.
        assert!(pushed > 30, "{pushed}");
    });
    for number in 0..3 {
        let manifest = registry.get(&format!("/v2/a/b/manifests/t{number}"));
        if manifest.status() == 404 {
            continue;
        }
        let manifest: Value = manifest.json().expect("JSON");
        for blob in [&manifest["config"], &manifest["layers"][0]] {
            let digest = blob["digest"].as_str().expect("text");
            assert_eq!(registry.get(&format!("/v2/a/b/blobs/{digest}")).status(), 200);
            assert!(blob_is_stored(&registry, digest));
        }
    }
    postgres.forget("contended");
}

/// Names and definitions of everything in the schema: GitLab's registry goes by them.
#[test]
fn the_schema_is_gitlabs() {
    let postgres = TestPostgres::shared();
    postgres.database_of_kdk("schema_listed");
    let list = |sql: &str| postgres.sql("schema_listed", sql);
    let parts = [
        (
            "tables",
            "SELECT c.relname, coalesce(pg_get_partkeydef(c.oid), '-'),
                (SELECT count(*) FROM pg_inherits AS i WHERE i.inhparent = c.oid)
            FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1",
        ),
        (
            "columns",
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                pg_get_expr(d.adbin, d.adrelid), a.attidentity
            FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
            LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
            ORDER BY 1, a.attnum",
        ),
        (
            "constraints",
            "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'u', 'f', 'c') AND conparentid = 0
            ORDER BY conrelid::regclass::text, conname",
        ),
        (
            "indexes",
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
                OR schemaname = 'partitions' AND tablename LIKE '%\\_p\\_0' ORDER BY indexname",
        ),
        (
            "functions",
            "SELECT proname, pg_get_function_identity_arguments(oid), pg_get_function_result(oid)
            FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
        ),
        (
            "triggers",
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger
            WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
            ORDER BY 1",
        ),
        ("media types", "SELECT id, media_type FROM media_types ORDER BY id"),
        ("migrations", "SELECT id FROM schema_migrations ORDER BY id"),
        (
            "later migrations",
            "SELECT id FROM post_deploy_schema_migrations ORDER BY id",
        ),
        (
            "background migrations",
            "SELECT status, count(*), min(name), max(name) FROM batched_background_migrations GROUP BY 1",
        ),
        (
            "reviews",
            "SELECT event, value FROM gc_review_after_defaults ORDER BY event",
        ),
    ];
    let shown: String = parts
        .map(|(title, sql)| format!("## {title}\n{}\n", list(sql)))
        .concat();
    insta::assert_snapshot!("schema", shown);
    // Every partition is like the first.
    let partitions = "SELECT count(*), count(DISTINCT parent) FROM (SELECT i.inhparent AS parent, c.relname
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid AND c.relkind = 'r') AS x";
    assert_eq!(list(partitions), "512|8\n");
    postgres.forget("schema_listed");
}

/// As in files: what is attached to an image outlives it, and finds it again.
#[test]
fn what_is_attached_outlives_its_subject() {
    let registry = Face::Database.start();
    let (bytes, image) = registry.push_image("a/b", "t", "x");
    let config = registry.push_blob("a/b", b"{}");
    let signature = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x-signature",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2}, "layers": [],
        "subject": {"mediaType": OCI_MANIFEST, "digest": image, "size": bytes.len()}})
    .to_string();
    let pushed = registry.put_manifest("a/b", "signature", OCI_MANIFEST, signature.as_bytes());
    assert_eq!(header(&pushed, "oci-subject"), image);
    let referrers = || {
        let listed: Value = registry
            .get(&format!("/v2/a/b/referrers/{image}"))
            .json()
            .expect("JSON");
        listed["manifests"].as_array().expect("a list").len()
    };
    assert_eq!(referrers(), 1);
    let path = format!("/v2/a/b/manifests/{image}");
    assert_eq!(registry.send("DELETE", &path).status(), 202);
    assert_eq!(registry.get("/v2/a/b/manifests/signature").status(), 200);
    assert_eq!(referrers(), 1);
    registry.push_image("a/b", "t", "x");
    assert_eq!(referrers(), 1);
}

/// Names that no database knows are no failures of the server.
#[test]
fn odd_names_are_answered() {
    let registry = Face::Database.start();
    registry.push_image("a/b", "t", "x");
    assert_eq!(registry.get("/v2/_catalog?last=%00").status(), 200);
    assert_eq!(registry.get("/v2/a/b/tags/list?last=a%00b").status(), 200);
    let config = registry.push_blob("a/b", b"{}");
    for kind in ["x/\u{0}", &"y".repeat(300)] {
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
            "config": {"mediaType": kind, "digest": config, "size": 2}})
        .to_string();
        let answer = registry.put_manifest("a/b", "odd", OCI_MANIFEST, manifest.as_bytes());
        assert_error(answer, 400, "MANIFEST_INVALID");
    }
}

/// Every `sslmode`, against a server that takes nothing without TLS.
#[test]
fn connections_are_secured_as_the_mode_says() {
    let postgres = TestPostgres::start_with_tls();
    postgres.make_template();
    postgres.database("registry_dev");
    let directory = temporary();
    let own = postgres.socket.join("server.crt");
    let other = directory.path().join("other.crt");
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]);
    openssl
        .arg("-keyout")
        .arg(directory.path().join("other.key"))
        .arg("-out")
        .arg(&other);
    Output::of(&mut openssl).ok();
    let ask_as = |user: &str, host: &str, mode: &str, root: Option<&std::path::Path>| {
        let config = directory.path().join("config.yml");
        let root = root.map_or(String::new(), |path| format!("  sslrootcert: {}\n", path.display()));
        let text = format!(
            "version: 0.1\nstorage:\n  inmemory: {{}}\nhttp:\n  addr: 127.0.0.1:0\ndatabase:\n  host: {host}\n  port: {}\n  user: {user}\n  dbname: registry_dev\n  sslmode: {mode}\n{root}",
            postgres.port
        );
        std::fs::write(&config, text).expect("written");
        Output::of(
            Command::new(KDK)
                .args(["registry", "database", "migrate", "version"])
                .arg(&config),
        )
    };
    let ask = |host: &str, mode: &str, root: Option<&std::path::Path>| ask_as("postgres", host, mode, root);
    for (host, mode, root) in [
        ("127.0.0.1", "prefer", None),
        ("127.0.0.1", "require", None),
        ("127.0.0.1", "verify-ca", Some(own.as_path())),
        ("localhost", "verify-ca", Some(own.as_path())),
        ("localhost", "verify-full", Some(own.as_path())),
    ] {
        let answer = ask(host, mode, root);
        assert_eq!(answer.code, 0, "{host} {mode}: {}", answer.stderr);
    }
    for (host, mode, root, reason) in [
        ("127.0.0.1", "disable", None, "no encryption"),
        ("127.0.0.1", "verify-full", Some(own.as_path()), "not valid for"),
        (
            "localhost",
            "verify-full",
            Some(other.as_path()),
            "invalid peer certificate",
        ),
        (
            "localhost",
            "verify-ca",
            Some(other.as_path()),
            "invalid peer certificate",
        ),
        // As libpq: an authority that is named is minded.
        (
            "localhost",
            "require",
            Some(other.as_path()),
            "invalid peer certificate",
        ),
        ("localhost", "verify-full", None, "database.sslrootcert"),
    ] {
        let refused = ask(host, mode, root).refused();
        assert!(refused.contains(reason), "{host} {mode}: {refused}");
    }
    // Who has a certificate, and who has not, or another's.
    postgres.sql("registry_dev", "CREATE ROLE certified LOGIN SUPERUSER");
    let file = |name: &str| postgres.socket.join(name).display().to_string();
    let with = |certificate: &str, key: &str| format!("certified\n  sslcert: {certificate}\n  sslkey: {key}");
    let answer = ask_as(
        &with(&file("client.crt"), &file("client.key")),
        "localhost",
        "verify-full",
        Some(&own),
    );
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let others = [
        other.display().to_string(),
        directory.path().join("other.key").display().to_string(),
    ];
    for (user, reason) in [
        ("certified".to_owned(), "certificate"),
        (with(&others[0], &others[1]), "UnknownCA"),
        (with(&file("client.crt"), &others[1]), "client.crt"),
        (with("/no/such.crt", &file("client.key")), "/no/such.crt"),
    ] {
        let refused = ask_as(&user, "localhost", "verify-full", Some(&own)).refused();
        assert!(refused.contains(reason), "{user}: {refused}");
    }
}

/// A schema that is taken away under a server is missed, and found again.
#[test]
fn a_schema_may_go_and_come_back() {
    let postgres = TestPostgres::shared();
    postgres.database("schemaless");
    let registry = TestRegistry::with(temporary(), &postgres.section("schemaless", true), &[]);
    assert_eq!(registry.get("/v2/_catalog").status(), 200);
    let config = registry.directory.path().join("config.yml");
    let migrate = |arguments: &[&str]| {
        let mut command = Command::new(KDK);
        Output::of(
            command
                .args(["registry", "database", "migrate"])
                .args(arguments)
                .arg(&config),
        )
        .ok();
    };
    migrate(&["down", "--yes"]);
    let answer = registry.get("/v2/_catalog");
    assert_eq!(header(&answer, "retry-after"), "10");
    assert_error(answer, 503, "UNAVAILABLE");
    migrate(&["up"]);
    registry.push_image("a/b", "t", "x");
    // The same types have other numbers in another schema.
    let own = |note: &str| {
        image_without_layers(&registry, note).replace("application/vnd.oci.empty.v1+json", "application/x-own")
    };
    let pushed = registry.put_manifest("a/b", "own", OCI_MANIFEST, own("one").as_bytes());
    assert_eq!(pushed.status(), 201);
    postgres.sql(
        "schemaless",
        "DELETE FROM manifests; DELETE FROM repositories; DELETE FROM top_level_namespaces",
    );
    migrate(&["down", "--yes"]);
    migrate(&["up"]);
    postgres.sql(
        "schemaless",
        "INSERT INTO media_types (media_type) VALUES ('application/x-other')",
    );
    let again = own("two");
    let pushed = registry.put_manifest("a/b", "own", OCI_MANIFEST, again.as_bytes());
    assert_eq!(pushed.status(), 201);
    let types = "SELECT t.media_type FROM manifests JOIN media_types AS t ON t.id = configuration_media_type_id";
    assert_eq!(postgres.sql("schemaless", types), "application/x-own\n");
    postgres.forget("schemaless");
}

/// What the database knows of is checked against the storage.
#[test]
fn what_the_database_says_is_verified() {
    let postgres = TestPostgres::shared();
    postgres.database("verified");
    let registry = TestRegistry::with(temporary(), &postgres.section("verified", true), &[]);
    let (_, image) = registry.push_image("a/b", "t", "one");
    registry.push_image("a/b", "u", "two");
    // What a collection has left of link files says nothing of what is there.
    let stale = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/repositories/old/one/_manifests/tags/gone/current");
    std::fs::create_dir_all(&stale).expect("made");
    std::fs::write(stale.join("link"), digest(b"gone")).expect("written");
    let verify = |options: &[&str]| {
        let config = registry.directory.path().join("config.yml");
        Output::of(Command::new(KDK).args(["registry", "verify"]).args(options).arg(config))
    };
    let well = verify(&[]).ok();
    assert!(well.contains("2 manifests in 1 repositories: all is well"), "{well}");
    // A layer that is stored and was taken out of its repository.
    let layer = digest(b"layer two");
    let path = format!("/v2/a/b/blobs/{layer}");
    assert_eq!(registry.send("DELETE", &path).status(), 202);
    let report: Value = serde_json::from_str(&verify(&["--json"]).stdout).expect("JSON");
    let one = &report["findings"][0];
    assert_eq!(
        (
            one["problem"].as_str(),
            one["repository"].as_str(),
            one["subject"].as_str()
        ),
        (Some("missing-layer-link"), Some("a/b"), Some(&*layer)),
        "{report}"
    );
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(1), "{report}");
    registry.push_blob("a/b", b"layer two");
    verify(&[]).ok();
    let data = |content: &[u8]| {
        let digest = digest(content);
        let hex = &digest["sha256:".len()..];
        let blobs = registry
            .directory
            .path()
            .join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    };
    std::fs::remove_file(data(b"layer one")).expect("removed");
    std::fs::write(data(b"layer two"), "short").expect("written");
    postgres.sql(
        "verified",
        &format!(
            "UPDATE manifests SET payload = 'other' WHERE digest = '\\x01{}'",
            &image["sha256:".len()..]
        ),
    );
    let report = verify(&["--json"]);
    assert_eq!(report.code, 1, "{}", report.shown());
    let report: Value = serde_json::from_str(&report.stdout).expect("JSON");
    let found: Vec<(&str, &str)> = report["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            (
                one["problem"].as_str().expect("text"),
                one["subject"].as_str().expect("text"),
            )
        })
        .filter(|(problem, _)| *problem != "leftover")
        .collect();
    let (one, two) = (digest(b"layer one"), digest(b"layer two"));
    assert_eq!(
        found,
        [
            ("corrupt-blob", two.as_str()),
            ("corrupt-manifest", image.as_str()),
            ("missing-blob", one.as_str()),
            ("wrong-size", two.as_str()),
        ]
    );
    // Corrupt content is put aside, and comes back with the next push.
    let mut registry = registry;
    registry.stop();
    let config = registry.directory.path().join("config.yml");
    let mended = Output::of(
        Command::new(KDK)
            .args(["registry", "verify", "--repair", "--yes"])
            .arg(&config),
    );
    assert!(mended.stdout.contains("moved to .kdk/quarantine"), "{}", mended.shown());
    let directory = std::mem::replace(&mut registry.directory, temporary());
    let registry = TestRegistry::with(directory, &postgres.section("verified", true), &[]);
    assert_error(registry.get(&format!("/v2/a/b/blobs/{two}")), 404, "BLOB_UNKNOWN");
    for content in ["layer one", "layer two"] {
        registry.push_blob("a/b", content.as_bytes());
    }
    registry.send("DELETE", &format!("/v2/a/b/manifests/{image}"));
    registry.push_image("a/b", "t", "one");
    let config = registry.directory.path().join("config.yml");
    let well = Output::of(Command::new(KDK).args(["registry", "verify"]).arg(config)).ok();
    assert!(well.contains("2 manifests in 1 repositories: all is well"), "{well}");
    postgres.forget("verified");
}
