//! Collecting garbage, alone and beside a running server; checking a store.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, digest};
use crate::support::{KDK, Output, TestRegistry, temporary};

/// The files below a directory with their sizes.
pub fn tree(directory: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.display().to_string(), entry.metadata().expect("a file").len());
            }
        }
    }
    found
}

fn store(registry: &TestRegistry) -> std::path::PathBuf {
    registry.directory.path().join("storage/docker/registry/v2")
}

fn put_index(registry: &TestRegistry, tag: &str, children: &[&str]) -> String {
    let entries: Vec<String> = children
        .iter()
        .map(|child| format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{child}","size":1}}"#))
        .collect();
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#,
        entries.join(",")
    );
    let answer = registry.put_manifest("a/b", tag, OCI_INDEX, index.as_bytes());
    assert_eq!(answer.status(), 201, "{:?}", answer.text());
    digest(index.as_bytes())
}

fn attach(registry: &TestRegistry, subject: &str, seed: &str) -> String {
    let config = registry.push_blob("a/b", b"{}");
    let layer = registry.push_blob("a/b", seed.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","artifactType":"application/x","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[{{"mediaType":"x","digest":"{layer}","size":{}}}],"subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{subject}","size":1}}}}"#,
        seed.len()
    );
    let own = digest(manifest.as_bytes());
    let answer = registry.put_manifest("a/b", &own, OCI_MANIFEST, manifest.as_bytes());
    assert_eq!(answer.status(), 201, "{:?}", answer.text());
    own
}

/// A store with a nested index, a signed child, an untagged image with a
/// signature, and a deleted one. Returns what must stay and what must go.
fn fill(registry: &TestRegistry) -> (Vec<String>, Vec<String>) {
    let (_, child) = registry.push_image("a/b", "child", "child");
    let inner = put_index(registry, "inner", &[&child]);
    let outer = put_index(registry, "outer", &[&inner]);
    let signature = attach(registry, &child, "signature");
    for tag in ["child", "inner"] {
        assert_eq!(
            registry.send("DELETE", &format!("/v2/a/b/manifests/{tag}")).status(),
            202
        );
    }
    let (_, loose) = registry.push_image("a/b", "moves", "loose");
    let loose_signature = attach(registry, &loose, "of the loose one");
    let (_, current) = registry.push_image("a/b", "moves", "current");
    let (_, deleted) = registry.push_image("a/b", "deleted", "deleted");
    assert_eq!(
        registry
            .send("DELETE", &format!("/v2/a/b/manifests/{deleted}"))
            .status(),
        202
    );
    (
        vec![child, inner, outer, signature, current],
        vec![loose, loose_signature],
    )
}

fn status(registry: &TestRegistry, digest: &str) -> u16 {
    registry.get(&format!("/v2/a/b/manifests/{digest}")).status().as_u16()
}

fn check_collected(registry: &TestRegistry, stays: &[String], goes: &[String]) {
    for digest in stays {
        assert_eq!(status(registry, digest), 200, "{digest} is gone");
    }
    for digest in goes {
        assert_eq!(status(registry, digest), 404, "{digest} is still there");
    }
    for (content, there) in [("layer child", true), ("layer loose", false), ("layer deleted", false)] {
        let blob = digest(content.as_bytes());
        let found = registry.get(&format!("/v2/a/b/blobs/{blob}")).status();
        assert_eq!(found == 200, there, "{content}: {found}");
        let hex = &blob[7..];
        let data = store(registry).join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]));
        assert_eq!(data.exists(), there, "{content}");
    }
    // No link leads to nothing.
    let report = registry.verb(&["verify", "--json"]).ok();
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["findings"], serde_json::json!([]));
    // Nor does a history name what is gone.
    for path in tree(&store(registry)).keys().filter(|path| path.contains("/index/")) {
        assert!(goes.iter().all(|digest| !path.contains(&digest[7..])), "{path}");
    }
}

#[test]
fn a_stopped_registry_is_collected_alone() {
    let mut registry = TestRegistry::start();
    let (stays, goes) = fill(&registry);
    registry.stop();
    // What a power loss left harms nobody.
    let broken = store(&registry)
        .join("repositories/a/b/_manifests/revisions/sha256")
        .join("0".repeat(64));
    std::fs::create_dir_all(&broken).expect("made");
    std::fs::write(broken.join("link"), b"").expect("written");
    let before = tree(&store(&registry));
    let dry = registry
        .verb(&["garbage-collect", "-m", "--dry-run", "--grace", "0s"])
        .ok();
    assert!(dry.contains("blobs marked, "), "{dry}");
    assert!(
        dry.contains(&format!("manifest eligible for deletion: {}", goes[0])),
        "{dry}"
    );
    assert!(dry.contains("a/b: marking manifest "), "{dry}");
    assert_eq!(tree(&store(&registry)), before, "a dry run changed something");
    // What is young may belong to a push under way.
    let young = registry.verb(&["garbage-collect", "-m", "-q"]).ok();
    assert!(young.contains("Removed 0 blobs and 0 manifests"), "{young}");
    assert_eq!(tree(&store(&registry)), before);
    let done = registry
        .verb(&["garbage-collect", "-m", "--grace", "0s", "--json"])
        .ok();
    let last: Value = serde_json::from_str(done.lines().last().expect("lines")).expect("JSON");
    assert_eq!(last["manifests_deleted"], 2, "{last}");
    assert_eq!(last["msg"], "sweep stage complete");
    assert!(last["bytes_freed"].as_u64() > Some(0), "{last}");
    std::fs::remove_dir_all(&broken).expect("removed");
    let registry = registry.restart();
    check_collected(&registry, &stays, &goes);
}

#[test]
fn without_the_flag_untagged_manifests_stay() {
    let registry = TestRegistry::start();
    let (stays, goes) = fill(&registry);
    let said = registry.verb(&["garbage-collect", "--grace", "0s"]).ok();
    assert!(said.contains("and 0 manifests eligible"), "{said}");
    for digest in stays.iter().chain(&goes) {
        assert_eq!(status(&registry, digest), 200);
    }
    let gone = digest(b"layer deleted");
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{gone}")).status(), 404);
}

#[test]
fn a_running_registry_is_collected_and_goes_on() {
    let registry = TestRegistry::start();
    let (stays, goes) = fill(&registry);
    let said = registry.verb(&["garbage-collect", "-m", "--grace", "0s"]).ok();
    assert!(said.contains("Removed "), "{said}");
    check_collected(&registry, &stays, &goes);
    // What the collection took can come back.
    registry.push_image("a/b", "again", "loose");
    assert_eq!(status(&registry, &goes[0]), 200);
}

#[test]
fn a_registry_that_says_nothing_is_named_and_waited_for() {
    use nix::sys::signal::{Signal, kill};
    let registry = TestRegistry::start();
    let (stays, goes) = fill(&registry);
    let pid = nix::unistd::Pid::from_raw(registry.pid());
    kill(pid, Signal::SIGSTOP).expect("stopped");
    let goes_on = std::thread::spawn(move || {
        // Once it is told.
        std::thread::sleep(std::time::Duration::from_secs(7));
        kill(pid, Signal::SIGCONT).expect("continued");
    });
    let said = registry.verb(&["garbage-collect", "-m", "--grace", "0s"]);
    goes_on.join().expect("continued");
    let told = format!("still waiting for the registry (process {pid}), which has not reported for 5 seconds");
    assert_eq!(said.stderr.matches(&told).count(), 1, "{said:?}");
    said.ok();
    check_collected(&registry, &stays, &goes);
}

/// Ends the workers of a test, however it ends.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Pushes an image while collections run that keep what is younger than two
/// seconds: only a push that takes as long as that may be refused.
fn push(registry: &TestRegistry, tag: &str, seed: &str) -> String {
    loop {
        let began = std::time::Instant::now();
        let (manifest, answer) = registry.try_image("a/b", tag, seed);
        if answer.status() == 201 {
            return digest(&manifest);
        }
        let took = began.elapsed();
        let said = answer.text();
        // The clock of files lags a little.
        assert!(took > std::time::Duration::from_millis(1900), "{took:?}: {said:?}");
    }
}

#[test]
fn no_push_is_lost_while_garbage_is_collected() {
    let registry = TestRegistry::start();
    // What keeps a collection from finding blobs alone, and refusing.
    registry.push_image("a/b", "first", "first");
    let (stop, kept) = (AtomicBool::new(false), AtomicUsize::new(0));
    let pushed = std::thread::scope(|scope| {
        // Also when the test fails: the workers must end for it to say so.
        let _ended = Ended(&stop);
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (registry, stop, kept) = (&registry, &stop, &kept);
                scope.spawn(move || {
                    let mut pushed = Vec::new();
                    for count in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        // Half of them are the same again, after their blobs lost every reference.
                        let seed = format!("{worker}-{}", count % 32);
                        let tag = format!("t{worker}-{count}");
                        let digest = push(registry, &tag, &seed);
                        // The pause lets what was deleted grow old.
                        if count % 32 == 31 {
                            std::thread::sleep(std::time::Duration::from_millis(2500));
                        }
                        if count % 2 == 0 {
                            registry.send("DELETE", &format!("/v2/a/b/manifests/{digest}"));
                        } else {
                            pushed.push((tag, digest, seed));
                            kept.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    pushed
                })
            })
            .collect();
        // Longer than a push takes, and shorter than until the same comes again.
        let began = std::time::Instant::now();
        let mut removed = 0;
        while removed == 0 || kept.load(Ordering::Relaxed) < 10 || began.elapsed() < std::time::Duration::from_secs(8) {
            let said = registry
                .verb(&["garbage-collect", "-m", "-q", "--grace", "2s", "--json"])
                .ok();
            let summary: Value = serde_json::from_str(said.trim()).unwrap_or_else(|error| panic!("{error}: {said}"));
            removed += summary["blobs_deleted"].as_u64().expect("a number");
            assert!(
                began.elapsed() < std::time::Duration::from_mins(2),
                "{removed} blobs were removed, {} images pushed",
                kept.load(Ordering::Relaxed)
            );
        }
        stop.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("pushes succeed"))
            .collect::<Vec<_>>()
    });
    // Seeds are odd of what was kept, and even of what was deleted: none of these may be gone.
    for (tag, digest, seed) in &pushed {
        assert_eq!(registry.get(&format!("/v2/a/b/manifests/{tag}")).status(), 200, "{tag}");
        assert_eq!(status(&registry, digest), 200, "{tag}");
        let layer = crate::support::registry::digest(format!("layer {seed}").as_bytes());
        let got = registry.get(&format!("/v2/a/b/blobs/{layer}"));
        assert_eq!(got.text().expect("read"), format!("layer {seed}"), "{tag}");
    }
    let report = registry.verb(&["verify", "--json"]).ok();
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["findings"], serde_json::json!([]));
}

/// A push that looked at what there is before a collection began, and goes on
/// in the middle of it, keeps all that it named.
#[test]
fn a_push_that_began_before_a_collection_keeps_its_layers() {
    let release = temporary();
    let hold = release.path().join("go");
    std::fs::write(&hold, "").expect("written");
    // Whatever is committed waits while there is no such file.
    let plan = format!("storage:commit=hold:{}@1+", hold.display());
    let registry = TestRegistry::with(temporary(), "", &[("KDK_FAILPOINTS", &plan)]);
    registry.push_image("a/b", "first", "first");
    let layer = registry.push_blob("a/b", b"layer late");
    let bytes =
        format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"c/c","digest":"{layer}","size":10}},"layers":[]}}"#);
    let manifest = digest(bytes.as_bytes());
    std::fs::remove_file(&hold).expect("removed");
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            registry
                .put_manifest("a/b", "late", OCI_MANIFEST, bytes.as_bytes())
                .status()
        });
        // Its references were found, and it is on its way.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let collecting = scope.spawn(|| registry.verb(&["garbage-collect", "-m", "-q", "--grace", "0s"]));
        std::thread::sleep(std::time::Duration::from_secs(1));
        std::fs::write(&hold, "").expect("written");
        let _ = collecting.join().expect("no panic").ok();
        assert_eq!(pushing.join().expect("answered"), 201);
    });
    assert_eq!(status(&registry, &manifest), 200);
    assert_eq!(
        registry.get(&format!("/v2/a/b/blobs/{layer}")).text().expect("read"),
        "layer late"
    );
    registry.verb(&["verify"]).ok();
}

#[test]
fn a_killed_collection_leaves_the_server_writable() {
    for stage in ["mark", "inspect", "sweep"] {
        let plan = format!("collect:{stage}=stop@1");
        let registry = TestRegistry::with(temporary(), "", &[("KDK_FAILPOINTS", &plan)]);
        for count in 0..40 {
            registry.push_image("a/b", "moves", &count.to_string());
        }
        let mut asking = Command::new(KDK)
            .args(["registry", "garbage-collect", "-m", "-q", "--grace", "0s"])
            .arg(registry.directory.path().join("config.yml"))
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("started");
        // The server stands still at the stage; whoever asked it goes away.
        crate::support::wait(&format!("the server stops at {stage}"), || {
            (state(registry.pid()) == 'T').then_some(())
        });
        asking.kill().expect("killed");
        asking.wait().expect("reaped");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(registry.pid()),
            nix::sys::signal::Signal::SIGCONT,
        )
        .expect("sent");
        registry.push_image("a/b", "kept", &format!("after {stage}"));
        // What was left alone ends; another can run.
        let done = crate::support::wait("it ends", || {
            let output = registry.verb(&["garbage-collect", "-m", "-q", "--grace", "0s"]);
            (output.code == 0).then_some(output)
        });
        let _ = done.ok();
        assert_eq!(registry.get("/v2/a/b/manifests/kept").status(), 200);
        assert_eq!(registry.get("/v2/a/b/manifests/moves").status(), 200);
    }
}

/// Returns the state of a process, as the kernel names it.
fn state(pid: i32) -> char {
    let output = Output::of(Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()])).ok();
    output.trim().chars().next().unwrap_or('?')
}

/// What the configuration lets a push leave out is no problem later.
#[test]
fn a_sparse_index_that_is_allowed_is_no_finding() {
    let sparse = "validation:\n  manifests:\n    indexes:\n      platforms: none\n";
    let registry = TestRegistry::with(temporary(), sparse, &[]);
    let absent = digest(b"absent");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{absent}","size":9}}]}}"#
    );
    let pushed = registry.put_manifest("a/b", "t", OCI_INDEX, index.as_bytes());
    assert_eq!(pushed.status(), 201);
    assert!(registry.verb(&["verify"]).ok().contains("all is well"));
    let config = registry.directory.path().join("config.yml");
    let text = std::fs::read_to_string(&config).expect("read").replace(sparse, "");
    std::fs::write(&config, text).expect("written");
    let report = registry.verb(&["verify"]);
    assert_eq!(report.code, 1, "{}", report.shown());
    let found = report.stdout.contains("missing-blob") && report.stdout.contains(&absent);
    assert!(found, "{}", report.shown());
}

#[test]
fn what_is_wrong_is_found_and_mended() {
    let mut registry = TestRegistry::start();
    let (bytes, image) = registry.push_image("a/b", "t", "x");
    registry.push_image("a/b", "empty", "y");
    registry.push_image("a/b", "well", "z");
    let layer = digest(b"layer x");
    let hex = &layer[7..];
    let data = store(&registry).join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]));
    std::fs::write(&data, b"layer y").expect("written");
    let tags = store(&registry).join("repositories/a/b/_manifests/tags");
    std::fs::write(tags.join("empty/current/link"), b"").expect("written");
    let report = registry.verb(&["verify"]);
    assert_eq!(report.code, 1, "{report:?}");
    for word in [
        "corrupt-blob",
        "missing-blob",
        "dangling-tag",
        &layer,
        "empty or garbled",
    ] {
        assert!(report.stdout.contains(word), "{word}: {}", report.stdout);
    }
    assert!(!report.stdout.contains("well"), "{}", report.stdout);
    assert!(report.stderr.contains("verify --repair"), "{}", report.stderr);
    registry.stop();
    let refused = registry.verb(&["verify", "--repair"]).fails(1);
    assert!(refused.contains("--yes"), "{refused}");
    let repaired = registry.verb(&["verify", "--repair", "--yes"]);
    assert!(repaired.stdout.contains("moved to .kdk/quarantine"), "{repaired:?}");
    assert!(
        registry
            .directory
            .path()
            .join("storage/.kdk/quarantine")
            .join(&layer)
            .exists()
    );
    // Only what must be pushed again is left.
    let left = registry.verb(&["verify"]);
    assert_eq!(left.code, 1);
    assert!(
        left.stdout.contains("push it again") && left.stdout.contains("1 problems"),
        "{left:?}"
    );
    let registry = registry.restart();
    assert_eq!(registry.push_blob("a/b", b"layer x"), layer);
    assert_eq!(registry.put_manifest("a/b", "t", OCI_MANIFEST, &bytes).status(), 201);
    assert_eq!(status(&registry, &image), 200);
    registry.verb(&["verify"]).ok();
}

#[test]
fn a_storage_whose_metadata_are_in_a_database_is_left_alone() {
    let mut registry = TestRegistry::start();
    registry.push_image("a/b", "t", "x");
    let locks = registry.directory.path().join("storage/docker/registry/lockfiles");
    std::fs::create_dir_all(&locks).expect("made");
    std::fs::write(locks.join("database-in-use"), r#"{"version":1}"#).expect("written");
    let before = tree(&store(&registry));
    // Without links nothing tells what is alive, served or not.
    for served in [true, false] {
        let refused = registry.verb(&["garbage-collect", "-m", "--grace", "0s"]).fails(1);
        assert!(refused.contains("in a database"), "{refused}");
        if served {
            registry.stop();
        }
    }
    registry.verb(&["verify", "--repair", "--yes"]).fails(1);
    assert_eq!(tree(&store(&registry)), before);
    // Whatever became of what it says.
    for damaged in ["", r#"{"vers"#, "\0\0"] {
        std::fs::write(locks.join("database-in-use"), damaged).expect("written");
        let refused = registry.verb(&["garbage-collect", "-m", "--grace", "0s"]).fails(1);
        assert!(refused.contains("in a database"), "{refused}");
    }
    // The lock file is binding where GitLab's registry minds it.
    let config = registry.directory.path().join("config.yml");
    let mut serve = Command::new(KDK);
    let serve = serve.args(["registry", "serve"]).arg(&config);
    let refused = Output::of(serve.env("REGISTRY_FF_ENFORCE_LOCKFILES", "true")).fails(1);
    assert!(refused.contains("database-in-use"), "{refused}");
    std::fs::remove_file(locks.join("database-in-use")).expect("removed");
    let directory = std::mem::replace(&mut registry.directory, crate::support::temporary());
    let registry = TestRegistry::on(directory, &config, &[("REGISTRY_FF_ENFORCE_LOCKFILES", "true")]);
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
    let mark = std::fs::read_to_string(locks.join("filesystem-in-use")).expect("read");
    assert_eq!(mark, r#"{"version":1}"#);
    // One without images may yet become a database's.
    let enforced = [("REGISTRY_FF_ENFORCE_LOCKFILES", "true")];
    let mut empty = TestRegistry::with(crate::support::temporary(), "", &enforced);
    empty.push_blob("a/b", b"alone");
    empty.stop();
    let empty = empty.again("", &enforced);
    let mark = empty
        .directory
        .path()
        .join("storage/docker/registry/lockfiles/filesystem-in-use");
    assert!(!mark.exists());
}

fn blob_path(registry: &TestRegistry, digest: &str) -> std::path::PathBuf {
    let hex = &digest[7..];
    store(registry).join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]))
}

#[test]
fn damage_never_feeds_a_collection() {
    let mut registry = TestRegistry::start();
    let (bytes, image) = registry.push_image("a/b", "t", "kept");
    let (_, other) = registry.push_image("a/b", "other", "other");
    registry.push_image("a/b", "loose", "loose");
    registry.send("DELETE", "/v2/a/b/manifests/loose");
    let manifest = blob_path(&registry, &image);
    let link = store(&registry).join("repositories/a/b/_manifests/tags/other/current/link");
    let history = store(&registry).join("repositories/a/b/_manifests/tags/other/index");
    let mut flipped = bytes.clone();
    flipped[30] ^= 1;
    for served in [true, false] {
        for damage in [Some(&flipped[..]), Some(&b""[..]), None] {
            match damage {
                Some(content) => std::fs::write(&manifest, content).expect("written"),
                None => std::fs::remove_file(&manifest).expect("removed"),
            }
            let before = tree(&store(&registry));
            for options in [&["-m"][..], &[], &["-m", "--dry-run"]] {
                let refused = registry
                    .verb(&[&["garbage-collect", "--grace", "0s"], options].concat())
                    .fails(1);
                assert!(
                    refused.contains(&image) && refused.contains("nothing was removed"),
                    "{refused}"
                );
            }
            assert_eq!(tree(&store(&registry)), before);
            std::fs::create_dir_all(manifest.parent().expect("a directory")).expect("made");
            std::fs::write(&manifest, &bytes).expect("restored");
        }
        if served {
            registry.stop();
        }
    }
    // A tag whose link is broken keeps what its history names; without one nothing is removed.
    std::fs::write(&link, b"").expect("written");
    registry
        .verb(&["garbage-collect", "-m", "-q", "--grace", "0s", "--dry-run"])
        .ok();
    let kept = tree(&history);
    for entry in kept.keys() {
        std::fs::remove_file(entry).expect("removed");
        std::fs::remove_dir(Path::new(entry).parent().expect("a directory")).expect("removed");
    }
    let refused = registry.verb(&["garbage-collect", "-m", "--grace", "0s"]).fails(1);
    assert!(refused.contains("the tag a/b:other is broken"), "{refused}");
    for entry in kept.keys() {
        std::fs::create_dir_all(Path::new(entry).parent().expect("a directory")).expect("made");
        std::fs::write(entry, &other).expect("restored");
    }
    // So does a manifest whose own link is broken.
    let own = store(&registry).join(format!(
        "repositories/a/b/_manifests/revisions/sha256/{}/link",
        &image[7..]
    ));
    std::fs::write(&own, b"").expect("written");
    registry.verb(&["garbage-collect", "-m", "-q", "--grace", "0s"]).ok();
    for (content, there) in [("layer kept", true), ("layer other", true), ("layer loose", false)] {
        assert_eq!(
            blob_path(&registry, &digest(content.as_bytes())).exists(),
            there,
            "{content}"
        );
    }
    // And one whose link is lost altogether, while a tag names it; with -m and without.
    std::fs::remove_file(&own).expect("removed");
    for options in [&["-m"][..], &[]] {
        registry
            .verb(&[&["garbage-collect", "-q", "--grace", "0s"], options].concat())
            .ok();
        assert!(blob_path(&registry, &digest(b"layer kept")).exists());
    }
    // A directory under a name that no repository has holds who knows what.
    let odd = store(&registry).join("repositories/Odd/_manifests/revisions");
    std::fs::create_dir_all(&odd).expect("made");
    let refused = registry.verb(&["garbage-collect", "-m", "--grace", "0s"]).fails(1);
    assert!(refused.contains("the directory Odd holds manifests"), "{refused}");
    std::fs::remove_dir_all(store(&registry).join("repositories/Odd")).expect("removed");
    // A name with nothing under it was tidied up.
    std::fs::create_dir_all(own.parent().expect("a directory")).expect("made");
    std::fs::write(&own, &image).expect("restored");
    std::fs::write(&link, &other).expect("restored");
    let registry = registry.restart();
    for tag in ["t", "other"] {
        assert_eq!(registry.get(&format!("/v2/a/b/manifests/{tag}")).status(), 200, "{tag}");
    }
}

#[test]
fn a_storage_without_any_manifest_is_not_emptied_unasked() {
    let mut registry = TestRegistry::start();
    for content in [&b"one"[..], b"two"] {
        registry.push_blob("a/b", content);
    }
    let before = tree(&store(&registry));
    for served in [true, false] {
        for more in [&[][..], &["--all-blobs", "1"], &["--dry-run"]] {
            let refused = registry
                .verb(&[&["garbage-collect", "--grace", "0s"], more].concat())
                .fails(1);
            assert!(
                refused.contains("has 2 blobs that could go, and no repository"),
                "{refused}"
            );
        }
        assert_eq!(tree(&store(&registry)), before);
        if served {
            registry.stop();
        }
    }
    let done = registry
        .verb(&["garbage-collect", "--grace", "0s", "--all-blobs", "2"])
        .ok();
    assert!(done.contains("Removed 2 blobs"), "{done}");
}

#[test]
fn what_killed_pushes_leave_is_no_problem_and_goes_with_a_repair() {
    let mut registry = TestRegistry::start();
    let (_, image) = registry.push_image("a/b", "t", "x");
    registry.stop();
    let repository = store(&registry).join("repositories/a/b");
    let nothing = "0".repeat(64);
    let hours_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(2);
    let leave = |path: std::path::PathBuf, content: &str| {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(&path, content).expect("written");
        let file = std::fs::File::open(&path).expect("opened");
        file.set_modified(hours_ago).expect("set");
        path
    };
    let left = [
        // Links that were made and not written yet, or before their blob had its name.
        leave(
            repository.join(format!("_manifests/revisions/sha256/{nothing}/link")),
            "",
        ),
        leave(repository.join(format!("_layers/sha256/{nothing}/link")), ""),
        leave(
            repository.join(format!("_layers/sha256/1{}/link", &nothing[1..])),
            &format!("sha256:1{}", &nothing[1..]),
        ),
        // A tag that never got its link, and contents that never got their names.
        leave(
            repository.join(format!("_manifests/tags/never/index/sha256/{nothing}/link")),
            &format!("sha256:{nothing}"),
        ),
        leave(
            repository.join("_manifests/tags/t/current/link.0123456789abcdef.tmp"),
            "cut o",
        ),
        leave(
            store(&registry).join(format!("blobs/sha256/00/{nothing}/data.0123456789abcdef.tmp")),
            "cut off",
        ),
    ];
    let found = registry.verb(&["verify"]).ok();
    assert!(found.contains("0 problems") || !found.contains("problem"), "{found}");
    assert!(left.iter().all(|path| path.exists()), "looking changes nothing");
    registry.verb(&["verify", "--repair", "--yes"]).ok();
    for path in left {
        assert!(!path.exists(), "{}", path.display());
    }
    let registry = registry.restart();
    assert_eq!(status(&registry, &image), 200);
    let tags: Value = registry.get("/v2/a/b/tags/list").json().expect("JSON");
    assert_eq!(tags["tags"], serde_json::json!(["t"]));
}
