//! From link files to the database: nothing is lost, whatever happens meanwhile.

use std::process::{Command, Stdio};
use std::time::Duration;

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
    let tags = directory
        .path()
        .join("storage/docker/registry/v2/repositories/broken/layer/_manifests/tags/empty/current");
    std::fs::create_dir_all(&tags).expect("made");
    std::fs::write(tags.join("link"), "").expect("written");

    let dry = Output::of(&mut import(&directory, &["--dry-run", "--row-count"]));
    assert!(dry.stdout.lines().all(|line| line.ends_with(" 0")), "{}", dry.stdout);
    assert!(dry.stderr.contains("Nothing was written"), "{}", dry.stderr);
    let done = Output::of(&mut import(&directory, &[]));
    for skipped in ["broken/layer@", "broken/index@"] {
        assert!(done.stderr.contains(skipped), "{}", done.stderr);
    }
    assert!(done.stdout.contains("registry import complete"), "{}", done.shown());
    done.ok();
    let registry = serve(directory, "imported");
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
    let said = directory.path().join("said");
    let mut kills = 0;
    for round in 0_u64.. {
        let mut running = import(&directory, &[])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&said).expect("made"))
            .spawn()
            .expect("started");
        // A little later each time, so that every part of it is cut off once.
        std::thread::sleep(Duration::from_millis(20 + round * 15));
        if let Some(status) = running.try_wait().expect("asked") {
            let said = std::fs::read_to_string(&said).expect("read");
            // The one before may have been killed after its last word.
            assert!(status.success() || said.contains("has tags already"), "{said}");
            break;
        }
        running.kill().expect("killed");
        running.wait().expect("reaped");
        kills += 1;
    }
    assert!(kills > 2, "{kills}");
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
