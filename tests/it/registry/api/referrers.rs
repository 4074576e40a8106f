//! Referrers, tags set by query, sha512, parts of blobs.

use kdk::registry::oci::{Algorithm, Digest};
use serde_json::{Value, json};

use crate::support::face::on_every_face;
use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, assert_error, digest, header};
use crate::support::{Face, TestRegistry};

on_every_face!(
    what_a_client_kept_under_the_fallback_tag_is_listed_too,
    a_push_by_digest_sets_the_tags_of_its_query,
    sha512_is_an_algorithm_like_the_other,
    several_parts_of_a_blob_come_in_one_answer,
    up_to_1024_parts_of_a_blob_come_in_one_answer,
);
on_every_face!(lasting: what_refers_to_a_manifest_is_listed);

fn attach(registry: &TestRegistry, subject: &str, kind: Option<&str>, note: &str) -> String {
    let config = registry.push_blob("a/b", b"{}");
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.example.config", "digest": config, "size": 2},
        "layers": [],
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1},
        "annotations": {"note": note},
    });
    if let Some(kind) = kind {
        manifest["artifactType"] = kind.into();
    }
    let content = manifest.to_string();
    let own = digest(content.as_bytes());
    let answer = registry.put_manifest("a/b", &own, OCI_MANIFEST, content.as_bytes());
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "oci-subject")),
        (201, subject.to_owned())
    );
    own
}

fn referrers(registry: &TestRegistry, subject: &str, query: &str) -> Vec<Value> {
    let answer = registry.get(&format!("/v2/a/b/referrers/{subject}{query}"));
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "content-type")),
        (200, OCI_INDEX.to_owned())
    );
    let index: Value = answer.json().expect("JSON");
    assert_eq!(
        (&index["schemaVersion"], &index["mediaType"]),
        (&json!(2), &json!(OCI_INDEX))
    );
    index["manifests"].as_array().expect("a list").clone()
}

fn what_refers_to_a_manifest_is_listed(face: Face) {
    let registry = face.start();
    let (_, image) = registry.push_image("a/b", "t", "x");
    assert_eq!(referrers(&registry, &image, ""), Vec::<Value>::new());
    let signature = attach(&registry, &image, Some("application/signature"), "one");
    let plain = attach(&registry, &image, None, "two");
    let found = referrers(&registry, &image, "");
    assert_eq!(found.len(), 2);
    assert!(found.is_sorted_by_key(|entry| entry["digest"].as_str().map(str::to_owned)));
    let entry = |digest: &str| {
        found
            .iter()
            .find(|entry| entry["digest"] == digest)
            .expect("listed")
            .clone()
    };
    assert_eq!(entry(&signature)["artifactType"], "application/signature");
    // Without a type of its own the configuration's counts.
    assert_eq!(entry(&plain)["artifactType"], "application/vnd.example.config");
    assert_eq!(entry(&plain)["annotations"], json!({"note": "two"}));
    assert_eq!(entry(&plain)["mediaType"], OCI_MANIFEST);
    let filtered = registry.get(&format!(
        "/v2/a/b/referrers/{image}?artifactType=application%2Fsignature"
    ));
    assert_eq!(header(&filtered, "oci-filters-applied"), "artifactType");
    let index: Value = filtered.json().expect("JSON");
    assert_eq!(index["manifests"], json!([entry(&signature)]));
    // A subject that is not there is no mistake, nor a repository that is not.
    let absent = digest(b"not there yet");
    let early = attach(&registry, &absent, None, "early");
    assert_eq!(referrers(&registry, &absent, "")[0]["digest"], early);
    assert_eq!(registry.get(&format!("/v2/never/seen/referrers/{image}")).status(), 200);
    assert_error(registry.get("/v2/a/b/referrers/sha256:bad"), 400, "DIGEST_INVALID");
    assert_eq!(
        registry
            .send("DELETE", &format!("/v2/a/b/manifests/{signature}"))
            .status(),
        202
    );
    assert_eq!(referrers(&registry, &image, "").len(), 1);
    // The list comes in pages, and survives a restart.
    let more: Vec<String> = (0..4)
        .map(|number| attach(&registry, &image, None, &format!("n{number}")))
        .collect();
    let registry = registry.kill_and_restart();
    let mut next = Some(format!("/v2/a/b/referrers/{image}?n=2"));
    let mut seen = Vec::new();
    while let Some(page) = next {
        let answer = registry.get(&page);
        next = answer.headers().get("link").map(|link| {
            link.to_str()
                .expect("text")
                .split(['<', '>'])
                .nth(1)
                .expect("a URL")
                .to_owned()
        });
        let index: Value = answer.json().expect("JSON");
        let entries = index["manifests"].as_array().expect("a list").clone();
        assert!(entries.len() <= 2);
        seen.extend(
            entries
                .iter()
                .map(|entry| entry["digest"].as_str().expect("text").to_owned()),
        );
    }
    let mut expected: Vec<String> = more.into_iter().chain([plain]).collect();
    expected.sort();
    assert_eq!(seen, expected);
}

fn what_a_client_kept_under_the_fallback_tag_is_listed_too(face: Face) {
    let registry = face.start();
    let (_, image) = registry.push_image("a/b", "t", "x");
    let (_, signature) = registry.push_image("a/b", "sig", "the signature");
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": signature, "size": 7, "artifactType": "application/old"},
    ]});
    let tag = image.replace(':', "-");
    assert_eq!(
        registry
            .put_manifest("a/b", &tag, OCI_INDEX, index.to_string().as_bytes())
            .status(),
        201
    );
    let found = referrers(&registry, &image, "");
    assert_eq!(
        (&found[0]["digest"], &found[0]["artifactType"]),
        (&json!(signature), &json!("application/old"))
    );
    let new = attach(&registry, &image, None, "new");
    let digests: Vec<Value> = referrers(&registry, &image, "")
        .iter()
        .map(|entry| entry["digest"].clone())
        .collect();
    assert!(
        digests.contains(&json!(new)) && digests.contains(&json!(signature)),
        "{digests:?}"
    );
}

fn a_push_by_digest_sets_the_tags_of_its_query(face: Face) {
    let registry = face.start();
    let (bytes, image) = registry.push_image("a/b", "t", "x");
    let answer = registry.put_manifest("a/b", &format!("{image}?tag=one&tag=two&tag=one"), OCI_MANIFEST, &bytes);
    assert_eq!(answer.status(), 201);
    let tags: Vec<_> = answer
        .headers()
        .get_all("oci-tag")
        .iter()
        .map(|tag| tag.to_str().expect("text"))
        .collect();
    assert_eq!(tags, ["one", "two"]);
    for tag in ["one", "two"] {
        assert_eq!(
            header(
                &registry.get(&format!("/v2/a/b/manifests/{tag}")),
                "docker-content-digest"
            ),
            image
        );
    }
    assert_error(
        registry.put_manifest("a/b", &format!("{image}?tag=-bad"), OCI_MANIFEST, &bytes),
        400,
        "TAG_INVALID",
    );
    let many: String = (0..101).map(|number| format!("tag=t{number}&")).collect();
    let refused = registry.put_manifest("a/b", &format!("{image}?{many}"), OCI_MANIFEST, &bytes);
    assert_eq!(refused.status(), 414);
    assert_eq!(registry.get("/v2/a/b/manifests/t0").status(), 404);
}

fn sha512_is_an_algorithm_like_the_other(face: Face) {
    let registry = face.start();
    let content = vec![7; 3 << 20];
    let blob = Digest::of(Algorithm::Sha512, &content).to_string();
    // In chunks, announced.
    let started = registry.send("POST", "/v2/a/b/blobs/uploads/?digest-algorithm=sha512");
    assert_eq!(started.status(), 202);
    let patched = registry
        .request("PATCH", &header(&started, "location"))
        .body(content.clone())
        .send()
        .expect("answered");
    let done = registry.send("PUT", &format!("{}&digest={blob}", header(&patched, "location")));
    assert_eq!(
        (done.status().as_u16(), header(&done, "docker-content-digest")),
        (201, blob.clone())
    );
    assert_error(
        registry.send("POST", "/v2/a/b/blobs/uploads/?digest-algorithm=md5"),
        400,
        "DIGEST_INVALID",
    );
    let got = registry.get(&format!("/v2/a/b/blobs/{blob}"));
    assert_eq!(header(&got, "docker-content-digest"), blob);
    assert_eq!(got.bytes().expect("read"), content);
    // Mounted elsewhere.
    let mounted = registry.send("POST", &format!("/v2/c/d/blobs/uploads/?mount={blob}&from=a/b"));
    assert_eq!(mounted.status(), 201);
    assert_eq!(registry.send("HEAD", &format!("/v2/c/d/blobs/{blob}")).status(), 200);
    // A manifest by its sha512 digest, and a tag for it.
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
        "config": {"mediaType": "x", "digest": blob, "size": content.len()}})
    .to_string();
    let own = Digest::of(Algorithm::Sha512, manifest.as_bytes()).to_string();
    let answer = registry.put_manifest("a/b", &format!("{own}?tag=long"), OCI_MANIFEST, manifest.as_bytes());
    assert_eq!(answer.status(), 201, "{:?}", answer.text());
    for reference in [own.as_str(), "long"] {
        let got = registry.get(&format!("/v2/a/b/manifests/{reference}"));
        assert_eq!(
            (got.status().as_u16(), header(&got, "docker-content-digest")),
            (200, own.clone())
        );
    }
}

/// A partial pull of a `zstd:chunked` layer asks for hundreds of parts.
fn up_to_1024_parts_of_a_blob_come_in_one_answer(face: Face) {
    let registry = face.start();
    let content: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    let blob = registry.push_blob("a/b", &content);
    let get = |parts: usize| {
        let ranges: Vec<String> = (0..parts)
            .map(|part| format!("{}-{}", part * 20, part * 20 + 9))
            .collect();
        registry
            .request("GET", &format!("/v2/a/b/blobs/{blob}"))
            .header("range", format!("bytes={}", ranges.join(",")))
            .send()
            .expect("answered")
    };
    let answer = get(1024);
    assert_eq!(answer.status(), 206);
    let length: usize = header(&answer, "content-length").parse().expect("a number");
    let body = answer.bytes().expect("read");
    assert_eq!(body.len(), length);
    let heads: Vec<usize> = body
        .windows(4)
        .enumerate()
        .filter(|(_, window)| window == b"\r\n\r\n")
        .map(|(at, _)| at + 4)
        .collect();
    assert_eq!(heads.len(), 1024);
    for (part, at) in heads.into_iter().enumerate() {
        assert_eq!(body[at..at + 10], content[part * 20..part * 20 + 10], "part {part}");
    }
    assert_eq!(get(1025).status(), 200);
}

fn several_parts_of_a_blob_come_in_one_answer(face: Face) {
    let registry = face.start();
    let blob = registry.push_blob("a/b", b"0123456789");
    let path = format!("/v2/a/b/blobs/{blob}");
    let get = |range: &str| {
        registry
            .request("GET", &path)
            .header("range", range)
            .send()
            .expect("answered")
    };
    let answer = get("bytes=0-1,5-6,-1");
    assert_eq!(answer.status(), 206);
    let kind = header(&answer, "content-type");
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("a boundary")
        .to_owned();
    let length: usize = header(&answer, "content-length").parse().expect("a number");
    let body = answer.text().expect("read");
    assert_eq!(body.len(), length);
    let parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
    assert_eq!(parts.len(), 5, "{body}");
    for (part, (range, content)) in parts[1..].iter().zip([("0-1", "01"), ("5-6", "56"), ("9-9", "9")]) {
        assert!(part.contains(&format!("Content-Range: bytes {range}/10\r\n")), "{part}");
        assert!(part.ends_with(&format!("\r\n\r\n{content}\r\n")), "{part:?}");
    }
    let one = get("bytes=0-1,50-");
    assert_eq!(header(&one, "content-range"), "bytes 0-1/10");
    assert_eq!(one.text().expect("read"), "01");
    let none = get("bytes=10-");
    assert_eq!(
        (none.status().as_u16(), header(&none, "content-range")),
        (416, "bytes */10".to_owned())
    );
    let stale = registry
        .request("GET", &path)
        .header("range", "bytes=0-1")
        .header("if-range", "\"another\"")
        .send()
        .expect("answered");
    assert_eq!(stale.text().expect("read"), "0123456789");
}
