//! Tags and referrers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use kdk::registry::metadata::{Files, Metadata as _, PutManifest, ReferrerPage};
use kdk::registry::oci::{Algorithm, Digest, ParsedManifest};
use kdk::registry::storage::Storage;
use kdk::registry::storage::faults::Plan;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::face::on_every_face;
use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, digest};
use crate::support::{Face, TestRegistry};

on_every_face!(
    empty_parameters_are_as_if_absent,
    a_repository_with_blobs_alone_has_no_tags,
    a_long_fallback_index_is_read_as_far_as_the_page_goes,
);
on_every_face!(lasting: an_answer_about_referrers_is_bounded);

fn empty_parameters_are_as_if_absent(face: Face) {
    let registry = face.start();
    let (_, subject) = registry.push_image("a/b", "t", "x");
    for path in [
        "/v2/_catalog?n=&last=".to_owned(),
        "/v2/a/b/tags/list?n=&last=".to_owned(),
        format!("/v2/a/b/referrers/{subject}?n=&last=&artifactType="),
    ] {
        let answer = registry.get(&path);
        assert_eq!(answer.status(), 200, "{path}: {:?}", answer.text());
    }
    let tags: Value = registry.get("/v2/a/b/tags/list?n=&last=").json().expect("JSON");
    assert_eq!(tags["tags"], json!(["t"]));
}

/// On purpose as the Go registry of each face: with a database the repository
/// is known from its first blob, in files from its first manifest.
fn a_repository_with_blobs_alone_has_no_tags(face: Face) {
    let registry = face.start();
    registry.push_blob("a/blobs", b"alone");
    let expected = if face.is_database() { 200 } else { 404 };
    assert_eq!(registry.get("/v2/a/blobs/tags/list").status(), expected);
    assert_eq!(registry.get("/v2/a/nothing/tags/list").status(), 404);
    registry.push_image("a/b", "t", "x");
    registry.send("DELETE", "/v2/a/b/manifests/t");
    let tags: Value = registry.get("/v2/a/b/tags/list").json().expect("JSON");
    assert_eq!(tags["tags"], json!([]));
}

fn attach(registry: &TestRegistry, subject: &str, annotation: &str, number: usize) -> (String, usize) {
    let config = registry.push_blob("a/b", b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.example.config", "digest": config, "size": 2},
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1},
        "annotations": {"note": annotation, "number": number.to_string()},
    });
    let manifest = manifest.to_string();
    let own = digest(manifest.as_bytes());
    let answer = registry.put_manifest("a/b", &own, OCI_MANIFEST, manifest.as_bytes());
    assert_eq!(answer.status(), 201, "{:?}", answer.text());
    (own, manifest.len())
}

/// Follows the pages of an answer; returns the digests of each.
fn pages(registry: &TestRegistry, path: &str) -> Vec<Vec<String>> {
    let mut next = Some(path.to_owned());
    let mut found = Vec::new();
    while let Some(path) = next.take() {
        let answer = registry.get(&path);
        assert_eq!(answer.status(), 200, "{path}");
        let link = answer
            .headers()
            .get("link")
            .map(|link| link.to_str().expect("text").to_owned());
        next = link.map(|link| {
            link.trim_start_matches('<')
                .split('>')
                .next()
                .expect("an address")
                .to_owned()
        });
        let body = answer.bytes().expect("read");
        // What clients take of a manifest.
        assert!(body.len() <= (4 << 20) + 4096, "{} bytes", body.len());
        let page: Value = serde_json::from_slice(&body).expect("JSON");
        let entries = page["manifests"].as_array().expect("a list").iter();
        found.push(
            entries
                .map(|entry| entry["digest"].as_str().expect("text").to_owned())
                .collect(),
        );
    }
    found
}

fn a_long_fallback_index_is_read_as_far_as_the_page_goes(face: Face) {
    let registry = face.start();
    let (_, subject) = registry.push_image("a/b", "t", "x");
    let (config, mut kept) = (registry.push_blob("a/b", b"{}"), Vec::new());
    for number in 0..12 {
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
            "config": {"mediaType": "application/vnd.example.config", "digest": config, "size": 2},
            "annotations": {"number": number.to_string()}});
        let manifest = manifest.to_string();
        let own = digest(manifest.as_bytes());
        assert_eq!(
            registry
                .put_manifest("a/b", &own, OCI_MANIFEST, manifest.as_bytes())
                .status(),
            201
        );
        kept.push((own, manifest.len()));
    }
    let (attached, _) = attach(&registry, &subject, "a", 0);
    let entries: Vec<Value> = kept
        .iter()
        .map(|(digest, size)| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size}))
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
    let fallback = subject.replace(':', "-");
    let put = registry.put_manifest("a/b", &fallback, OCI_INDEX, index.as_bytes());
    assert_eq!(put.status(), 201, "{:?}", put.text());
    let mut all: Vec<String> = kept.into_iter().map(|(digest, _)| digest).chain([attached]).collect();
    all.sort();
    for limit in [1, 5, 100] {
        let pages = pages(&registry, &format!("/v2/a/b/referrers/{subject}?n={limit}"));
        assert_eq!(pages.concat(), all, "{limit}");
        assert!(pages.iter().all(|page| page.len() <= limit && !page.is_empty()));
    }
}

fn memory(registry: &TestRegistry, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", registry.pid())).expect("it runs");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .expect("the kernel says it");
    line.trim()
        .split(' ')
        .next()
        .and_then(|kib| kib.parse().ok())
        .expect("a number")
}

/// Twenty manifests of 4 MB each: an answer has 4 MiB at most, and costs what it shows.
fn an_answer_about_referrers_is_bounded(face: Face) {
    let registry = face.start();
    let (_, subject) = registry.push_image("a/b", "t", "x");
    let long = "x".repeat(4_000_000);
    let mut all: Vec<String> = (0..20)
        .map(|number| attach(&registry, &subject, &long, number).0)
        .collect();
    all.sort();
    let registry = registry.kill_and_restart();
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
    let idle = memory(&registry, "VmRSS:");
    let path = format!("/v2/a/b/referrers/{subject}");
    assert_eq!(pages(&registry, &path).concat(), all);
    let of_type = pages(&registry, &format!("{path}?artifactType=application/vnd.other"));
    assert_eq!(of_type.concat(), Vec::<String>::new());
    let peak = memory(&registry, "VmHWM:");
    assert!(peak < idle + 16 * 1024, "{idle} KiB when idle, {peak} KiB at most");
}

/// Stops at one of the reads of blobs, and counts them.
#[derive(Debug, Default)]
struct Reads {
    so_far: AtomicUsize,
    reached: Notify,
    release: Notify,
}

const STOPS_AT: usize = 30;

#[derive(Debug)]
struct StopsOnce(Arc<Reads>);

impl Plan for StopsOnce {
    fn at(&self, place: &'static str, name: &str) -> BoxFuture<'static, std::io::Result<()>> {
        let is_blob = place == "get" && name.contains("/blobs/");
        let reads = Arc::clone(&self.0);
        Box::pin(async move {
            if is_blob && reads.so_far.fetch_add(1, Ordering::SeqCst) + 1 == STOPS_AT {
                reads.reached.notify_one();
                reads.release.notified().await;
            }
            Ok(())
        })
    }
}

/// The first listing after a start reads all manifests of a repository: with a
/// client that gives up earlier it would never come to its end.
#[tokio::test]
async fn who_gives_up_leaves_what_was_read_of_referrers() {
    const ALL: usize = 40;
    let storage = Storage::in_memory();
    let name = "a/b".parse().expect("a name");
    let writing = Files::new(storage.clone());
    let mut subject = None;
    for number in 0..ALL {
        let attached = subject.as_ref().map_or_else(String::new, |subject| {
            format!(r#","subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{subject}","size":1}}"#)
        });
        let content = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"c","digest":"{}","size":1}},"layers":[],"annotations":{{"n":"{number}"}}{attached}}}"#,
            digest(b"x")
        );
        let own = Digest::of(Algorithm::Sha256, content.as_bytes());
        let manifest = ParsedManifest::read(own.clone(), content.into()).expect("a manifest");
        let put = PutManifest {
            manifest: &manifest,
            required: &[],
            tags: &[],
        };
        writing.put_manifest(&name, put).await.expect("stored");
        subject.get_or_insert(own);
    }
    let subject = subject.expect("the first");
    let reads = Arc::<Reads>::default();
    let files = Files::new(storage.with_faults(Arc::new(StopsOnce(Arc::clone(&reads)))));
    let page = ReferrerPage {
        artifact_type: None,
        after: None,
        limit: 1,
    };
    tokio::select! {
        _ = files.referrers(&name, &subject, page) => panic!("it does not wait"),
        () = reads.reached.notified() => {}
    }
    reads.release.notify_one();
    let found = files.referrers(&name, &subject, page).await.expect("read");
    assert_eq!(found.found.len(), 1);
    let read = reads.so_far.load(Ordering::SeqCst);
    assert!((ALL..ALL + 5).contains(&read), "{read} of {ALL} manifests were read");
}
