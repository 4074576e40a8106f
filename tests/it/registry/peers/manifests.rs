//! Manifests of every kind, what is attached to them, and where they lie.

use serde_json::{Value, json};

use crate::support::face::on_every_face;
use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, assert_error, digest, header};
use crate::support::{Face, TestRegistry, temporary};

on_every_face!(
    a_type_is_read_without_case_and_parameters,
    a_manifest_is_listed_once_however_often_it_is_named,
    a_fallback_index_may_hold_anything,
    tags_of_signatures_are_tags,
);
on_every_face!(lasting: a_ladder_of_indexes_is_climbed_once_a_rung);

const SPARSE: &str = "validation:\n  manifests:\n    indexes:\n      platforms: none\n";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

fn a_type_is_read_without_case_and_parameters(face: Face) {
    let registry = face.start();
    let (config, layer) = (registry.push_blob("a/b", b"{}"), registry.push_blob("a/b", b"layer"));
    // Only the header says what it is.
    let manifest = json!({"schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5}]});
    let odd = "Application/vnd.OCI.image.manifest.v1+JSON; charset=utf-8";
    let put = registry.put_manifest("a/b", "t", odd, manifest.to_string().as_bytes());
    assert_eq!(put.status(), 201, "{:?}", put.text());
    let got = registry.get("/v2/a/b/manifests/t");
    assert_eq!(header(&got, "content-type"), OCI_MANIFEST);
}

/// Attaches an artifact of a type; returns its digest and size.
fn attach(registry: &TestRegistry, subject: &str, kind: &str, note: &str) -> (String, usize) {
    let config = registry.push_blob("a/b", b"{}");
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind, "layers": [],
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1}, "annotations": {"note": note}});
    let manifest = manifest.to_string();
    let own = digest(manifest.as_bytes());
    let put = registry.put_manifest("a/b", &own, OCI_MANIFEST, manifest.as_bytes());
    assert_eq!(put.status(), 201, "{:?}", put.text());
    (own, manifest.len())
}

/// Puts an index of entries under the tag where clients keep what is attached.
fn keep(registry: &TestRegistry, subject: &str, entries: &[Value]) {
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
    let tag = subject.replace(':', "-");
    let tag = &tag[..tag.len().min(71)];
    let put = registry.put_manifest("a/b", tag, OCI_INDEX, index.as_bytes());
    assert_eq!(put.status(), 201, "{:?}", put.text());
}

/// What a page lists, and where the next one is.
fn listed(registry: &TestRegistry, path: &str) -> (Vec<String>, Option<String>) {
    let answer = registry.get(path);
    assert_eq!(answer.status(), 200, "{path}");
    let link = answer.headers().get("link").map(|link| {
        let link = link.to_str().expect("text").trim_start_matches('<');
        link.split_once('>').expect("an address").0.to_owned()
    });
    let body: Value = answer.json().expect("JSON");
    let digests = body["manifests"].as_array().expect("a list").iter();
    (
        digests
            .map(|entry| entry["digest"].as_str().expect("text").to_owned())
            .collect(),
        link,
    )
}

fn a_manifest_is_listed_once_however_often_it_is_named(face: Face) {
    let registry = face.start();
    let (_, subject) = registry.push_image("a/b", "t", "x");
    let (own, size) = attach(&registry, &subject, "application/x", "one");
    let content = registry.get(&format!("/v2/a/b/manifests/{own}")).bytes().expect("read");
    for tag in ["s1", "s2"] {
        assert_eq!(registry.put_manifest("a/b", tag, OCI_MANIFEST, &content).status(), 201);
    }
    let (kept, kept_size) = attach(&registry, &digest(b"another subject"), "application/x", "two");
    let entry = |digest: &str, size: usize| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size});
    keep(
        &registry,
        &subject,
        &[entry(&own, size), entry(&kept, kept_size), entry(&kept, kept_size)],
    );
    let path = format!("/v2/a/b/referrers/{subject}");
    let mut expected = vec![own, kept];
    expected.sort();
    assert_eq!(listed(&registry, &path), (expected.clone(), None));
    let (first, next) = listed(&registry, &format!("{path}?n=1"));
    let (second, end) = listed(&registry, &next.expect("more"));
    assert_eq!(([first, second].concat(), end), (expected, None));
}

fn a_fallback_index_may_hold_anything(face: Face) {
    let registry = face.with(SPARSE);
    let (content, subject) = registry.push_image("a/b", "t", "x");
    let (there, size) = attach(&registry, &digest(b"another"), "application/x", "there");
    let entry = |digest: &str| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size});
    let path = format!("/v2/a/b/referrers/{subject}");
    // What was deleted, or never was, is left out.
    keep(&registry, &subject, &[entry(&there), entry(&digest(b"never"))]);
    assert_eq!(listed(&registry, &path).0, std::slice::from_ref(&there));
    for filter in ["application/other", "%ff"] {
        let answer = registry.get(&format!("{path}?artifactType={filter}"));
        assert_eq!(header(&answer, "oci-filters-applied"), "artifactType");
        let body: Value = answer.json().expect("JSON");
        assert_eq!(body["manifests"], json!([]), "{filter}");
    }
    // An image under that tag lists nothing.
    let tag = subject.replace(':', "-");
    assert_eq!(registry.put_manifest("a/b", &tag, OCI_MANIFEST, &content).status(), 201);
    assert_eq!(listed(&registry, &path), (Vec::new(), None));
    // The tag of a longer digest is cut, as the specification has it.
    let long = format!("sha512:{}", "ab".repeat(64));
    keep(&registry, &long, &[entry(&there)]);
    assert_eq!(listed(&registry, &format!("/v2/a/b/referrers/{long}")).0, [there]);
}

/// An index of hundreds that are not there costs a page so many looks, and each page leads on.
#[test]
fn what_clients_keep_costs_few_looks() {
    const ALL: usize = 400;
    let mut registry = TestRegistry::with(temporary(), SPARSE, &[]);
    let (_, subject) = registry.push_image("a/b", "t", "x");
    let absent = |kind: &str, number: usize| {
        json!({"mediaType": OCI_MANIFEST, "size": 1, "artifactType": kind,
            "digest": digest(format!("absent {number}").as_bytes())})
    };
    let (there, size) = attach(&registry, &digest(b"another"), "application/x", "there");
    let mut entries: Vec<Value> = (0..ALL).map(|number| absent("application/x", number)).collect();
    entries.push(json!({"mediaType": OCI_MANIFEST, "size": size, "digest": there, "artifactType": "application/x"}));
    entries.extend((ALL..3 * ALL).map(|number| absent("application/y", number)));
    keep(&registry, &subject, &entries);
    registry.stop();
    let mut next = Some(format!("/v2/a/b/referrers/{subject}?n=10&artifactType=application%2Fx"));
    let mut found = Vec::new();
    let mut pages = 0;
    while let Some(path) = next {
        // Two look-ups for the tag and its index; the rest is for the entries.
        registry = registry.again(SPARSE, &[("KDK_FAILPOINTS", "storage:get=fail@130+")]);
        let (digests, link) = listed(&registry, &path);
        found.extend(digests);
        (next, pages) = (link, pages + 1);
        registry.stop();
    }
    assert_eq!(found, [there]);
    assert_eq!(pages, ALL.div_ceil(110));
}

/// Tags as cosign makes them are tags: they keep their manifests, whatever becomes of the subject.
fn tags_of_signatures_are_tags(face: Face) {
    let registry = face.start();
    let (_, subject) = registry.push_image("a/b", "t", "x");
    let tags = [
        format!("{}.sig", subject.replace(':', "-")),
        "sha256-zz.sig".to_owned(),
        "sha256-.att".to_owned(),
    ];
    for tag in &tags {
        registry.push_image("a/b", tag, tag);
    }
    let deleted = registry.send("DELETE", &format!("/v2/a/b/manifests/{subject}"));
    assert_eq!(deleted.status(), 202);
    if face == Face::Files {
        registry.verb(&["garbage-collect", "-m", "-q", "--grace", "0s"]).ok();
    }
    for tag in &tags {
        assert_eq!(registry.get(&format!("/v2/a/b/manifests/{tag}")).status(), 200, "{tag}");
        let layer = digest(format!("layer {tag}").as_bytes());
        assert_eq!(registry.get(&format!("/v2/a/b/blobs/{layer}")).status(), 200, "{tag}");
    }
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 404);
}

/// Two indexes on each rung, each of which names both below: there are 2^30 ways down, and 60 indexes.
fn a_ladder_of_indexes_is_climbed_once_a_rung(face: Face) {
    let mut registry = face.start();
    let put = |registry: &TestRegistry, below: &[(String, usize)], rung: usize, side: usize| {
        let entries: Vec<Value> = below
            .iter()
            .map(|(digest, size)| {
                let kind = if rung == 0 { OCI_MANIFEST } else { OCI_INDEX };
                json!({"mediaType": kind, "digest": digest, "size": size})
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries,
            "annotations": {"at": format!("{rung} {side}")}});
        let index = index.to_string();
        let own = digest(index.as_bytes());
        let answer = registry.put_manifest("a/b", &own, OCI_INDEX, index.as_bytes());
        assert_eq!(answer.status(), 201, "{:?}", answer.text());
        (own, index.len())
    };
    let mut below: Vec<(String, usize)> = ["left", "right"]
        .iter()
        .map(|side| {
            let (content, own) = registry.push_image("a/b", side, side);
            (own, content.len())
        })
        .collect();
    for rung in 0..30 {
        below = (0..2).map(|side| put(&registry, &below, rung, side)).collect();
    }
    let top = registry
        .get(&format!("/v2/a/b/manifests/{}", below[0].0))
        .bytes()
        .expect("read");
    assert_eq!(registry.put_manifest("a/b", "top", OCI_INDEX, &top).status(), 201);
    for side in ["left", "right"] {
        assert_eq!(
            registry.send("DELETE", &format!("/v2/a/b/manifests/{side}")).status(),
            202
        );
    }
    let layers = ["left", "right"].map(|side| digest(format!("layer {side}").as_bytes()));
    let all_there = |registry: &TestRegistry| {
        assert_eq!(registry.get("/v2/a/b/manifests/top").status(), 200);
        for layer in &layers {
            assert_eq!(registry.get(&format!("/v2/a/b/blobs/{layer}")).status(), 200);
        }
    };
    let size = |registry: &TestRegistry| {
        let body: Value = registry
            .get("/gitlab/v1/repositories/a/b/?size=self")
            .json()
            .expect("JSON");
        assert_eq!(body["size_precision"], "default", "{body}");
        assert_eq!(body["size_bytes"], "layer left".len() + "layer right".len(), "{body}");
    };
    if face.is_database() {
        all_there(&registry);
        size(&registry);
        return;
    }
    registry.stop();
    let done = registry
        .verb(&["garbage-collect", "-m", "--grace", "0s", "--json"])
        .ok();
    // The other top goes; nobody names it.
    let last = done.lines().last().expect("a line");
    let done: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(done["manifests_deleted"], 1, "{done}");
    registry.verb(&["verify"]).ok();
    // The rows of an import are climbed, too.
    let postgres = TestPostgres::shared();
    postgres.database("ladder");
    let config = registry.directory.path().join("config.yml");
    let text = std::fs::read_to_string(&config).expect("read");
    let section = postgres.section("ladder", false);
    std::fs::write(&config, format!("{text}{section}")).expect("written");
    registry.verb(&["database", "import"]).ok();
    let registry = registry.again(&postgres.section("ladder", true), &[]);
    all_there(&registry);
    size(&registry);
    postgres.forget("ladder");
}

/// Docker's images and lists are treated as OCI's by whatever walks a store.
#[test]
fn dockers_kinds_are_collected_checked_and_imported() {
    let mut registry = TestRegistry::start();
    let image = |registry: &TestRegistry, note: &str| {
        let config = registry.push_blob("a/b", format!("{{\"note\":\"{note}\"}}").as_bytes());
        let layer = registry.push_blob("a/b", format!("docker {note}").as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": DOCKER_IMAGE,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": config, "size": note.len() + 11},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": layer, "size": note.len() + 7}]});
        let manifest = manifest.to_string();
        let own = digest(manifest.as_bytes());
        assert_eq!(
            registry
                .put_manifest("a/b", &own, DOCKER_IMAGE, manifest.as_bytes())
                .status(),
            201
        );
        (own, manifest.len())
    };
    let list =
        |registry: &TestRegistry, reference: Option<&str>, kind: &str, (child, size): &(String, usize), of: &str| {
            let manifest = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [
            {"mediaType": of, "digest": child, "size": size, "platform": {"architecture": "amd64", "os": "linux"}}]});
            let manifest = manifest.to_string();
            let own = digest(manifest.as_bytes());
            let answer = registry.put_manifest("a/b", reference.unwrap_or(&own), kind, manifest.as_bytes());
            assert_eq!(answer.status(), 201, "{:?}", answer.text());
            (own, manifest.len())
        };
    let kept = image(&registry, "kept");
    let kept_list = list(&registry, Some("kept"), DOCKER_LIST, &kept, DOCKER_IMAGE);
    // What nobody names any more, down to the last of it.
    let dead = image(&registry, "dead");
    let dead_list = list(&registry, None, DOCKER_LIST, &dead, DOCKER_IMAGE);
    let dead_index = list(&registry, None, OCI_INDEX, &dead_list, DOCKER_LIST);
    let revisions = "storage/docker/registry/v2/repositories/a/b/_manifests/revisions/sha256";
    let lost = registry.directory.path().join(revisions).join(&kept.0[7..]);
    registry.stop();
    let collect = |registry: &TestRegistry| -> Value {
        let done = registry
            .verb(&["garbage-collect", "-m", "--grace", "0s", "--json"])
            .ok();
        serde_json::from_str(done.lines().last().expect("a line")).expect("JSON")
    };
    assert_eq!(collect(&registry)["manifests_deleted"], 3);
    assert_eq!(collect(&registry)["manifests_deleted"], 0, "all went in one run");
    std::fs::remove_dir_all(&lost).expect("removed");
    let found = registry.verb(&["verify"]).refused();
    assert!(found.contains(&kept.0[7..20]), "{found}");
    registry.verb(&["verify", "--repair", "--yes"]).ok();
    assert!(lost.join("link").exists(), "the link of a revision is made again");
    let postgres = TestPostgres::shared();
    postgres.database("dockers");
    let config = registry.directory.path().join("config.yml");
    let text = std::fs::read_to_string(&config).expect("read");
    std::fs::write(&config, format!("{text}{}", postgres.section("dockers", false))).expect("written");
    registry.verb(&["database", "import"]).ok();
    let registry = registry.again(&postgres.section("dockers", true), &[]);
    for (reference, kind) in [
        ("kept", DOCKER_LIST),
        (kept_list.0.as_str(), DOCKER_LIST),
        (kept.0.as_str(), DOCKER_IMAGE),
    ] {
        let answer = registry.request("GET", &format!("/v2/a/b/manifests/{reference}"));
        let answer = answer.header("accept", kind).send().expect("answered");
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "content-type").as_str()),
            (200, kind)
        );
    }
    for gone in [&dead.0, &dead_list.0, &dead_index.0] {
        assert_error(
            registry.get(&format!("/v2/a/b/manifests/{gone}")),
            404,
            "MANIFEST_UNKNOWN",
        );
    }
    postgres.forget("dockers");
}

/// What is no repository and no tag among them is left out, and nothing fails for it.
#[test]
fn strays_among_repositories_and_tags_are_left_out() {
    let mut registry = TestRegistry::start();
    let (_, image) = registry.push_image("a/b/c/d/e", "t", "x");
    registry.stop();
    let root = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/repositories");
    for directory in ["Odd/_manifests/tags", "_x/_manifests", ".y/_manifests", "empty"] {
        std::fs::create_dir_all(root.join(directory)).expect("made");
    }
    std::fs::write(root.join("README"), "x").expect("written");
    let tags = root.join("a/b/c/d/e/_manifests/tags");
    std::fs::create_dir_all(tags.join("-no/current")).expect("made");
    std::fs::write(tags.join("-no/current/link"), &image).expect("written");
    std::fs::create_dir_all(tags.join("gone")).expect("made");
    for stray in [".DS_Store", "stray"] {
        std::fs::write(tags.join(stray), "x").expect("written");
    }
    let registry = registry.restart();
    for path in ["/v2/_catalog", "/v2/_catalog?n=1"] {
        let catalog: Value = registry.get(path).json().expect("JSON");
        assert_eq!(catalog["repositories"], json!(["a/b/c/d/e"]), "{path}");
    }
    for path in ["/v2/a/b/c/d/e/tags/list", "/v2/a/b/c/d/e/tags/list?n=1"] {
        let listed: Value = registry.get(path).json().expect("JSON");
        assert_eq!(listed["tags"], json!(["t"]), "{path}");
    }
    let told = registry.verb(&["verify"]).refused();
    assert!(told.contains("tags/-no/current/link: not a tag's name"), "{told}");
    // What may hold manifests that a collection cannot see keeps it from removing anything.
    let root = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/repositories");
    let refused = registry
        .verb(&["garbage-collect", "-m", "-q", "--grace", "0s"])
        .fails(1);
    assert!(
        refused.contains("the directory Odd holds manifests under a name that no repository has"),
        "{refused}"
    );
    std::fs::remove_dir_all(root.join("Odd")).expect("removed");
    registry.verb(&["garbage-collect", "-m", "-q", "--grace", "0s"]).ok();
    assert_eq!(registry.get("/v2/a/b/c/d/e/manifests/t").status(), 200);
}
