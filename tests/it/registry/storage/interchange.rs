//! The same storage under this registry and under Debian's docker-registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, digest, header};
use crate::support::{KDK, Output, TestRegistry, temporary};

const BOTH: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

/// Writes one file that both registries read.
fn config(directory: &Path) -> PathBuf {
    let path = directory.join("config.yml");
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{}\n  secret: shared\n",
        directory.join("storage").display(),
        crate::support::port()
    );
    std::fs::write(&path, text).expect("written");
    path
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Kdk,
    Docker,
}

fn start(kind: Kind, directory: tempfile::TempDir) -> TestRegistry {
    let path = directory.path().join("config.yml");
    match kind {
        Kind::Kdk => TestRegistry::on(directory, &path, &[]),
        Kind::Docker => TestRegistry::docker(directory, &path),
    }
}

/// Stops one registry and starts the other on the same storage.
fn switch(kind: Kind, mut registry: TestRegistry) -> TestRegistry {
    registry.stop();
    start(kind, std::mem::replace(&mut registry.directory, temporary()))
}

/// Pushes an image, and an index of two; returns what was pushed, by reference.
fn push(registry: &TestRegistry, seed: &str) -> BTreeMap<String, Vec<u8>> {
    let mut pushed = BTreeMap::new();
    let mut entries = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let tag = format!("{seed}-{architecture}");
        let (bytes, digest) = registry.push_image("a/b", &tag, &tag);
        entries.push(format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
            bytes.len()
        ));
        pushed.insert(tag, bytes.clone());
        pushed.insert(digest, bytes);
    }
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#,
        entries.join(",")
    );
    let answer = registry.put_manifest("a/b", seed, OCI_INDEX, index.as_bytes());
    assert_eq!(answer.status(), 201, "{:?}", answer.text());
    pushed.insert(seed.to_owned(), index.into_bytes());
    pushed
}

/// Pulls everything, blobs included.
#[track_caller]
fn pull(registry: &TestRegistry, pushed: &BTreeMap<String, Vec<u8>>) {
    for (reference, bytes) in pushed {
        let path = format!("/v2/a/b/manifests/{reference}");
        let got = registry
            .request("GET", &path)
            .header("accept", BOTH)
            .send()
            .expect("answered");
        assert_eq!(got.status(), 200, "{reference}");
        assert_eq!(got.bytes().expect("read"), bytes, "{reference}");
        let manifest: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
        for part in manifest["layers"]
            .as_array()
            .into_iter()
            .flatten()
            .chain(manifest.get("config"))
        {
            let known = part["digest"].as_str().expect("text");
            let blob = registry.get(&format!("/v2/a/b/blobs/{known}")).bytes().expect("read");
            assert_eq!(digest(&blob), known);
        }
    }
}

fn is_missing() -> bool {
    Command::new("docker-registry").arg("--version").output().is_err() && crate::support::may_skip()
}

#[test]
fn what_one_pushed_the_other_serves() {
    if is_missing() {
        return;
    }
    let directory = temporary();
    config(directory.path());
    let registry = start(Kind::Kdk, directory);
    let ours = push(&registry, "ours");
    let registry = switch(Kind::Docker, registry);
    pull(&registry, &ours);
    let theirs = push(&registry, "theirs");
    // The same again through the other.
    assert_eq!(push(&registry, "ours"), ours);
    let registry = switch(Kind::Kdk, registry);
    pull(&registry, &ours);
    pull(&registry, &theirs);
    let tags: serde_json::Value = registry.get("/v2/a/b/tags/list").json().expect("JSON");
    assert_eq!(tags["tags"].as_array().map(Vec::len), Some(6));
    Output::of(
        Command::new(KDK)
            .args(["registry", "verify"])
            .arg(registry.directory.path().join("config.yml")),
    )
    .ok();
}

#[test]
fn an_upload_that_one_began_the_other_finishes() {
    if is_missing() {
        return;
    }
    let directory = temporary();
    config(directory.path());
    let mut registry = start(Kind::Kdk, directory);
    for (kind, content) in [(Kind::Docker, vec![1_u8; 300_000]), (Kind::Kdk, vec![2_u8; 300_000])] {
        let (first, second) = content.split_at(100_000);
        let started = registry.send("POST", "/v2/a/b/blobs/uploads/");
        let patched = registry
            .request("PATCH", &header(&started, "location"))
            .body(first.to_vec())
            .send()
            .expect("answered");
        assert_eq!(patched.status(), 202);
        let location = header(&patched, "location");
        registry = switch(kind, registry);
        let patched = registry
            .request("PATCH", &location)
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("100000-{}", content.len() - 1))
            .body(second.to_vec())
            .send()
            .expect("answered");
        assert_eq!(patched.status(), 202, "{:?}", patched.text());
        let blob = digest(&content);
        let done = registry.send("PUT", &format!("{}&digest={blob}", header(&patched, "location")));
        assert_eq!(done.status(), 201, "{:?}", done.text());
        assert_eq!(
            registry.get(&format!("/v2/a/b/blobs/{blob}")).bytes().expect("read"),
            content
        );
    }
}

#[test]
fn the_garbage_collection_of_one_leaves_the_other_whole() {
    if is_missing() {
        return;
    }
    let directory = temporary();
    let path = config(directory.path());
    let registry = start(Kind::Kdk, directory);
    let ours = push(&registry, "ours");
    let (_, gone) = registry.push_image("a/b", "gone", "gone");
    assert_eq!(
        registry.send("DELETE", &format!("/v2/a/b/manifests/{gone}")).status(),
        202
    );
    let mut registry = switch(Kind::Docker, registry);
    let theirs = push(&registry, "theirs");
    registry.stop();
    let said = Output::of(Command::new("docker-registry").arg("garbage-collect").arg(&path)).ok();
    assert!(said.contains("eligible for deletion"), "{said}");
    let registry = start(Kind::Kdk, std::mem::replace(&mut registry.directory, temporary()));
    pull(&registry, &ours);
    pull(&registry, &theirs);
    let (_, gone) = registry.push_image("a/b", "gone", "gone again");
    assert_eq!(
        registry.send("DELETE", &format!("/v2/a/b/manifests/{gone}")).status(),
        202
    );
    Output::of(
        Command::new(KDK)
            .args(["registry", "garbage-collect", "-m", "--grace", "0s", "-q"])
            .arg(&path),
    )
    .ok();
    let registry = switch(Kind::Docker, registry);
    pull(&registry, &ours);
    pull(&registry, &theirs);
    let left = digest(b"layer gone again");
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{left}")).status(), 404);
}

/// The files and directories below a store, with the content of links.
fn signature(storage: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![storage.join("docker")];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).expect("a directory").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(storage).expect("below").display().to_string();
            if name.ends_with("/_uploads") {
                continue;
            }
            if path.is_dir() {
                found.insert(name, "directory".to_owned());
                open.push(path);
            } else {
                found.insert(name, digest(&std::fs::read(path).expect("read")));
            }
        }
    }
    found
}

#[test]
fn both_lay_out_the_same_tree() {
    if is_missing() {
        return;
    }
    let trees = [Kind::Kdk, Kind::Docker].map(|kind| {
        let directory = temporary();
        config(directory.path());
        let mut registry = start(kind, directory);
        push(&registry, "one");
        registry.push_image("a/b", "one", "moved");
        registry.push_image("c/d/e", "latest", "one-amd64");
        let layer = digest(b"layer one-amd64");
        let mounted = registry.send("POST", &format!("/v2/f/blobs/uploads/?mount={layer}&from=a/b"));
        assert_eq!(mounted.status(), 201);
        registry.stop();
        signature(&registry.directory.path().join("storage"))
    });
    assert!(trees[0].len() > 50, "{}", trees[0].len());
    assert_eq!(trees[0], trees[1]);
}
