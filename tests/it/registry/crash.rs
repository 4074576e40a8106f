//! kill -9 in the middle of a storm of pushes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::registry::{OCI_MANIFEST, digest, header};
use crate::support::{TestRegistry, temporary};

/// Pushes an image and returns its manifest's digest; nothing when the server went away.
fn push(client: &reqwest::blocking::Client, base: &str, repository: &str, tag: &str, seed: &str) -> Option<String> {
    let mut digests = Vec::new();
    for content in [
        format!("{{\"config\":\"{seed}\"}}").into_bytes(),
        seed.repeat(20_000).into_bytes(),
    ] {
        let digest = digest(&content);
        let url = format!("{base}/v2/{repository}/blobs/uploads/?digest={digest}");
        let answer = client.post(url).body(content.clone()).send().ok()?;
        if answer.status() != 201 {
            return None;
        }
        digests.push((digest, content.len()));
    }
    let (config, layer) = (&digests[0], &digests[1]);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{}","size":{}}},"layers":[{{"mediaType":"l","digest":"{}","size":{}}}]}}"#,
        config.0, config.1, layer.0, layer.1
    );
    let url = format!("{base}/v2/{repository}/manifests/{tag}");
    let answer = client
        .put(url)
        .header("content-type", OCI_MANIFEST)
        .body(manifest.clone())
        .send()
        .ok()?;
    (answer.status() == 201).then(|| digest(manifest.as_bytes()))
}

#[test]
fn what_was_acknowledged_is_whole_after_kill_9_in_a_storm() {
    const ROUNDS: usize = 200;
    let acknowledged = Mutex::new(Vec::new());
    let mut registry = TestRegistry::with(temporary(), "log: {accesslog: {disabled: true}}\n", &[]);
    for round in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (stop, acknowledged, base) = (&stop, &acknowledged, registry.url(""));
                scope.spawn(move || {
                    let client = reqwest::blocking::Client::new();
                    for count in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let (repository, tag) = (format!("storm/{worker}"), format!("r{round}-{count}"));
                        match push(&client, &base, &repository, &tag, &format!("{worker}-{round}-{count}")) {
                            Some(digest) => acknowledged
                                .lock()
                                .expect("not poisoned")
                                .push((repository, tag, digest)),
                            None => return,
                        }
                    }
                });
            }
            // Another moment every round, from the very start of the pushes on.
            std::thread::sleep(Duration::from_millis(round as u64 * 7 % 67));
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(registry.pid()),
                nix::sys::signal::Signal::SIGKILL,
            )
            .expect("killed");
            stop.store(true, Ordering::Relaxed);
        });
        registry = registry.kill_and_restart();
    }
    let acknowledged = acknowledged.into_inner().expect("not poisoned");
    assert!(
        acknowledged.len() > ROUNDS,
        "hardly anything was pushed: {}",
        acknowledged.len()
    );
    // What the kills left is garbage that a repair sweeps out, and no more than that.
    registry.stop();
    let config = registry.directory.path().join("config.yml");
    let verify = |more: &[&str]| {
        let mut command = std::process::Command::new(crate::support::KDK);
        crate::support::Output::of(command.args(["registry", "verify"]).args(more).arg(&config))
    };
    verify(&["--repair", "--yes"]).ok();
    verify(&[]).ok();
    let registry = registry.restart();
    for (repository, tag, expected) in &acknowledged {
        let manifest = registry.get(&format!("/v2/{repository}/manifests/{tag}"));
        assert_eq!(manifest.status(), 200, "{repository}:{tag}");
        assert_eq!(&header(&manifest, "docker-content-digest"), expected);
        let body: serde_json::Value = manifest.json().expect("JSON");
        for part in [&body["config"], &body["layers"][0]] {
            let known = part["digest"].as_str().expect("text");
            let blob = registry
                .get(&format!("/v2/{repository}/blobs/{known}"))
                .bytes()
                .expect("read");
            assert_eq!(digest(&blob), known, "{repository}:{tag}");
        }
    }
    // What was not acknowledged is whole or not there.
    for worker in 0..4 {
        let tags: serde_json::Value = registry
            .get(&format!("/v2/storm/{worker}/tags/list"))
            .json()
            .expect("JSON");
        for tag in tags["tags"].as_array().into_iter().flatten() {
            let tag = tag.as_str().expect("text");
            assert_eq!(
                registry.get(&format!("/v2/storm/{worker}/manifests/{tag}")).status(),
                200,
                "{worker}:{tag}"
            );
        }
    }
}
