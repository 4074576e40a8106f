//! Collections: what they change, what they cost, and what goes on beside them.

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::registry::maintenance::garbage::tree;
use crate::support::registry::{OCI_MANIFEST, assert_error, digest, header};
use crate::support::{KDK, TestRegistry, temporary};

fn store(registry: &TestRegistry) -> std::path::PathBuf {
    registry.directory.path().join("storage/docker/registry/v2")
}

fn summary(text: &str) -> Value {
    serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
}

/// A dry run changes nothing, uploads that are under way included.
#[test]
fn a_dry_run_changes_not_one_file() {
    let mut registry = TestRegistry::start();
    registry.push_image("a/b", "t", "old");
    registry.push_image("a/b", "t", "new");
    let started = registry.send("POST", "/v2/a/b/blobs/uploads/");
    let patched = registry
        .request("PATCH", &header(&started, "location"))
        .body(vec![7; 600 << 10]);
    let patched = patched.send().expect("answered");
    let dry = ["garbage-collect", "-m", "--dry-run", "--grace", "0s", "--json"];
    let before = tree(&store(&registry));
    assert_eq!(summary(&registry.verb(&dry).ok())["manifests_to_delete"], 1);
    assert_eq!(tree(&store(&registry)), before, "beside a server");
    registry.stop();
    assert_eq!(summary(&registry.verb(&dry).ok())["manifests_to_delete"], 1);
    assert_eq!(tree(&store(&registry)), before, "alone");
    let registry = registry.restart();
    let blob = digest(&vec![7; 600 << 10]);
    let location = header(&patched, "location");
    let path = &location[location.find("/v2/").expect("a path")..];
    assert_eq!(registry.send("PUT", &format!("{path}&digest={blob}")).status(), 201);
}

/// A manifest is read once, however many tags lead to it.
#[test]
fn a_manifest_is_read_once() {
    let mut registry = TestRegistry::start();
    let (content, _) = registry.push_image("a/b", "t", "x");
    for number in 0..50 {
        let put = registry.put_manifest("a/b", &format!("t{number}"), OCI_MANIFEST, &content);
        assert_eq!(put.status(), 201);
    }
    registry.stop();
    let config = registry.directory.path().join("config.yml");
    let mut command = Command::new(KDK);
    command
        .args(["registry", "garbage-collect", "-m", "-q", "--grace", "0s"])
        .arg(config);
    // A link for each tag, one of the manifest, and its content.
    command.env("KDK_FAILPOINTS", "storage:get=fail@60+");
    crate::support::Output::of(&mut command).ok();
    // So it is what counts: with fewer reads than tags it fails.
    command.env("KDK_FAILPOINTS", "storage:get=fail@40+");
    crate::support::Output::of(&mut command).refused();
}

/// A repository that somebody removes meanwhile, and uploads that cannot be listed, end no run.
#[test]
fn a_repository_may_vanish_in_the_middle_of_a_run() {
    let mut registry = TestRegistry::start();
    registry.push_image("a/b", "t", "kept");
    registry.push_image("a/gone", "t", "gone");
    registry.push_image("z/last", "t", "old");
    registry.push_image("z/last", "t", "new");
    registry.stop();
    let root = store(&registry).join("repositories");
    let uploads = root.join("a/b/_uploads");
    let _ = std::fs::remove_dir_all(&uploads);
    symlink(&uploads, &uploads).expect("linked to itself");
    let go = registry.directory.path().join("go");
    let collecting = Command::new(KDK)
        .args(["registry", "garbage-collect", "-m", "--grace", "0s", "--json"])
        .arg(registry.directory.path().join("config.yml"))
        .env("KDK_FAILPOINTS", format!("collect:inspect=hold:{}@1", go.display()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    std::thread::sleep(Duration::from_millis(300));
    std::fs::remove_dir_all(root.join("a/gone")).expect("removed");
    std::fs::write(&go, "").expect("written");
    let done = collecting.wait_with_output().expect("ended");
    assert!(done.status.success(), "{done:?}");
    std::fs::remove_file(&uploads).expect("removed");
    let registry = registry.restart();
    let layer = |seed: &str| digest(format!("layer {seed}").as_bytes());
    for (repository, seed, status) in [("a/b", "kept", 200), ("z/last", "new", 200), ("z/last", "old", 404)] {
        let got = registry.get(&format!("/v2/{repository}/blobs/{}", layer(seed)));
        assert_eq!(got.status().as_u16(), status, "{repository} {seed}");
    }
}

/// What somebody is told is there, while a collection goes to remove it, stays.
#[test]
fn what_is_asked_for_before_it_is_swept_stays() {
    let directory = temporary();
    let go = directory.path().join("go");
    let plan = format!("collect:sweep=hold:{}@1", go.display());
    let registry = TestRegistry::with(directory, "", &[("KDK_FAILPOINTS", &plan)]);
    registry.push_image("a/b", "t", "kept");
    registry.push_image("c/d", "t", "kept");
    let asked = registry.push_blob("a/b", b"asked for");
    let mounted = registry.push_blob("a/b", b"mounted");
    let nobodys = registry.push_blob("a/b", b"nobody's");
    let mut collecting = Command::new(KDK)
        .args(["registry", "garbage-collect", "-m", "--grace", "0s", "--json"])
        .arg(registry.directory.path().join("config.yml"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    // It has looked at everything, and waits.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(collecting.try_wait().expect("looked"), None);
    assert_eq!(registry.send("HEAD", &format!("/v2/a/b/blobs/{asked}")).status(), 200);
    let mount = registry.send("POST", &format!("/v2/c/d/blobs/uploads/?mount={mounted}&from=a/b"));
    assert_eq!(mount.status(), 201);
    std::fs::write(&go, "").expect("written");
    let done = collecting.wait_with_output().expect("ended");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{asked}")).status(), 200);
    assert_eq!(registry.get(&format!("/v2/c/d/blobs/{mounted}")).status(), 200);
    assert_error(registry.get(&format!("/v2/a/b/blobs/{nobodys}")), 404, "BLOB_UNKNOWN");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"c/c","digest":"{asked}","size":9}},"layers":[]}}"#
    );
    let put = registry.put_manifest("a/b", "late", OCI_MANIFEST, manifest.as_bytes());
    assert_eq!(put.status(), 201);
    registry.verb(&["verify"]).ok();
}

/// Where the disk is slow, a push waits for a part of the sweep, and not for its end.
#[test]
fn pushes_go_on_while_a_slow_disk_is_swept() {
    const DEAD: usize = 640;
    let plan = [("KDK_FAILPOINTS", "storage:delete=delay:10")];
    let registry = TestRegistry::with(temporary(), "", &plan);
    registry.push_image("a/b", "t", "kept");
    for number in 0..DEAD {
        registry.push_blob("a/b", format!("dead {number}").as_bytes());
    }
    std::thread::scope(|scope| {
        let collecting = scope.spawn(|| registry.verb(&["garbage-collect", "-m", "-q", "--grace", "0s"]));
        let (mut pushed, mut longest) = (0, Duration::ZERO);
        while !collecting.is_finished() {
            let began = Instant::now();
            registry.push_blob("a/b", format!("meanwhile {pushed}").as_bytes());
            longest = longest.max(began.elapsed());
            pushed += 1;
        }
        collecting.join().expect("no panic").ok();
        assert!(pushed >= 3, "{pushed} were pushed meanwhile");
        assert!(longest < Duration::from_secs(5), "one waited for {longest:?}");
    });
}

/// A full disk keeps nobody from starting, pulling, deleting and collecting.
#[test]
fn a_full_disk_can_be_cleaned_up() {
    let mut registry = TestRegistry::start();
    let (_, first) = registry.push_image("a/b", "one", "one");
    registry.push_image("a/b", "two", "two");
    registry.push_image("a/b", "three", "three");
    registry.stop();
    let plan = "disk:write=full;disk:make-directory=full;disk:rename=full";
    let registry = registry.again("", &[("KDK_FAILPOINTS", plan)]);
    assert_eq!(registry.get("/v2/a/b/manifests/one").status(), 200);
    let pushed = registry.send("POST", &format!("/v2/a/b/blobs/uploads/?digest={}", digest(b"")));
    assert_eq!(pushed.status(), 507);
    for reference in [first.as_str(), "two"] {
        let deleted = registry.send("DELETE", &format!("/v2/a/b/manifests/{reference}"));
        assert_eq!(deleted.status(), 202, "{reference}");
    }
    registry.verb(&["garbage-collect", "-m", "-q", "--grace", "0s"]).ok();
    for (seed, status) in [("one", 404), ("two", 404), ("three", 200)] {
        let layer = digest(format!("layer {seed}").as_bytes());
        assert_eq!(
            registry.get(&format!("/v2/a/b/blobs/{layer}")).status().as_u16(),
            status,
            "{seed}"
        );
    }
}
