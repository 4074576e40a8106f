//! `/gitlab/v1/`, on a registry with a database.

use serde_json::{Value, json};

use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, TestRegistry, assert_error, digest, header};
use crate::support::temporary;

/// A registry with a database of its own.
fn registry(name: &str) -> TestRegistry {
    let postgres = TestPostgres::shared();
    postgres.database(name);
    TestRegistry::with(temporary(), &postgres.section(name, true), &[])
}

fn json_of(registry: &TestRegistry, path: &str) -> Value {
    let answer = registry.get(path);
    assert_eq!(answer.status(), 200, "{path}: {:?}", answer.text());
    registry.get(path).json().expect("JSON")
}

fn names(page: &Value) -> Vec<&str> {
    let items = page.as_array().expect("a list").iter();
    items.map(|item| item["name"].as_str().expect("text")).collect()
}

/// Returns the address of a relation in `Link`.
fn link(answer: &reqwest::blocking::Response, relation: &str) -> Option<String> {
    let header = answer.headers().get("link")?.to_str().expect("text");
    let found = header
        .split(", ")
        .find(|part| part.ends_with(&format!("rel=\"{relation}\"")))?;
    Some(
        found
            .trim_start_matches('<')
            .split('>')
            .next()
            .expect("an address")
            .to_owned(),
    )
}

#[test]
fn rails_finds_the_api_only_with_a_database() {
    let without = TestRegistry::start();
    let answer = without.get("/gitlab/v1/");
    assert_eq!(answer.status(), 404);
    assert_eq!(
        header(&answer, "gitlab-container-registry-version"),
        kdk::registry::version::VERSION
    );
    assert_eq!(
        header(&without.get("/v2/"), "gitlab-container-registry-database-enabled"),
        "false"
    );
    let with = registry("gitlab_base");
    assert_eq!(with.get("/gitlab/v1/").status(), 200);
    let base = with.get("/v2/");
    for (name, value) in [
        ("gitlab-container-registry-database-enabled", "true"),
        ("gitlab-container-registry-features", "tag_delete"),
        ("gitlab-container-registry-version", kdk::registry::version::VERSION),
    ] {
        assert_eq!(header(&base, name), value);
    }
    let statistics = json_of(&with, "/gitlab/v1/statistics/");
    assert_eq!(statistics["database"]["enabled"], true);
    assert!(statistics.get("import").is_none(), "{statistics}");
    assert_eq!(with.get("/gitlab/v1/import/a/").status(), 404);
    TestPostgres::shared().forget("gitlab_base");
}

#[test]
fn repositories_have_sizes_and_others_below_them() {
    let registry = registry("gitlab_repositories");
    registry.push_image("group/project", "t", "one");
    registry.push_image("group/project/sub", "t", "one");
    registry.push_image("group/project/sub", "u", "three");
    registry.push_image("group/projected", "t", "two");
    registry.push_blob("group/project/empty", b"x");
    let one = json_of(&registry, "/gitlab/v1/repositories/group/project/");
    assert_eq!(
        (&one["name"], &one["path"]),
        (&json!("project"), &json!("group/project"))
    );
    assert!(one["created_at"].as_str().expect("text").ends_with('Z'), "{one}");
    assert!(
        one["last_published_at"].is_string() && one["size_bytes"].is_null(),
        "{one}"
    );
    let size = |path: &str, extent: &str| {
        let body = json_of(&registry, &format!("/gitlab/v1/repositories/{path}/?size={extent}"));
        assert_eq!(body["size_precision"], "default");
        body["size_bytes"].as_u64().expect("a number")
    };
    let layer = |seed: &str| format!("layer {seed}").len() as u64;
    assert_eq!(size("group/project", "self"), layer("one"));
    // A layer counts once, and what only begins with the same letters does not.
    assert_eq!(
        size("group/project", "self_with_descendants"),
        layer("one") + layer("three")
    );
    assert_eq!(
        size("group", "self_with_descendants"),
        layer("one") + layer("two") + layer("three")
    );
    // What no tag leads to counts no more.
    registry.send("DELETE", "/v2/group/project/sub/manifests/u");
    assert_eq!(size("group/project", "self_with_descendants"), layer("one"));
    let list = "/gitlab/v1/repository-paths/group/project/repositories/list/";
    let below = json_of(&registry, list);
    assert_eq!(names(&below), ["project", "sub"]);
    let first = registry.get(&format!("{list}?n=1"));
    let next = link(&first, "next").expect("more");
    assert_eq!(names(&json_of(&registry, &next)), ["sub"]);
    assert_error(registry.get("/gitlab/v1/repositories/no/such/"), 404, "NAME_UNKNOWN");
    assert_error(
        registry.get("/gitlab/v1/repository-paths/no/repositories/list/"),
        404,
        "NAME_UNKNOWN",
    );
    // Of a path that is none, in a namespace that is one.
    assert_eq!(size("group/nothing", "self_with_descendants"), 0);
    // Lenient as GitLab is.
    let plain = json_of(&registry, "/gitlab/v1/repositories/group/project/?size=");
    assert!(plain["size_bytes"].is_null(), "{plain}");
    assert_error(
        registry.get("/gitlab/v1/repositories/group/project/?size=huge"),
        400,
        "INVALID_QUERY_PARAMETER_VALUE",
    );
    TestPostgres::shared().forget("gitlab_repositories");
}

#[test]
fn tags_are_listed_in_every_order_and_both_ways() {
    let postgres = TestPostgres::shared();
    let registry = registry("gitlab_tags");
    let (bytes, image) = registry.push_image("a/b", "t00", "x");
    for number in 1..25 {
        let tag = format!("t{number:02}");
        assert_eq!(registry.put_manifest("a/b", &tag, OCI_MANIFEST, &bytes).status(), 201);
    }
    // Some at the same moment, in an order that is not that of their names.
    postgres.sql(
        "gitlab_tags",
        "UPDATE tags SET created_at = '2026-01-01T00:00:00Z'::timestamptz
            + make_interval(secs => (right(name, 2)::int * 7 % 25 / 2) + 0.000001)",
    );
    let all: Vec<String> = (0..25).map(|number| format!("t{number:02}")).collect();
    let base = "/gitlab/v1/repositories/a/b/tags/list/";
    let page = json_of(&registry, base);
    assert_eq!(names(&page), all);
    let first = &page[0];
    assert_eq!(first["digest"], image.as_str());
    assert_eq!(first["config_digest"], digest(br#"{"seed":"x"}"#).as_str());
    assert_eq!(first["media_type"], OCI_MANIFEST);
    assert_eq!(first["published_at"], first["created_at"]);
    assert!(
        first["updated_at"].is_null() && first["size_bytes"].as_u64() > Some(0),
        "{first}"
    );
    for sort in ["name", "-name", "published_at", "-published_at"] {
        let whole = json_of(&registry, &format!("{base}?sort={sort}"));
        let whole: Vec<String> = names(&whole).into_iter().map(str::to_owned).collect();
        let mut sorted = whole.clone();
        sorted.sort();
        assert_eq!(sorted, all);
        // Forwards to the end, then back to the beginning.
        let mut address = format!("{base}?sort={sort}&n=4");
        let mut seen = Vec::new();
        loop {
            let answer = registry.get(&address);
            let next = link(&answer, "next");
            let page: Value = answer.json().expect("JSON");
            seen.extend(names(&page).into_iter().map(str::to_owned));
            match next {
                Some(next) => address = next,
                None => break,
            }
        }
        assert_eq!(seen, whole, "{sort}");
        let mut back: Vec<String> = Vec::new();
        loop {
            let answer = registry.get(&address);
            let previous = link(&answer, "previous");
            let page: Value = answer.json().expect("JSON");
            let mut page: Vec<String> = names(&page).into_iter().map(str::to_owned).collect();
            page.extend(back);
            back = page;
            match previous {
                Some(previous) => address = previous,
                None => break,
            }
        }
        assert_eq!(back, whole, "{sort} backwards");
    }
    let list = |query: &str| {
        let page = json_of(&registry, &format!("{base}?{query}"));
        names(&page).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(list("name=t1").len(), 10);
    assert_eq!(list("name=2&sort=-name&n=2"), ["t24", "t23"]);
    assert_eq!(list("name_exact=t07"), ["t07"]);
    // No letter is more than a letter.
    assert_eq!(list("name=_"), Vec::<String>::new());
    // One tag is no list of several pages, and whoever asks loosely is understood.
    let exact = registry.get(&format!("{base}?name_exact=t07&n=1&last=t20&sort=-name"));
    assert_eq!(link(&exact, "next").or_else(|| link(&exact, "previous")), None);
    assert_eq!(names(&exact.json().expect("JSON")), ["t07"]);
    assert_eq!(list("sort=&n=2"), list("n=2"));
    assert_eq!(list("sort=%20-NAME&n=1"), ["t24"]);
    assert_eq!(list("sort=published_at&last=t22"), ["t23", "t24"]);
    let marker = data_encoding::BASE64.encode(b"2026-01-01T00:00:00.000000Z|t22");
    assert_eq!(list(&format!("last={marker}")), ["t23", "t24"]);
    for bad in [
        "n=0",
        "n=-1",
        "n=1001",
        "sort=size",
        "last=a&before=b",
        "name=a&name_exact=b",
        "name=%25",
        "last=..%2F",
        "referrers=maybe",
    ] {
        let answer = registry.get(&format!("{base}?{bad}"));
        assert_error(answer, 400, "INVALID_QUERY_PARAMETER_VALUE");
    }
    assert_error(
        registry.get(&format!("{base}?n=many")),
        400,
        "INVALID_QUERY_PARAMETER_TYPE",
    );
    assert_error(
        registry.get("/gitlab/v1/repositories/no/such/tags/list/"),
        404,
        "NAME_UNKNOWN",
    );
    postgres.forget("gitlab_tags");
}

#[test]
fn a_tag_is_described_with_what_it_stands_for() {
    let registry = registry("gitlab_tag");
    let config = br#"{"architecture":"arm64","os":"linux"}"#;
    let config_digest = registry.push_blob("a/b", config);
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()}})
    .to_string();
    assert_eq!(
        registry
            .put_manifest("a/b", "child", OCI_MANIFEST, manifest.as_bytes())
            .status(),
        201
    );
    let half = registry.push_blob("a/half", br#"{"architecture":"arm64"}"#);
    let parts = manifest
        .replace(&config_digest, &half)
        .replace(&format!("\"size\":{}", config.len()), "\"size\":24");
    assert_eq!(
        registry
            .put_manifest("a/half", "t", OCI_MANIFEST, parts.as_bytes())
            .status(),
        201
    );
    let half = json_of(&registry, "/gitlab/v1/repositories/a/half/tags/detail/t/");
    assert_eq!(
        half["image"]["config"]["platform"],
        json!({"architecture": "arm64", "os": ""})
    );
    let child = digest(manifest.as_bytes());
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": child, "size": manifest.len()}]})
    .to_string();
    assert_eq!(
        registry
            .put_manifest("a/b", "all", OCI_INDEX, index.as_bytes())
            .status(),
        201
    );
    let tag = json_of(&registry, "/gitlab/v1/repositories/a/b/tags/detail/child/");
    assert_eq!((&tag["repository"], &tag["name"]), (&json!("a/b"), &json!("child")));
    assert_eq!(
        tag["image"]["config"]["platform"],
        json!({"architecture": "arm64", "os": "linux"})
    );
    assert_eq!(tag["image"]["manifest"]["digest"], child.as_str());
    let all = json_of(&registry, "/gitlab/v1/repositories/a/b/tags/detail/all/");
    assert_eq!(all["image"]["manifest"]["media_type"], OCI_INDEX);
    let inner = &all["image"]["manifest"]["references"][0];
    assert_eq!(inner["manifest"]["digest"], child.as_str());
    assert_eq!(inner["config"]["digest"], config_digest.as_str());
    assert_error(
        registry.get("/gitlab/v1/repositories/a/b/tags/detail/none/"),
        404,
        "TAG_UNKNOWN",
    );
    assert_error(
        registry.get("/gitlab/v1/repositories/a/none/tags/detail/child/"),
        404,
        "NAME_UNKNOWN",
    );
    // With what is attached, of a kind.
    let signature = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x-signature",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [], "subject": {"mediaType": OCI_MANIFEST, "digest": child, "size": manifest.len()}})
    .to_string();
    let signature_digest = digest(signature.as_bytes());
    registry.put_manifest("a/b", &signature_digest, OCI_MANIFEST, signature.as_bytes());
    let base = "/gitlab/v1/repositories/a/b/tags/list/?referrers=true";
    let page = json_of(&registry, base);
    assert_eq!(
        page[1]["referrers"],
        json!([{"artifactType": "application/x-signature", "digest": signature_digest}])
    );
    assert!(page[0].get("referrers").is_none(), "{page}");
    let page = json_of(&registry, &format!("{base}&referrer_type=application/other"));
    assert!(page[1].get("referrers").is_none(), "{page}");
    TestPostgres::shared().forget("gitlab_tag");
}

/// Its answers lead back to it, also below a prefix.
#[test]
fn pages_below_a_prefix_follow_each_other() {
    let postgres = TestPostgres::shared();
    postgres.database("gitlab_prefix");
    let more = format!("  prefix: /registry/\n{}", postgres.section("gitlab_prefix", true));
    let registry = TestRegistry::with(temporary(), &more, &[]);
    let put = |repository: &str, tag: &str| {
        let path = format!("/registry/v2/{repository}/manifests/{tag}");
        let request = registry.request("PUT", &path).header("content-type", OCI_INDEX);
        let request = request.body(r#"{"schemaVersion":2,"manifests":[]}"#);
        assert_eq!(request.send().expect("answered").status(), 201);
    };
    for (repository, tag) in [("group/a", "one"), ("group/a", "two"), ("group/b", "one")] {
        put(repository, tag);
    }
    for path in [
        "/registry/gitlab/v1/repositories/group/a/tags/list/?n=1",
        "/registry/gitlab/v1/repository-paths/group/repositories/list/?n=1",
    ] {
        let next = link(&registry.get(path), "next").expect("a second page");
        assert!(next.starts_with("/registry/gitlab/v1/"), "{next}");
        assert_eq!(json_of(&registry, &next).as_array().map(Vec::len), Some(1), "{next}");
    }
    postgres.forget("gitlab_prefix");
}
