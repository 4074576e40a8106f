use crate::support::face::on_every_face;
use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, assert_error, digest, header};
use crate::support::{Face, TestRegistry, temporary};

on_every_face!(
    a_manifest_comes_back_byte_for_byte,
    a_manifest_needs_what_it_names,
    a_blob_has_the_size_that_a_manifest_names,
    what_is_no_manifest_is_refused,
    a_tag_moves_and_the_old_manifest_stays,
    indexes_nest_and_name_blobs_too,
    a_client_without_lists_gets_the_amd64_image_of_a_docker_list,
    tags_and_manifests_are_deleted,
    a_tag_that_moves_while_its_manifest_is_deleted_stays,
    puts_and_deletions_of_one_tag_leave_one_consistent_state,
);

const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn a_manifest_comes_back_byte_for_byte(face: Face) {
    let registry = face.start();
    let (bytes, digest) = registry.push_image("a/b", "v1", "x");
    for (reference, accept) in [
        ("v1", None),
        ("v1", Some("*/*")),
        (digest.as_str(), Some(OCI_MANIFEST)),
        ("v1", Some("text/html, application/vnd.oci.image.index.v1+json;q=0.5")),
    ] {
        let mut request = registry.request("GET", &format!("/v2/a/b/manifests/{reference}"));
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let answer = request.send().expect("answered");
        assert_eq!(answer.status(), 200, "{reference} {accept:?}");
        assert_eq!(header(&answer, "content-type"), OCI_MANIFEST);
        assert_eq!(header(&answer, "docker-content-digest"), digest);
        assert!(answer.bytes().expect("read") == bytes);
    }
    let head = registry.send("HEAD", "/v2/a/b/manifests/v1");
    assert_eq!(
        (head.status().as_u16(), header(&head, "content-length")),
        (200, bytes.len().to_string())
    );
    for tag in [format!("\"{digest}\""), digest] {
        assert_eq!(
            registry
                .request("GET", "/v2/a/b/manifests/v1")
                .header("if-none-match", tag)
                .send()
                .expect("answered")
                .status(),
            304
        );
    }
}

fn a_manifest_needs_what_it_names(face: Face) {
    let registry = face.start();
    let (config, layer) = (digest(b"no config"), digest(b"no layer"));
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{config}","size":1}},"layers":[{{"mediaType":"y","digest":"{layer}","size":1}}]}}"#
    );
    let body = assert_error(
        registry.put_manifest("a/b", "t", OCI_MANIFEST, manifest.as_bytes()),
        400,
        "MANIFEST_BLOB_UNKNOWN",
    );
    assert_eq!(body["errors"].as_array().expect("a list").len(), 2, "{body}");
    assert_error(registry.get("/v2/a/b/manifests/t"), 404, "MANIFEST_UNKNOWN");
}

fn a_blob_has_the_size_that_a_manifest_names(face: Face) {
    let registry = face.start();
    let config = registry.push_blob("a/b", b"{}");
    let layer = registry.push_blob("a/b", b"layer");
    let put = |config_size: usize, layer_size: usize| {
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"y","digest":"{layer}","size":{layer_size}}}]}}"#
        );
        registry.put_manifest("a/b", "t", OCI_MANIFEST, manifest.as_bytes())
    };
    for (config_size, layer_size, wrong) in [(2, 6, &layer), (2, 0, &layer), (3, 5, &config)] {
        let body = assert_error(put(config_size, layer_size), 400, "MANIFEST_INVALID");
        assert!(body.to_string().contains(wrong.as_str()), "{body}");
        assert_error(registry.get("/v2/a/b/manifests/t"), 404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(put(2, 5).status(), 201);
}

fn what_is_no_manifest_is_refused(face: Face) {
    let registry = face.start();
    assert_error(
        registry.put_manifest("a/b", "t", OCI_MANIFEST, b"{"),
        400,
        "MANIFEST_INVALID",
    );
    assert_error(
        registry.put_manifest("a/b", "t", OCI_MANIFEST, &vec![b' '; (4 << 20) + 1]),
        413,
        "MANIFEST_INVALID",
    );
    assert_error(
        registry.put_manifest("a/b", &"x".repeat(129), OCI_MANIFEST, b"{}"),
        400,
        "TAG_INVALID",
    );
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let body = assert_error(
        registry.put_manifest("a/b", "t", schema1, br#"{"schemaVersion":1}"#),
        400,
        "MANIFEST_INVALID",
    );
    assert_eq!(body["errors"][0]["message"], "Schema 1 manifest not supported");
    let (bytes, _) = registry.push_image("a/b", "t", "x");
    assert_error(
        registry.put_manifest("a/b", &digest(b"other"), OCI_MANIFEST, &bytes),
        400,
        "DIGEST_INVALID",
    );
    assert_error(registry.get("/v2/a/b/manifests/sha256:bad"), 400, "DIGEST_INVALID");
}

fn a_tag_moves_and_the_old_manifest_stays(face: Face) {
    let registry = face.start();
    let (_, old) = registry.push_image("a/b", "t", "old");
    let (_, new) = registry.push_image("a/b", "t", "new");
    assert_eq!(
        header(&registry.get("/v2/a/b/manifests/t"), "docker-content-digest"),
        new
    );
    assert_eq!(registry.get(&format!("/v2/a/b/manifests/{old}")).status(), 200);
}

fn indexes_nest_and_name_blobs_too(face: Face) {
    let registry = face.start();
    let (image, image_digest) = registry.push_image("a/b", "image", "x");
    let entry = |digest: &str, size: usize, kind: &str| {
        format!(
            r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"amd64"}}}}"#
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        entry(&image_digest, image.len(), OCI_MANIFEST)
    );
    assert_eq!(
        registry
            .put_manifest("a/b", "index", OCI_INDEX, index.as_bytes())
            .status(),
        201
    );
    let nested = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        entry(&digest(index.as_bytes()), index.len(), OCI_INDEX)
    );
    assert_eq!(
        registry.put_manifest("a/b", "nested", "", nested.as_bytes()).status(),
        201
    );
    assert_eq!(
        header(&registry.get("/v2/a/b/manifests/nested"), "content-type"),
        OCI_INDEX
    );
    let blob = registry.push_blob("a/b", b"cache");
    let cache = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        entry(&blob, 5, "application/vnd.oci.image.layer.v1.tar")
    );
    assert_eq!(
        registry
            .put_manifest("a/b", "cache", OCI_INDEX, cache.as_bytes())
            .status(),
        201
    );
    let missing = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        entry(&digest(b"?"), 1, OCI_MANIFEST)
    );
    assert_error(
        registry.put_manifest("a/b", "missing", OCI_INDEX, missing.as_bytes()),
        400,
        "MANIFEST_BLOB_UNKNOWN",
    );
    let foreign = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{blob}","size":5}},"layers":[{{"mediaType":"l","digest":"{}","size":1,"urls":["https://example.com/layer"]}}]}}"#,
        digest(b"elsewhere")
    );
    let lenient = face.with("validation:\n  disabled: true\n");
    lenient.push_blob("a/b", b"cache");
    let answer = lenient.put_manifest("a/b", "foreign", OCI_MANIFEST, foreign.as_bytes());
    assert_eq!(answer.status(), 201, "{:?}", answer.text());
}

fn a_client_without_lists_gets_the_amd64_image_of_a_docker_list(face: Face) {
    let registry = face.start();
    let blob = registry.push_blob("a/b", b"{}");
    let image = format!(
        r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{{"mediaType":"c","digest":"{blob}","size":2}},"layers":[]}}"#
    );
    let image_digest = digest(image.as_bytes());
    assert_eq!(
        registry
            .put_manifest("a/b", &image_digest, DOCKER_MANIFEST, image.as_bytes())
            .status(),
        201
    );
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}","manifests":[{{"mediaType":"{DOCKER_MANIFEST}","digest":"{image_digest}","size":{},"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
        image.len()
    );
    assert_eq!(
        registry
            .put_manifest("a/b", "list", DOCKER_LIST, list.as_bytes())
            .status(),
        201
    );
    let get = |reference: &str, accept: &str| {
        let answer = registry
            .request("GET", &format!("/v2/a/b/manifests/{reference}"))
            .header("accept", accept)
            .send()
            .expect("answered");
        header(&answer, "docker-content-digest")
    };
    assert_eq!(get("list", DOCKER_MANIFEST), image_digest);
    assert_eq!(
        get("list", &format!("{DOCKER_MANIFEST}, {DOCKER_LIST}")),
        digest(list.as_bytes())
    );
    assert_eq!(get(&digest(list.as_bytes()), DOCKER_MANIFEST), digest(list.as_bytes()));
}

fn tags_and_manifests_are_deleted(face: Face) {
    let registry = face.start();
    let (bytes, digest) = registry.push_image("a/b", "one", "x");
    assert_eq!(registry.put_manifest("a/b", "two", OCI_MANIFEST, &bytes).status(), 201);
    assert_eq!(registry.send("DELETE", "/v2/a/b/manifests/one").status(), 202);
    assert_error(
        registry.send("DELETE", "/v2/a/b/manifests/one"),
        404,
        "MANIFEST_UNKNOWN",
    );
    assert_eq!(registry.get("/v2/a/b/manifests/two").status(), 200);
    assert_eq!(
        registry.send("DELETE", &format!("/v2/a/b/manifests/{digest}")).status(),
        202
    );
    assert_error(registry.get("/v2/a/b/manifests/two"), 404, "MANIFEST_UNKNOWN");
    let tags = registry.get("/v2/a/b/tags/list");
    if face == Face::Memory {
        // An object store has no empty directories: the repository went with
        // its last manifest, as it does in distribution on S3.
        assert_error(tags, 404, "NAME_UNKNOWN");
        return;
    }
    let tags: serde_json::Value = tags.json().expect("JSON");
    assert_eq!(tags["tags"], serde_json::json!([]));
}

/// What a deletion began with may have moved since: the tag stays with its new
/// manifest.
fn a_tag_that_moves_while_its_manifest_is_deleted_stays(face: Face) {
    let registry = face.start();
    let (other, moved) = registry.push_image("a/b", "other", "other");
    for round in 0..40 {
        let (_, old) = registry.push_image("a/b", "t", &format!("old {round}"));
        let (pushed, deleted) = std::thread::scope(|scope| {
            let push = scope.spawn(|| registry.put_manifest("a/b", "t", OCI_MANIFEST, &other).status());
            // Now before, now after, now between.
            std::thread::sleep(std::time::Duration::from_micros(round % 8 * 300));
            let delete = registry.send("DELETE", &format!("/v2/a/b/manifests/{old}")).status();
            (push.join().expect("no panic"), delete)
        });
        assert_eq!((pushed.as_u16(), deleted.as_u16()), (201, 202), "round {round}");
        let now = registry.get("/v2/a/b/manifests/t");
        assert_eq!(now.status(), 200, "round {round}: the tag is gone");
        assert_eq!(header(&now, "docker-content-digest"), moved, "round {round}");
        // Whoever deletes the tag meanwhile takes it whole, or comes before.
        let (_, second) = registry.push_image("a/b", "t", &format!("second {round}"));
        let pushed = std::thread::scope(|scope| {
            let push = scope.spawn(|| registry.put_manifest("a/b", "t", OCI_MANIFEST, &other).status());
            std::thread::sleep(std::time::Duration::from_micros(round % 8 * 300));
            assert_eq!(registry.send("DELETE", "/v2/a/b/manifests/t").status(), 202);
            push.join().expect("no panic")
        });
        assert_eq!(pushed, 201);
        let now = registry.get("/v2/a/b/manifests/t");
        let is_right = now.status() == 404 || header(&now, "docker-content-digest") == moved;
        assert!(is_right, "round {round}: it stands for {second} again");
    }
}

/// The same, where the deletion stands still between looking and removing.
#[test]
fn a_tag_that_moves_between_a_deletions_look_and_its_act_stays() {
    let release = temporary();
    let hold = release.path().join("go");
    std::fs::write(&hold, "").expect("written");
    let plan = format!("storage:delete=hold:{}", hold.display());
    let registry = TestRegistry::with(temporary(), "", &[("KDK_FAILPOINTS", &plan)]);
    let (other, moved) = registry.push_image("a/b", "other", "other");
    let (_, old) = registry.push_image("a/b", "t", "old");
    std::fs::remove_file(&hold).expect("removed");
    let wait = || std::thread::sleep(std::time::Duration::from_millis(400));
    std::thread::scope(|scope| {
        let delete = scope.spawn(|| registry.send("DELETE", &format!("/v2/a/b/manifests/{old}")).status());
        wait();
        let push = scope.spawn(|| registry.put_manifest("a/b", "t", OCI_MANIFEST, &other).status());
        wait();
        assert!(!delete.is_finished(), "it stands still");
        std::fs::write(&hold, "").expect("written");
        assert_eq!(delete.join().expect("no panic"), 202);
        assert_eq!(push.join().expect("no panic"), 201);
    });
    let now = registry.get("/v2/a/b/manifests/t");
    assert_eq!(
        (now.status().as_u16(), header(&now, "docker-content-digest")),
        (200, moved)
    );
}

fn puts_and_deletions_of_one_tag_leave_one_consistent_state(face: Face) {
    let registry = face.start();
    let (bytes, digest) = registry.push_image("a/b", "t", "x");
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (registry, bytes, digest) = (&registry, &bytes, &digest);
            scope.spawn(move || {
                for _ in 0..40 {
                    let status = if worker % 2 == 0 {
                        registry.put_manifest("a/b", "t", OCI_MANIFEST, bytes).status().as_u16()
                    } else if worker % 4 == 1 {
                        registry.send("DELETE", "/v2/a/b/manifests/t").status().as_u16()
                    } else {
                        registry
                            .send("DELETE", &format!("/v2/a/b/manifests/{digest}"))
                            .status()
                            .as_u16()
                    };
                    assert!([201, 202, 404].contains(&status), "{status}");
                }
            });
        }
    });
    let tags: serde_json::Value = registry.get("/v2/a/b/tags/list").json().expect("JSON");
    let listed = tags["tags"] == serde_json::json!(["t"]);
    assert_eq!(
        registry.get("/v2/a/b/manifests/t").status() == 200,
        listed,
        "a tag dangles: {tags}"
    );
    assert_eq!(registry.put_manifest("a/b", "t", OCI_MANIFEST, &bytes).status(), 201);
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
}
