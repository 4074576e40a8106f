use serde_json::{Value, json};

use crate::support::face::on_every_face;
use crate::support::registry::{OCI_MANIFEST, assert_error, header};
use crate::support::{Face, temporary};

on_every_face!(tags_are_paged_in_order, the_catalog_lists_repositories_with_manifests,);

fn tags_are_paged_in_order(face: Face) {
    let registry = face.start();
    let (bytes, _) = registry.push_image("a/b", "v10", "x");
    for tag in ["a", "A", "v2", "zz"] {
        assert_eq!(registry.put_manifest("a/b", tag, OCI_MANIFEST, &bytes).status(), 201);
    }
    let all: Value = registry.get("/v2/a/b/tags/list").json().expect("JSON");
    assert_eq!(all, json!({"name": "a/b", "tags": ["A", "a", "v10", "v2", "zz"]}));
    let mut found = Vec::new();
    let mut path = "/v2/a/b/tags/list?n=2".to_owned();
    loop {
        let page = registry.get(&path);
        let link = page
            .headers()
            .get("link")
            .map(|value| value.to_str().expect("text").to_owned());
        let body: Value = page.json().expect("JSON");
        found.extend(body["tags"].as_array().expect("a list").clone());
        let Some(link) = link else { break };
        path = link
            .trim_start_matches('<')
            .split('>')
            .next()
            .expect("a path")
            .to_owned();
    }
    assert_eq!(json!(found), all["tags"]);
    let none = registry.get("/v2/a/b/tags/list?n=0");
    assert!(none.headers().get("link").is_none());
    assert_eq!(none.json::<Value>().expect("JSON")["tags"], json!([]));
    assert_eq!(
        registry
            .get("/v2/a/b/tags/list?last=zzz")
            .json::<Value>()
            .expect("JSON")["tags"],
        json!([])
    );
    assert_eq!(registry.get("/v2/a/b/tags/list?n=10000").status(), 200);
    for bad in ["abc", "-1"] {
        assert_error(
            registry.get(&format!("/v2/a/b/tags/list?n={bad}")),
            400,
            "PAGINATION_NUMBER_INVALID",
        );
    }
    assert_error(registry.get("/v2/nobody/tags/list"), 404, "NAME_UNKNOWN");
}

fn the_catalog_lists_repositories_with_manifests(face: Face) {
    let registry = face.start();
    for name in ["b", "a/c", "a-b", "a"] {
        registry.push_image(name, "t", name);
    }
    registry.push_blob("only/blobs", b"x");
    let all: Value = registry.get("/v2/_catalog").json().expect("JSON");
    assert_eq!(all["repositories"], json!(["a", "a-b", "a/c", "b"]));
    let page = registry.get("/v2/_catalog?n=3");
    assert_eq!(header(&page, "link"), "</v2/_catalog?last=a%2Fc&n=3>; rel=\"next\"");
    let rest: Value = registry.get("/v2/_catalog?last=a%2Fc&n=3").json().expect("JSON");
    assert_eq!(rest["repositories"], json!(["b"]));
    assert_error(registry.get("/v2/_catalog?n=1001"), 400, "PAGINATION_NUMBER_INVALID");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]

    #[test]
    fn pages_of_the_catalog_follow_each_other_without_gap(
        names in proptest::collection::btree_set("[ab]([-.]?[ab0]){0,2}(/[ab]([-_]?[ab0]){0,2}){0,2}", 1..12),
        limit in 1_usize..5,
        anything in "[ab]([-./]?[ab0/-]){0,5}",
    ) {
        use kdk::registry::metadata::{Files, Metadata as _};
        use kdk::registry::storage::Storage;
        let directory = temporary();
        let root = camino::Utf8Path::from_path(directory.path()).expect("UTF-8");
        for name in &names {
            std::fs::create_dir_all(root.join("docker/registry/v2/repositories").join(name).join("_manifests"))
                .expect("made");
        }
        let files = Files::new(Storage::in_directory(root).expect("opened"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut seen = Vec::new();
        loop {
            let last = seen.last().cloned();
            let page = runtime.block_on(files.repositories(last.as_deref(), limit)).expect("listed");
            proptest::prop_assert!(page.names.len() <= limit);
            proptest::prop_assert_eq!(page.more, seen.len() + page.names.len() < names.len());
            seen.extend(page.names);
            if !page.more {
                break;
            }
        }
        // Nor need the last name be one that is there.
        let page = runtime.block_on(files.repositories(Some(&anything), limit)).expect("listed");
        let after: Vec<String> = names.iter().filter(|name| **name > anything).take(limit).cloned().collect();
        proptest::prop_assert_eq!(page.names, after, "after {}", anything);
        proptest::prop_assert_eq!(seen, names.into_iter().collect::<Vec<_>>());
    }
}
