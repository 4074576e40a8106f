//! What a check mends, and what a collection leaves.

use serde_json::json;

use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, digest};
use crate::support::{TestRegistry, temporary};

const SPARSE: &str = "validation:\n  manifests:\n    indexes:\n      platforms: none\n";

/// A sparse index gives its repository no access to what another project has.
#[test]
fn a_repair_links_nothing_that_a_sparse_index_names() {
    let mut registry = TestRegistry::with(temporary(), SPARSE, &[]);
    let (content, secret) = registry.push_image("theirs/secret", "t", "secret");
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": secret, "size": content.len()}]});
    let put = registry.put_manifest("mine/own", "t", OCI_INDEX, index.to_string().as_bytes());
    assert_eq!(put.status(), 201);
    registry.stop();
    for _ in 0..2 {
        registry.verb(&["verify", "--repair", "--yes"]).ok();
        registry.verb(&["garbage-collect", "-m", "-q", "--grace", "0s"]).ok();
    }
    let registry = registry.again(SPARSE, &[]);
    let path = format!("/v2/mine/own/manifests/{secret}");
    assert_eq!(registry.get(&path).status(), 404);
    let layer = format!("/v2/mine/own/blobs/{}", digest(b"layer secret"));
    assert_eq!(registry.get(&layer).status(), 404);
    assert_eq!(registry.get("/v2/theirs/secret/manifests/t").status(), 200);
}

/// An index of layers, as build caches are, gets its layers back as layers.
#[test]
fn a_lost_link_of_a_build_cache_is_made_as_a_layers() {
    let mut registry = TestRegistry::start();
    let layer = registry.push_blob("a/cache", b"a cached layer");
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 14}]});
    let put = registry.put_manifest("a/cache", "t", OCI_INDEX, index.to_string().as_bytes());
    assert_eq!(put.status(), 201, "{:?}", put.text());
    registry.stop();
    let repository = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/repositories/a/cache");
    let link = repository.join("_layers/sha256").join(&layer[7..]);
    std::fs::remove_dir_all(&link).expect("removed");
    let found = registry.verb(&["verify"]).fails(1);
    assert!(found.contains("verify --repair"), "{found}");
    registry.verb(&["verify", "--repair", "--yes"]).ok();
    assert!(link.join("link").exists());
    assert!(
        !repository
            .join("_manifests/revisions/sha256")
            .join(&layer[7..])
            .exists()
    );
    let registry = registry.restart();
    assert_eq!(registry.get(&format!("/v2/a/cache/blobs/{layer}")).status(), 200);
}

/// A repository without any manifest loses its links to what is collected, so
/// that no access comes back with the same blob.
#[test]
fn what_is_pushed_elsewhere_later_does_not_come_back_to_a_repository_of_blobs() {
    let mut registry = TestRegistry::start();
    let blob = registry.push_blob("a/blobs", b"passing");
    registry.push_image("a/b", "t", "x");
    registry.stop();
    registry.verb(&["garbage-collect", "--grace", "0s"]).ok();
    let registry = registry.restart();
    assert_eq!(registry.push_blob("c/d", b"passing"), blob);
    let old = format!("/v2/a/blobs/blobs/{blob}");
    assert_eq!(registry.get(&old).status(), 404);
}

/// Where sparse indexes are permitted, so are images that lack a layer; a
/// collection and a check leave them as they are.
#[test]
fn an_image_may_lack_layers_where_indexes_may_be_sparse() {
    for face in [crate::support::Face::Files, crate::support::Face::Database] {
        let sparse = "validation:\n  manifests:\n    indexes:\n      platforms: none\n";
        let registry = face.with(sparse);
        let config = registry.push_blob("a/b", b"{}");
        let absent = crate::support::registry::digest(b"absent");
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[{{"mediaType":"l","digest":"{absent}","size":6}}]}}"#
        );
        let put = |registry: &TestRegistry, tag: &str| {
            registry
                .put_manifest("a/b", tag, OCI_MANIFEST, manifest.as_bytes())
                .status()
        };
        assert_eq!(put(&registry, "t"), 201, "{face:?}");
        assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200, "{face:?}");
        // The configuration is always needed.
        let without = manifest.replace(&config, &absent);
        let refused = registry.put_manifest("a/b", "u", OCI_MANIFEST, without.as_bytes());
        assert_eq!(refused.status(), 400, "{face:?}");
        let strict = face.start();
        strict.push_blob("a/b", b"{}");
        assert_eq!(put(&strict, "t"), 400, "{face:?}");
    }
}
