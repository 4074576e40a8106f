//! From link files to the database: nothing is lost, whatever happens meanwhile.

use std::process::Command;

use kdk::registry::oci::{Algorithm, Digest};
use serde_json::{Value, json};

use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, TestRegistry, digest, header};
use crate::support::{KDK, Output, temporary};

/// Stops a registry and writes the configuration of its import.
fn prepare(mut registry: TestRegistry, database: &str) -> tempfile::TempDir {
    registry.stop();
    let directory = std::mem::replace(&mut registry.directory, temporary());
    let postgres = TestPostgres::shared();
    postgres.database(database);
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n{}",
        directory.path().join("storage").display(),
        postgres.section(database, false)
    );
    std::fs::write(directory.path().join("import.yml"), text).expect("written");
    directory
}

fn import(directory: &tempfile::TempDir, options: &[&str]) -> Command {
    let mut command = Command::new(KDK);
    command
        .args(["registry", "database", "import", "--log-directory"])
        .arg(directory.path());
    command.args(options).arg(directory.path().join("import.yml"));
    command
}

fn serve(directory: tempfile::TempDir, database: &str) -> TestRegistry {
    let section = TestPostgres::shared().section(database, true);
    TestRegistry::with(directory, &section, &[])
}

fn index(entries: &[(&str, &str, usize)]) -> String {
    let manifests: Vec<Value> = entries
        .iter()
        .map(|(kind, digest, size)| json!({"mediaType": kind, "digest": digest, "size": size}))
        .collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string()
}

fn image(config: &str, note: &str, subject: Option<(&str, usize)>) -> String {
    let mut manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "annotations": {"note": note},
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2}});
    if let Some((digest, size)) = subject {
        manifest["artifactType"] = "application/x-signature".into();
        manifest["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size});
    }
    manifest.to_string()
}

#[test]
fn what_the_go_importer_loses_is_imported_and_what_is_broken_left_out() {
    let registry = TestRegistry::start();
    let put = |name: &str, reference: &str, kind: &str, content: &str| {
        let answer = registry.put_manifest(name, reference, kind, content.as_bytes());
        assert_eq!(answer.status(), 201, "{:?}", answer.text());
        digest(content.as_bytes())
    };
    let config = registry.push_blob("a/b", b"{}");
    let child = image(&config, "child", None);
    let child_digest = put("a/b", "child", OCI_MANIFEST, &child);
    registry.send("DELETE", "/v2/a/b/manifests/child");
    let inner = index(&[(OCI_MANIFEST, &child_digest, child.len())]);
    let inner_digest = put("a/b", &digest(inner.as_bytes()), OCI_INDEX, &inner);
    // A build cache: an index of blobs.
    let cached = registry.push_blob("a/b", b"a cached layer");
    let outer = index(&[
        (OCI_INDEX, &inner_digest, inner.len()),
        ("application/vnd.oci.image.layer.v1.tar+gzip", &cached, 14),
    ]);
    put("a/b", "nested", OCI_INDEX, &outer);
    // Attached to the child, untagged, and to that again; and to nothing that is there.
    let signature = image(&config, "signature", Some((&child_digest, child.len())));
    let signature_digest = put("a/b", &digest(signature.as_bytes()), OCI_MANIFEST, &signature);
    let counter = image(&config, "countersignature", Some((&signature_digest, signature.len())));
    let counter_digest = put("a/b", &digest(counter.as_bytes()), OCI_MANIFEST, &counter);
    let orphan = image(&config, "early", Some((&digest(b"to come"), 7)));
    put("a/b", "early", OCI_MANIFEST, &orphan);
    // sha512 all the way.
    let long = Digest::of(Algorithm::Sha512, child.as_bytes()).to_string();
    let answer = registry.put_manifest("a/b", &format!("{long}?tag=long"), OCI_MANIFEST, child.as_bytes());
    assert_eq!(answer.status(), 201);
    // An index one of whose children is gone, a manifest without its layer, a tag without manifest.
    let (lost_bytes, lost) = registry.push_image("broken/index", "lost", "lost");
    let (kept_bytes, kept) = registry.push_image("broken/index", "kept", "kept");
    let half = index(&[
        (OCI_MANIFEST, &lost, lost_bytes.len()),
        (OCI_MANIFEST, &kept, kept_bytes.len()),
    ]);
    put("broken/index", "half", OCI_INDEX, &half);
    registry.push_image("broken/layer", "t", "hollow");
    registry.push_image("broken/layer", "good", "good");
    let untagged = registry.push_image("a/b", "moving", "before").1;
    registry.push_image("a/b", "moving", "after");
    let lonely = registry.push_blob("a/b", b"no manifest names this");
    let directory = prepare(registry, "imported");
    let blobs = directory.path().join("storage/docker/registry/v2/blobs/sha256");
    for broken in [lost.as_str(), &digest(b"layer hollow")] {
        let hex = broken.strip_prefix("sha256:").expect("sha256");
        std::fs::remove_dir_all(blobs.join(&hex[..2]).join(hex)).expect("removed");
    }
    let tree = directory.path().join("storage/docker/registry/v2");
    let link = |path: &str, content: &str| {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, content).expect("written");
    };
    let manifests = "repositories/broken/layer/_manifests";
    link(&format!("{manifests}/tags/empty/current/link"), "");
    // A kind, and a digest, of long ago.
    let old_kind =
        r#"{"schemaVersion":1,"name":"broken/layer","tag":"one","fsLayers":[],"history":[],"signatures":[]}"#;
    let old = digest(old_kind.as_bytes());
    link(&format!("blobs/sha256/{}/{}/data", &old[7..9], &old[7..]), old_kind);
    link(&format!("{manifests}/revisions/sha256/{}/link", &old[7..]), &old);
    link(&format!("{manifests}/tags/one/current/link"), &old);
    link(
        &format!("{manifests}/tags/md5/current/link"),
        "md5:d41d8cd98f00b204e9800998ecf8427e",
    );

    let dry = Output::of(&mut import(&directory, &["--dry-run", "--row-count"]));
    let rows = || dry.stdout.lines().filter(|line| !line.contains(" repositories, "));
    assert!(
        rows().count() > 5 && rows().all(|line| line.ends_with(" 0")),
        "{}",
        dry.stdout
    );
    assert!(dry.stderr.contains("Nothing was written"), "{}", dry.stderr);
    let done = Output::of(&mut import(&directory, &[]));
    // A dry run counts as the import does.
    let counted = |said: &Output| {
        let line = said.stdout.lines().find(|line| line.contains(" repositories, "));
        line.expect("the counts").to_owned()
    };
    assert_eq!(counted(&dry), counted(&done));
    for skipped in [
        "broken/layer@",
        "broken/index@",
        "it is of a kind that is not supported",
        "broken/layer:md5 is left out: its link leads to nothing",
    ] {
        assert!(done.stderr.contains(skipped), "{}", done.stderr);
    }
    assert!(done.stdout.contains("registry import complete"), "{}", done.shown());
    done.ok();
    // One mark is left: GitLab's registry starts with no storage that has both.
    let locks = directory.path().join("storage/docker/registry/lockfiles");
    std::fs::write(locks.join("filesystem-in-use"), r#"{"version":1}"#).expect("written");
    let registry = serve(directory, "imported");
    let locks = registry.directory.path().join("storage/docker/registry/lockfiles");
    assert!(locks.join("database-in-use").exists() && !locks.join("filesystem-in-use").exists());
    let statistics: Value = registry.get("/gitlab/v1/statistics/").json().expect("JSON");
    assert!(
        statistics["import"].is_array() || statistics["import"].is_object(),
        "{statistics}"
    );
    for (reference, content) in [
        ("nested", &outer),
        (inner_digest.as_str(), &inner),
        (child_digest.as_str(), &child),
        (signature_digest.as_str(), &signature),
        (counter_digest.as_str(), &counter),
        ("early", &orphan),
        (long.as_str(), &child),
        ("long", &child),
    ] {
        let answer = registry.get(&format!("/v2/a/b/manifests/{reference}"));
        assert_eq!(answer.status(), 200, "{reference}");
        assert!(answer.bytes().expect("read") == content.as_bytes(), "{reference}");
    }
    assert_eq!(
        header(&registry.get("/v2/a/b/manifests/long"), "docker-content-digest"),
        long
    );
    let referrers = |subject: &str| {
        let listed: Value = registry
            .get(&format!("/v2/a/b/referrers/{subject}"))
            .json()
            .expect("JSON");
        let found = listed["manifests"].as_array().expect("a list").iter();
        found
            .map(|entry| entry["digest"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(referrers(&child_digest), [signature_digest.as_str()]);
    assert_eq!(referrers(&signature_digest), [counter_digest.as_str()]);
    assert_eq!(referrers(&digest(b"to come")), [digest(orphan.as_bytes())]);
    for blob in [&config, &cached] {
        assert_eq!(registry.get(&format!("/v2/a/b/blobs/{blob}")).status(), 200);
    }
    // What no tag led to stays behind, for the collection.
    assert_eq!(registry.get(&format!("/v2/a/b/manifests/{untagged}")).status(), 404);
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{lonely}")).status(), 404);
    let known = TestPostgres::shared().sql("imported", "SELECT count(*) FROM blobs WHERE size = 22");
    assert_eq!(known, "1\n");
    assert_eq!(registry.get("/v2/broken/index/manifests/half").status(), 200);
    assert_eq!(registry.get("/v2/broken/index/manifests/kept").status(), 200);
    assert_eq!(registry.get("/v2/broken/index/manifests/lost").status(), 404);
    assert_eq!(registry.get("/v2/broken/layer/manifests/t").status(), 404);
    assert_eq!(registry.get("/v2/broken/layer/manifests/good").status(), 200);
    let tags: Value = registry.get("/v2/broken/layer/tags/list").json().expect("JSON");
    assert_eq!(tags["tags"], json!(["good"]));
    TestPostgres::shared().forget("imported");
}

#[test]
fn an_import_that_is_killed_again_and_again_comes_to_its_end() {
    let registry = TestRegistry::start();
    let mut pushed = Vec::new();
    for repository in 0..40 {
        let name = format!("group/r{repository}");
        for tag in 0..3 {
            let seed = format!("{repository} {tag}");
            let (bytes, _) = registry.push_image(&name, &format!("t{tag}"), &seed);
            pushed.push((format!("/v2/{name}/manifests/t{tag}"), bytes));
        }
    }
    let directory = prepare(registry, "interrupted");
    // Another, of the same files, which nobody kills.
    let whole = temporary();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(directory.path().join("storage"))
        .arg(whole.path())
        .status();
    assert!(copied.expect("run").success());
    let postgres = TestPostgres::shared();
    postgres.database("in_one_go");
    let text = std::fs::read_to_string(directory.path().join("import.yml")).expect("read");
    let text = text
        .replace(
            directory.path().to_str().expect("UTF-8"),
            whole.path().to_str().expect("UTF-8"),
        )
        .replace("dbname: interrupted", "dbname: in_one_go");
    std::fs::write(whole.path().join("import.yml"), text).expect("written");
    Output::of(&mut import(&whole, &[])).ok();
    // It is killed at the next place each time, so that every part of it is cut off once.
    for nth in 1.. {
        let mut running = import(&directory, &[]);
        let output = Output::of(running.env("KDK_FAILPOINTS", format!("import=kill@{nth}")));
        if output.code != -1 {
            // The one before may have been killed after its last word.
            let is_done = output.code == 0 || output.stderr.contains("has repositories already");
            assert!(is_done, "{output:?}");
            assert!(nth > 6, "it came by {nth} places only");
            break;
        }
    }
    assert_eq!(contents("interrupted"), contents("in_one_go"));
    postgres.forget("in_one_go");
    let registry = serve(directory, "interrupted");
    for (path, bytes) in &pushed {
        let answer = registry.get(path);
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.bytes().expect("read") == *bytes, "{path}");
        let manifest: Value = serde_json::from_slice(bytes).expect("JSON");
        let layer = manifest["layers"][0]["digest"].as_str().expect("text");
        let name = path
            .trim_start_matches("/v2/")
            .split("/manifests")
            .next()
            .expect("a name");
        assert_eq!(registry.get(&format!("/v2/{name}/blobs/{layer}")).status(), 200);
    }
    TestPostgres::shared().forget("interrupted");
}

/// Everything that an import leaves in a database, without numbers and times.
fn contents(database: &str) -> Vec<String> {
    [
        "SELECT path, r.name, t.name AS top, deleted_at FROM repositories AS r JOIN top_level_namespaces AS t
            ON t.id = top_level_namespace_id",
        "SELECT digest, size, media_type FROM blobs JOIN media_types AS t ON t.id = media_type_id",
        "SELECT path, blob_digest FROM repository_blobs JOIN repositories AS r ON r.id = repository_id",
        "SELECT path, m.digest, y.media_type, a.media_type, c.media_type, configuration_blob_digest,
                configuration_payload, payload, total_size, schema_version, non_conformant,
                non_distributable_layers, media_type_id = media_type_id_convert_to_bigint,
                (SELECT s.digest FROM manifests AS s WHERE s.repository_id = m.repository_id AND s.id = m.subject_id)
            FROM manifests AS m JOIN repositories AS r ON r.id = repository_id JOIN media_types AS y ON y.id = media_type_id
            LEFT JOIN media_types AS a ON a.id = artifact_media_type_id
            LEFT JOIN media_types AS c ON c.id = configuration_media_type_id",
        "SELECT path, m.digest, l.digest, l.size, y.media_type FROM layers AS l JOIN manifests AS m ON m.id = manifest_id
            JOIN repositories AS r ON r.id = m.repository_id JOIN media_types AS y ON y.id = l.media_type_id",
        "SELECT path, p.digest, c.digest FROM manifest_references AS f JOIN manifests AS p ON p.id = parent_id
            JOIN manifests AS c ON c.id = child_id JOIN repositories AS r ON r.id = f.repository_id",
        "SELECT path, t.name, m.digest FROM tags AS t JOIN manifests AS m ON m.id = manifest_id
            JOIN repositories AS r ON r.id = t.repository_id",
        "SELECT path, m.digest, g.digest FROM gc_blobs_configurations AS g JOIN manifests AS m ON m.id = manifest_id
            JOIN repositories AS r ON r.id = g.repository_id",
        "SELECT path, m.digest, g.digest FROM gc_blobs_layers AS g JOIN layers AS l ON l.id = layer_id
            JOIN manifests AS m ON m.id = l.manifest_id JOIN repositories AS r ON r.id = g.repository_id",
        "SELECT digest, event, review_count, review_after > now() + interval '23 hours' FROM gc_blob_review_queue",
        "SELECT path, m.digest, event, review_count, review_after > now() + interval '23 hours'
            FROM gc_manifest_review_queue AS q JOIN manifests AS m ON m.id = manifest_id
            JOIN repositories AS r ON r.id = q.repository_id",
        "SELECT digest FROM gc_tmp_blobs_manifests",
    ]
    .iter()
    .map(|sql| TestPostgres::shared().sql(database, &format!("SELECT x::text FROM ({sql}) AS x ORDER BY 1")))
    .collect()
}

#[test]
fn a_user_with_few_rights_imports_the_same() {
    let registry = TestRegistry::with(temporary(), "validation:\n  disabled: true\n", &[]);
    let config = registry.push_blob("a/b", b"{}");
    let plain = image(&config, "plain", None);
    for (name, kind, content) in [("plain", OCI_MANIFEST, &plain), ("many/below", OCI_MANIFEST, &plain)] {
        registry.put_manifest("a/b", name.split('/').next().expect("a tag"), kind, content.as_bytes());
    }
    let all = index(&[(OCI_MANIFEST, &digest(plain.as_bytes()), plain.len())]);
    registry.put_manifest("a/b", "all", OCI_INDEX, all.as_bytes());
    let signature = image(&config, "signature", Some((&digest(plain.as_bytes()), plain.len())));
    registry.put_manifest("a/b", &digest(signature.as_bytes()), OCI_MANIFEST, signature.as_bytes());
    for number in 0..30 {
        // Some layers are in several images, and several repositories.
        registry.push_image(
            &format!("c/r{}", number % 7),
            &format!("t{number}"),
            &format!("{}", number % 11),
        );
    }
    let foreign = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size": 5,
            "digest": digest(b"elsewhere"), "urls": ["http://127.0.0.1/elsewhere"]},
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 2, "digest": config}]})
    .to_string();
    let answer = registry.put_manifest("a/b", "foreign", OCI_MANIFEST, foreign.as_bytes());
    assert_eq!(answer.status(), 201);
    let directory = prepare(registry, "import_powerful");
    // What is written directly fires no trigger; then this one would be in the way.
    let guard = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'a trigger'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON tags FOR EACH ROW EXECUTE FUNCTION refuse()";
    TestPostgres::shared().sql("import_powerful", guard);
    Output::of(&mut import(&directory, &[])).ok();
    let postgres = TestPostgres::shared();
    postgres.database("import_weak");
    postgres.sql(
        "import_weak",
        "CREATE ROLE weak LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO weak;
            GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO weak;
            DO $$ BEGIN
                -- ANALYZE takes an owner.
                EXECUTE (SELECT string_agg(format('ALTER TABLE %I.%I OWNER TO weak', schemaname, tablename), ';')
                    FROM pg_tables WHERE schemaname = 'public');
            END $$",
    );
    // The storage says that its metadata are in a database now.
    std::fs::remove_file(
        directory
            .path()
            .join("storage/docker/registry/lockfiles/database-in-use"),
    )
    .expect("removed");
    let text = std::fs::read_to_string(directory.path().join("import.yml")).expect("read");
    let text = text
        .replace("user: postgres", "user: weak")
        .replace("import_powerful", "import_weak");
    std::fs::write(directory.path().join("import.yml"), text).expect("written");
    Output::of(&mut import(&directory, &[])).ok();
    let (powerful, weak) = (contents("import_powerful"), contents("import_weak"));
    for (powerful, weak) in powerful.iter().zip(&weak) {
        assert!(!powerful.trim().is_empty());
        assert_eq!(powerful, weak);
    }
    postgres.forget("import_powerful");
    postgres.forget("import_weak");
}

#[test]
fn an_import_hands_over_no_blob_of_another_repository() {
    let registry = TestRegistry::with(temporary(), "validation:\n  disabled: true\n", &[]);
    let secret = registry.push_blob("other/private", b"a secret layer");
    let config = registry.push_blob("x/own", b"{}");
    let grab = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "size": 14,
            "digest": secret, "urls": ["http://127.0.0.1/elsewhere"]}]})
    .to_string();
    let answer = registry.put_manifest("x/own", "t", OCI_MANIFEST, grab.as_bytes());
    assert_eq!(answer.status(), 201);
    let blob = format!("/v2/x/own/blobs/{secret}");
    assert_eq!(registry.get(&blob).status(), 404);
    // The link to a layer of this one was lost.
    registry.push_image("x/own", "unlinked", "unlinked");
    let layer = digest(b"layer unlinked");
    let link = format!(
        "storage/docker/registry/v2/repositories/x/own/_layers/sha256/{}/link",
        &layer["sha256:".len()..]
    );
    let directory = prepare(registry, "import_foreign");
    std::fs::remove_file(directory.path().join(link)).expect("removed");
    let done = Output::of(&mut import(&directory, &[]));
    assert!(
        done.stderr
            .contains(&format!("its blob {layer} is no part of the repository")),
        "{}",
        done.stderr
    );
    done.ok();
    let registry = serve(directory, "import_foreign");
    assert_eq!(registry.get("/v2/x/own/manifests/t").status(), 200);
    assert_eq!(registry.get(&blob).status(), 404);
    assert_eq!(registry.get("/v2/x/own/manifests/unlinked").status(), 404);
    TestPostgres::shared().forget("import_foreign");
}

/// Serves a storage from its files for a while.
fn in_between(directory: tempfile::TempDir, work: impl FnOnce(&TestRegistry)) -> tempfile::TempDir {
    let mut registry = TestRegistry::with(directory, "", &[]);
    work(&registry);
    registry.stop();
    std::mem::replace(&mut registry.directory, temporary())
}

#[test]
fn steps_may_be_taken_one_by_one_while_images_are_pushed() {
    let postgres = TestPostgres::shared();
    let registry = TestRegistry::start();
    let config = registry.push_blob("a/b", b"{}");
    let (old_bytes, old) = registry.push_image("a/b", "old", "old");
    registry.push_image("a/b", "moving", "before");
    registry.push_image("a/b", "gone", "gone");
    registry.push_image("c/d", "t", "other");
    // An index, an entry of which comes late.
    let (here, late) = (image(&config, "here", None), image(&config, "late", None));
    for child in [&here, &late] {
        registry.put_manifest("x/y", &digest(child.as_bytes()), OCI_MANIFEST, child.as_bytes());
    }
    registry.push_blob("x/y", b"{}");
    for child in [&here, &late] {
        let answer = registry.put_manifest("x/y", &digest(child.as_bytes()), OCI_MANIFEST, child.as_bytes());
        assert_eq!(answer.status(), 201);
    }
    let both = index(&[
        (OCI_MANIFEST, &digest(here.as_bytes()), here.len()),
        (OCI_MANIFEST, &digest(late.as_bytes()), late.len()),
    ]);
    assert_eq!(
        registry
            .put_manifest("x/y", "both", OCI_INDEX, both.as_bytes())
            .status(),
        201
    );
    registry.send("DELETE", &format!("/v2/x/y/manifests/{}", digest(late.as_bytes())));
    let directory = prepare(registry, "steps");
    let one = Output::of(&mut import(&directory, &["--step-one"]));
    assert!(!one.stderr.contains("stay behind"), "{}", one.stderr);
    one.ok();
    // Step one alone leaves the storage as it was: it goes on serving from files.
    let (mut moved, mut new) = (String::new(), String::new());
    let directory = in_between(directory, |registry| {
        moved = registry.push_image("a/b", "moving", "after").1;
        new = registry.push_image("new/one", "t", "new").1;
    });
    // What step one finished is passed over when that is asked for.
    let again = Output::of(&mut import(
        &directory,
        &["--step-one", "--pre-import-skip-recent", "1h"],
    ));
    assert!(
        again.stdout.contains("1 repositories, 0 tags, 1 manifests"),
        "{}",
        again.stdout
    );
    again.ok();
    assert!(
        Output::of(&mut import(&directory, &["--pre-import-skip-recent", "soon"]))
            .refused()
            .contains("no duration")
    );
    // Step two is cut off after its tags, before it says so.
    let two = Output::of(&mut import(&directory, &["--step-two", "--import-statistics=false"]));
    assert!(!two.stderr.contains("left out"), "{}", two.stderr);
    two.ok();
    let mark = "storage/docker/registry/lockfiles/database-in-use";
    std::fs::remove_file(directory.path().join(mark)).expect("removed");
    // Then files serve again: tags move, come and go, and signatures come.
    let signature = image(&config, "signature", Some((&old, old_bytes.len())));
    let signature_digest = digest(signature.as_bytes());
    let directory = in_between(directory, |registry| {
        moved = registry.push_image("a/b", "moving", "once more").1;
        registry.put_manifest("a/b", &signature_digest, OCI_MANIFEST, signature.as_bytes());
        registry.send("DELETE", "/v2/a/b/manifests/gone");
        registry.put_manifest("x/y", &digest(late.as_bytes()), OCI_MANIFEST, late.as_bytes());
    });
    // Blobs alone do not end it.
    Output::of(&mut import(&directory, &["--step-three"])).ok();
    Output::of(&mut import(&directory, &["--step-two"])).ok();
    assert!(directory.path().join(mark).exists());
    let registry = serve(directory, "steps");
    for (path, digest) in [("a/b/manifests/moving", &moved), ("new/one/manifests/t", &new)] {
        assert_eq!(
            header(&registry.get(&format!("/v2/{path}")), "docker-content-digest"),
            *digest
        );
    }
    let tags: Value = registry.get("/v2/a/b/tags/list").json().expect("JSON");
    assert_eq!(tags["tags"], json!(["moving", "old"]));
    let references = postgres.sql("steps", "SELECT count(*) FROM manifest_references");
    assert_eq!(references.trim(), "2");
    let referrers: Value = registry.get(&format!("/v2/a/b/referrers/{old}")).json().expect("JSON");
    assert_eq!(referrers["manifests"][0]["digest"], signature_digest.as_str());
    // Step three while it serves finds data that no row knows of.
    let lost = digest(b"lost");
    let hex = &lost["sha256:".len()..];
    let place = format!("storage/docker/registry/v2/blobs/sha256/{}/{hex}", &hex[..2]);
    std::fs::create_dir_all(registry.directory.path().join(&place)).expect("made");
    std::fs::write(registry.directory.path().join(&place).join("data"), "lost").expect("written");
    for _ in 0..2 {
        let three = Output::of(&mut import(&registry.directory, &["--step-three", "-i=false"]));
        three.ok();
    }
    let known = format!("SELECT count(*) FROM gc_blob_review_queue WHERE digest = '\\x01{hex}'");
    assert_eq!(postgres.sql("steps", &known).trim(), "1");
    let more = Output::of(&mut import(&registry.directory, &["--step-one"])).refused();
    assert!(more.contains("takes pushes"), "{more}");
    postgres.forget("steps");
}

#[test]
fn an_import_asks_which_database_is_meant() {
    let registry = TestRegistry::start();
    registry.push_image("a/b", "t", "x");
    let directory = prepare(registry, "which_one");
    let marks = directory.path().join("storage/docker/registry/lockfiles");
    std::fs::create_dir_all(&marks).expect("made");
    std::fs::write(marks.join("database-in-use"), "{\"version\":1}").expect("written");
    let refused = Output::of(&mut import(&directory, &[])).refused();
    assert!(refused.contains("is registry.database right?"), "{refused}");
    let postgres = TestPostgres::shared();
    let left = postgres.sql("which_one", "SELECT count(*) FROM import_statistics");
    assert_eq!(left.trim(), "0");
    std::fs::remove_file(marks.join("database-in-use")).expect("removed");
    // It takes what connections it needs, whatever serves get.
    let path = directory.path().join("import.yml");
    let text = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, format!("{text}  pool:\n    maxopen: 1\n")).expect("written");
    Output::of(&mut import(&directory, &["-1", "-2"])).ok();
    // What was pushed to the database since is nobody's to remove.
    let mut registry = serve(directory, "which_one");
    registry.push_image("a/b", "new", "new");
    registry.stop();
    let directory = std::mem::replace(&mut registry.directory, temporary());
    let mark = directory
        .path()
        .join("storage/docker/registry/lockfiles/database-in-use");
    std::fs::remove_file(&mark).expect("removed");
    let refused = Output::of(&mut import(&directory, &[])).refused();
    assert!(
        refused.contains("images were pushed") && refused.contains("make it again"),
        "{refused}"
    );
    std::fs::write(&mark, "{\"version\":1}").expect("written");
    Output::of(&mut import(&directory, &[])).ok();
    let registry = serve(directory, "which_one");
    for tag in ["t", "new"] {
        assert_eq!(registry.get(&format!("/v2/a/b/manifests/{tag}")).status(), 200);
    }
    postgres.forget("which_one");
}

#[test]
fn media_types_are_added_only_where_they_may_be() {
    let registry = TestRegistry::start();
    let config = registry.push_blob("a/b", b"{}");
    let odd = image(&config, "odd", None).replace("image.config.v1+json", "odd.config.v7+json");
    assert_eq!(
        registry
            .put_manifest("a/b", "odd", OCI_MANIFEST, odd.as_bytes())
            .status(),
        201
    );
    let (_, before) = registry.push_image("a/b", "plain", "before");
    registry.push_image("a/b", "plain", "x");
    let directory = prepare(registry, "known_types");
    let done = Output::of(&mut import(&directory, &["-m=false", "--import-statistics=false"]));
    assert!(done.stderr.contains("odd.config.v7+json\" is new"), "{}", done.stderr);
    assert!(done.stderr.contains("2 untagged manifests"), "{}", done.stderr);
    done.ok();
    let postgres = TestPostgres::shared();
    assert_eq!(
        postgres
            .sql("known_types", "SELECT count(*) FROM import_statistics")
            .trim(),
        "0"
    );
    let registry = serve(directory, "known_types");
    assert_eq!(registry.get("/v2/a/b/manifests/plain").status(), 200);
    for gone in ["odd", &before] {
        assert_eq!(registry.get(&format!("/v2/a/b/manifests/{gone}")).status(), 404);
    }
    postgres.forget("known_types");
}

/// Go registries store all content under SHA-256, and link it under the
/// digest by which it was pushed.
#[test]
fn content_under_another_algorithms_digest_is_served_kept_and_imported() {
    let registry = TestRegistry::start();
    let content = b"a layer with two digests";
    let stored = registry.push_blob("a/b", content);
    let alias = Digest::of(Algorithm::Sha512, content).to_string();
    let config = registry.push_blob("a/b", b"{}");
    let store = registry.directory.path().join("storage/docker/registry/v2");
    let links = store.join("repositories/a/b/_layers");
    let link = links.join("sha512").join(&alias[7..]).join("link");
    std::fs::create_dir_all(link.parent().expect("a directory")).expect("made");
    std::fs::write(&link, &stored).expect("written");
    // The Go registries link it under its own digest, too; nothing rests on that.
    std::fs::remove_dir_all(links.join("sha256").join(&stored[7..])).expect("removed");
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": alias, "size": content.len()}]});
    let manifest = manifest.to_string();
    let put = registry.put_manifest("a/b", "t", OCI_MANIFEST, manifest.as_bytes());
    assert_eq!(put.status(), 201, "{:?}", put.text());
    let blob = format!("/v2/a/b/blobs/{alias}");
    let check = |registry: &TestRegistry| {
        let got = registry.get(&blob);
        assert_eq!(
            (got.status().as_u16(), header(&got, "docker-content-digest")),
            (200, alias.clone())
        );
        assert_eq!(got.bytes().expect("read"), content.as_slice());
        let head = registry.send("HEAD", &blob);
        assert_eq!(header(&head, "content-length"), content.len().to_string());
    };
    check(&registry);
    // It is no part of another repository, nor is it mounted there.
    let mount = format!("/v2/c/d/blobs/uploads/?mount={alias}&from=a/b");
    assert_eq!(registry.send("POST", &mount).status(), 202);
    let directory = prepare(registry, "aliases");
    let offline = |arguments: &[&str]| {
        let mut command = Command::new(KDK);
        command
            .arg("registry")
            .args(arguments)
            .arg(directory.path().join("config.yml"));
        Output::of(&mut command).ok()
    };
    offline(&["garbage-collect", "-m", "--grace", "0s"]);
    offline(&["verify", "--repair", "--yes"]);
    assert!(link.exists(), "a link to content that is there is whole");
    let directory = serve_files_and_stop(directory, check);
    Output::of(&mut import(&directory, &[])).ok();
    let registry = serve(directory, "aliases");
    check(&registry);
    assert_eq!(
        registry.get("/v2/a/b/manifests/t").bytes().expect("read"),
        manifest.as_bytes()
    );
}

fn serve_files_and_stop(directory: tempfile::TempDir, check: impl FnOnce(&TestRegistry)) -> tempfile::TempDir {
    let mut registry = TestRegistry::with(directory, "", &[]);
    check(&registry);
    registry.stop();
    std::mem::replace(&mut registry.directory, temporary())
}

/// Rows as GitLab's registry writes them, whoever reads them next.
#[test]
fn rows_are_those_of_gitlabs_import() {
    let postgres = TestPostgres::shared();
    let urls = "validation:\n  manifests:\n    urls:\n      allow: [\"^https://example.test/\"]\n";
    let registry = TestRegistry::with(temporary(), urls, &[]);
    let (content, entry) = registry.push_image("a/b", "t", "rows");
    let list = index(&[(OCI_MANIFEST, &entry, content.len())]);
    assert_eq!(
        registry.put_manifest("a/b", "i", OCI_INDEX, list.as_bytes()).status(),
        201
    );
    let config = registry.push_blob("a/b", b"{}");
    let (here, elsewhere) = (registry.push_blob("a/b", b"foreign, here"), digest(b"elsewhere"));
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let plain = "application/vnd.oci.image.layer.v1.tar";
    let image = |layers: Value| {
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2}})
        .to_string()
    };
    let foreign = image(json!([
        {"mediaType": foreign, "digest": elsewhere, "size": 9, "urls": ["https://example.test/elsewhere"]},
        {"mediaType": foreign, "digest": here, "size": 13, "urls": ["https://example.test/here"]},
    ]));
    assert_eq!(
        registry
            .put_manifest("a/b", "foreign", OCI_MANIFEST, foreign.as_bytes())
            .status(),
        201
    );
    // A type says whether it may be distributed; an address alone does not.
    let addressed = image(json!([{"mediaType": plain, "digest": here, "size": 13, "urls": ["https://example.test/"]}]));
    assert_eq!(
        registry
            .put_manifest("a/b", "addressed", OCI_MANIFEST, addressed.as_bytes())
            .status(),
        201
    );
    // A size that is wrong is refused today; Go registries took it.
    let right = image(json!([{"mediaType": plain, "digest": here, "size": 13}]));
    assert_eq!(
        registry
            .put_manifest("a/b", "wrong", OCI_MANIFEST, right.as_bytes())
            .status(),
        201
    );
    let wrong = right.replace("\"size\":13", "\"size\":14");
    let directory = prepare(registry, "rows");
    let store = directory.path().join("storage/docker/registry/v2");
    let own = digest(wrong.as_bytes());
    let put = |path: String, content: &str| {
        let path = store.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, content).expect("written");
    };
    put(format!("blobs/sha256/{}/{}/data", &own[7..9], &own[7..]), &wrong);
    put(
        format!("repositories/a/b/_manifests/revisions/sha256/{}/link", &own[7..]),
        &own,
    );
    put("repositories/a/b/_manifests/tags/wrong/current/link".to_owned(), &own);
    // Names that none can have.
    put("repositories/a/b/_manifests/tags/-no/current/link".to_owned(), &entry);
    put("repositories/A/_manifests/tags/t/current/link".to_owned(), &entry);
    let done = Output::of(&mut import(&directory, &["--step-one"]));
    for named in ["a/b:-no", "A is left out: it is not a repository's name"] {
        assert!(done.stderr.contains(named), "{}", done.stderr);
    }
    done.ok();
    // Had another registry taken the first step, it would know of no import of ours.
    postgres.sql(
        "rows",
        "DELETE FROM import_statistics; UPDATE repositories SET updated_at = NULL",
    );
    let all = Output::of(&mut import(&directory, &[])).refused();
    assert!(all.contains("has repositories already"), "{all}");
    Output::of(&mut import(&directory, &["--step-two"])).ok();
    Output::of(&mut import(&directory, &["--step-three"])).ok();
    let rows = |sql: &str| postgres.sql("rows", sql).trim().replace('\n', " ");
    // Blobs are of no type of their own; layers and configurations are what their manifests say.
    let typed = |of: &str| rows(&format!("SELECT DISTINCT y.media_type FROM {of} ORDER BY 1"));
    assert_eq!(
        typed("blobs AS b JOIN media_types AS y ON y.id = b.media_type_id"),
        "application/octet-stream"
    );
    assert_eq!(
        typed(
            "layers AS l JOIN media_types AS y ON y.id = l.media_type_id JOIN tags AS t ON t.manifest_id = l.manifest_id
            WHERE t.name = 't'"
        ),
        plain
    );
    assert_eq!(
        typed("manifests AS m JOIN media_types AS y ON y.id = m.configuration_media_type_id"),
        "application/vnd.oci.image.config.v1+json"
    );
    let of = |tag: &str| format!("FROM manifests AS m JOIN tags AS t ON t.manifest_id = m.id AND t.name = '{tag}'");
    assert_eq!(rows(&format!("SELECT total_size {}", of("i"))), "0");
    assert_eq!(rows(&format!("SELECT non_distributable_layers {}", of("foreign"))), "t");
    assert_eq!(
        rows(&format!("SELECT non_distributable_layers {}", of("addressed"))),
        "f"
    );
    let layers = |tag: &str| {
        let layers = "JOIN layers AS l ON l.manifest_id = m.id";
        rows(&format!(
            "SELECT encode(l.digest, 'escape') <> '', l.size {} {layers}",
            of(tag)
        ))
    };
    // The one that was pushed is kept from the collection.
    assert_eq!(layers("foreign"), "t|13");
    assert_eq!(layers("wrong"), "t|13");
    let times = rows("SELECT count(*) FROM repositories WHERE updated_at IS NULL");
    assert_eq!(times, "1");
    postgres.forget("rows");
    // An import in one go says when they were last pushed to.
    postgres.database("rows_once");
    let config = directory.path().join("import.yml");
    let text = std::fs::read_to_string(&config)
        .expect("read")
        .replace("dbname: rows", "dbname: rows_once");
    std::fs::write(&config, text).expect("written");
    std::fs::remove_file(
        directory
            .path()
            .join("storage/docker/registry/lockfiles/database-in-use"),
    )
    .expect("removed");
    Output::of(&mut import(&directory, &[])).ok();
    let sql = "SELECT updated_at IS NULL, last_published_at > now() - interval '5 minutes' FROM repositories";
    assert_eq!(postgres.sql("rows_once", sql).trim(), "t|t");
    // And a push writes the same.
    let registry = serve(directory, "rows_once");
    let list = list.replace("\"schemaVersion\":2", "\"schemaVersion\": 2");
    assert_eq!(
        registry
            .put_manifest("a/b", "pushed", OCI_INDEX, list.as_bytes())
            .status(),
        201
    );
    let size = format!("SELECT total_size {}", of("pushed"));
    assert_eq!(postgres.sql("rows_once", &size).trim(), "0");
    postgres.forget("rows_once");
}
