//! Metadata in link files: what others did to the files.

use crate::support::TestRegistry;
use crate::support::registry::{OCI_MANIFEST, assert_error, header};

#[test]
fn an_empty_link_reads_as_absent() {
    let registry = TestRegistry::start();
    registry.push_image("a/b", "good", "x");
    let tags = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/repositories/a/b/_manifests/tags");
    std::fs::create_dir_all(tags.join("bad/current")).expect("made");
    std::fs::write(tags.join("bad/current/link"), "").expect("written");
    let_it_be_seen();
    assert_error(registry.get("/v2/a/b/manifests/bad"), 404, "MANIFEST_UNKNOWN");
    let list: serde_json::Value = registry.get("/v2/a/b/tags/list").json().expect("JSON");
    assert_eq!(list["tags"], serde_json::json!(["good"]));
}

/// What was changed by hand counts once the server looks again.
fn let_it_be_seen() {
    std::thread::sleep(std::time::Duration::from_millis(5100));
}

#[test]
fn a_manifest_whose_blob_is_gone_is_refused() {
    let registry = TestRegistry::start();
    let (bytes, _) = registry.push_image("a/b", "t", "x");
    let blobs = registry.directory.path().join("storage/docker/registry/v2/blobs");
    let layer = crate::support::registry::digest(b"layer x");
    let hex = layer.strip_prefix("sha256:").expect("sha256");
    std::fs::remove_dir_all(blobs.join("sha256").join(&hex[..2]).join(hex)).expect("removed");
    let_it_be_seen();
    assert_error(
        registry.put_manifest("a/b", "again", OCI_MANIFEST, &bytes),
        400,
        "MANIFEST_BLOB_UNKNOWN",
    );
}

#[test]
fn what_another_registry_left_is_served_as_it_is() {
    let registry = TestRegistry::start();
    registry.push_image("a/b", "t", "x");
    let old = br#"{"schemaVersion":1,"name":"a/b"}"#;
    let digest = crate::support::registry::digest(old);
    let hex = digest.strip_prefix("sha256:").expect("sha256");
    let top = registry.directory.path().join("storage/docker/registry/v2");
    let put = |path: String, content: &[u8]| {
        let path = top.join(path);
        std::fs::create_dir_all(path.parent().expect("below")).expect("made");
        std::fs::write(path, content).expect("written");
    };
    put(format!("blobs/sha256/{}/{hex}/data", &hex[..2]), old);
    put(
        format!("repositories/a/b/_manifests/revisions/sha256/{hex}/link"),
        digest.as_bytes(),
    );
    put(
        "repositories/a/b/_manifests/tags/t/current/link".into(),
        digest.as_bytes(),
    );
    let_it_be_seen();
    let answer = registry.get("/v2/a/b/manifests/t");
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "content-type")),
        (
            200,
            "application/vnd.docker.distribution.manifest.v1+prettyjws".to_owned()
        )
    );
    // Content that is not what its digest says is as good as none.
    put(format!("blobs/sha256/{}/{hex}/data", &hex[..2]), b"{}");
    let_it_be_seen();
    assert_error(registry.get("/v2/a/b/manifests/t"), 404, "MANIFEST_UNKNOWN");
}
