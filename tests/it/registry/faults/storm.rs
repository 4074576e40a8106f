//! kill -9 in the middle of everything at once: pushes of all kinds, mounts,
//! tags that move, deletions, collections. Afterwards nothing that was
//! acknowledged is missing, and nothing is half there.
//!
//! `make test` has a few rounds; `make storm` (`KDK_STORM_ROUNDS`) many.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, Response};

use crate::support::face::on_every_face;
use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_MANIFEST, digest, header};
use crate::support::{Face, KDK, Output, TestRegistry, temporary, wait};

on_every_face!(lasting: what_was_acknowledged_is_whole_after_kills_at_random, what_was_acknowledged_is_whole_after_kills_at_each_place);

/// Where the server dies: at which times there, with whichever metadata.
const PLACES: [(&str, [usize; 3]); 8] = [
    ("disk:make-directory", [1, 7, 40]),
    ("disk:write", [1, 7, 40]),
    ("disk:rename", [1, 7, 40]),
    ("disk:sync-all", [1, 7, 40]),
    ("disk:sync-directory", [1, 7, 40]),
    ("storage:commit", [1, 7, 40]),
    ("storage:commit:done", [1, 7, 40]),
    ("storage:delete", [1, 4, 10]),
];
/// And with links, beside which there are collections.
const STAGES: [(&str, [usize; 3]); 3] = [
    ("collect:mark", [1, 2, 2]),
    ("collect:inspect", [1, 2, 2]),
    ("collect:sweep", [1, 2, 2]),
];
const REPOSITORIES: [&str; 2] = ["storm/one", "storm/two"];

fn rounds(few: usize) -> usize {
    std::env::var("KDK_STORM_ROUNDS").map_or(few, |rounds| rounds.parse().expect("a number"))
}

/// A repository and a tag, and what the tag may stand for.
type Tags = BTreeMap<(String, String), Vec<Option<String>>>;

/// What tags may stand for: one thing, or two while a change is under way;
/// how many changes were acknowledged; and how many other servers were refused.
#[derive(Default)]
struct Ledger(Mutex<Tags>, AtomicUsize, AtomicUsize);

impl Ledger {
    /// Changes a tag: until it is acknowledged, both are right.
    fn change(&self, repository: &str, tag: &str, to: Option<&str>, send: impl FnOnce() -> Option<()>) -> Option<()> {
        let key = (repository.to_owned(), tag.to_owned());
        let to = to.map(str::to_owned);
        let mut tags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tags.entry(key.clone()).or_insert_with(|| vec![None]).push(to.clone());
        drop(tags);
        let outcome = send();
        if outcome.is_some() {
            let mut tags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            tags.insert(key, vec![to]);
            self.1.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Waits until so many changes more are acknowledged, however slow the disk
    /// is (but not for ever: the workers end with the server only).
    fn wait(&self, changes: usize) {
        let (began, from) = (Instant::now(), self.1.load(Ordering::Relaxed));
        while self.1.load(Ordering::Relaxed) < from + changes && began.elapsed() < Duration::from_mins(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Looks at the tags that move, since the next round changes them again.
fn look(registry: &TestRegistry, ledger: &Ledger) {
    let mut tags = ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
    for ((repository, tag), allowed) in tags.iter_mut().filter(|((_, tag), _)| tag == "moves") {
        let found = registry.get(&format!("/v2/{repository}/manifests/{tag}"));
        let found = (found.status() == 200).then(|| header(&found, "docker-content-digest"));
        assert!(
            allowed.contains(&found),
            "{repository}:{tag} is {found:?}, not one of {allowed:?}"
        );
        *allowed = vec![found];
    }
}

/// Someone who works until the server is gone: then a call returns nothing.
struct Worker<'a> {
    client: Client,
    base: String,
    ledger: &'a Ledger,
    /// Whether a collection may take what was pushed a moment ago.
    is_eager: bool,
    gone: &'a AtomicBool,
}

impl Worker<'_> {
    fn taken(&self, answer: reqwest::Result<Response>, status: u16) -> Option<Response> {
        let answer = answer.ok()?;
        let found = answer.status().as_u16();
        // A server that is going down may say so.
        let is_lost = self.is_eager && matches!(found, 400 | 404);
        assert!(found == status || found >= 500 || is_lost, "{answer:?}");
        (found == status).then_some(answer)
    }

    fn blob(&self, repository: &str, content: &[u8], pieces: usize) -> Option<String> {
        let digest = digest(content);
        let uploads = format!("{}/v2/{repository}/blobs/uploads/", self.base);
        if pieces == 0 {
            let request = self
                .client
                .post(format!("{uploads}?digest={digest}"))
                .body(content.to_vec());
            self.taken(request.send(), 201)?;
            return Some(digest);
        }
        let begun = self.taken(self.client.post(uploads).send(), 202)?;
        let mut location = header(&begun, "location");
        for piece in content.chunks(content.len().div_ceil(pieces)) {
            let patched = self.client.patch(&location).body(piece.to_vec()).send();
            location = header(&self.taken(patched, 202)?, "location");
        }
        self.taken(self.client.put(format!("{location}&digest={digest}")).send(), 201)?;
        Some(digest)
    }

    /// Pushes an image under a tag; returns its digest.
    fn image(&self, repository: &str, tag: &str, seed: &str, pieces: usize) -> Option<String> {
        let config = format!("{{\"config\":\"{seed}\"}}");
        let layer = seed.repeat(20_000);
        let config_digest = self.blob(repository, config.as_bytes(), 0)?;
        let layer_digest = self.blob(repository, layer.as_bytes(), pieces)?;
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c/c","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"l/l","digest":"{layer_digest}","size":{}}}]}}"#,
            config.len(),
            layer.len()
        );
        let own = digest(manifest.as_bytes());
        self.ledger.change(repository, tag, Some(&own), || {
            let url = format!("{}/v2/{repository}/manifests/{tag}", self.base);
            let request = self.client.put(url).header("content-type", OCI_MANIFEST);
            self.taken(request.body(manifest).send(), 201).map(drop)
        })?;
        Some(own)
    }

    /// Does one thing after the other, of the kind that the number says.
    fn work(&self, kind: usize, round: usize) {
        for count in 0.. {
            let done = self.one(kind, round, count);
            if self.gone.load(Ordering::Relaxed) || done.is_none() && !self.is_eager {
                return;
            }
        }
    }

    fn one(&self, kind: usize, round: usize, count: usize) -> Option<()> {
        {
            let seed = format!("{kind}-{round}-{count} ");
            let (repository, other) = (REPOSITORIES[count % 2], REPOSITORIES[(count + 1) % 2]);
            let tag = format!("k{kind}-r{round}-{count}");
            match kind {
                0 => drop(self.image(repository, &tag, &seed, 0)?),
                1 => drop(self.image(repository, &tag, &seed, 3)?),
                // One tag that moves.
                2 => drop(self.image(repository, "moves", &seed, 0)?),
                // What is deleted again, by tag or by digest.
                3 => {
                    let digest = self.image(repository, &tag, &seed, 1)?;
                    let reference = if count % 4 < 2 { &tag } else { &digest };
                    self.ledger.change(repository, &tag, None, || {
                        let url = format!("{}/v2/{repository}/manifests/{reference}", self.base);
                        self.taken(self.client.delete(url).send(), 202).map(drop)
                    })?;
                }
                // Blobs of another repository's, mounted.
                _ => {
                    let layer = self.blob(other, seed.repeat(1000).as_bytes(), 1)?;
                    let url = format!(
                        "{}/v2/{repository}/blobs/uploads/?mount={layer}&from={other}",
                        self.base
                    );
                    let mounted = self.client.post(url).send().ok()?;
                    // A collection may have been quicker.
                    assert!(matches!(mounted.status().as_u16(), 201 | 202 | 500..), "{mounted:?}");
                }
            }
        }
        Some(())
    }
}

/// Lets all work until the server is gone.
fn storm(registry: &mut TestRegistry, face: Face, more: &str, ledger: &Ledger, round: usize, kill: impl FnOnce(i32)) {
    let gone = AtomicBool::new(false);
    let (base, pid) = (registry.url(""), registry.pid());
    let config = &registry.directory.path().join("config.yml");
    std::thread::scope(|scope| {
        for kind in 0..5 {
            let worker = Worker {
                client: Client::new(),
                base: base.clone(),
                ledger,
                is_eager: more == EAGER,
                gone: &gone,
            };
            scope.spawn(move || worker.work(kind, round));
        }
        if face == Face::Files {
            let gone = &gone;
            scope.spawn(move || {
                while !gone.load(Ordering::Relaxed) {
                    let arguments = ["registry", "garbage-collect", "-m", "-q", "--grace", "2s"];
                    let _ = Output::of(Command::new(KDK).args(arguments).arg(config));
                }
            });
        }
        let (gone, ledger) = (&gone, &ledger);
        scope.spawn(move || {
            // It is refused, unless the first was killed before.
            let said = second(config, gone);
            let named = said.contains(&format!("a registry (pid {pid}"));
            ledger.2.fetch_add(usize::from(named), Ordering::Relaxed);
            let other = ["waiting", "garbage collection", "a registry that is stopping"];
            assert!(
                named || said.is_empty() || other.iter().any(|word| said.contains(word)),
                "{said}"
            );
        });
        kill(pid);
        registry.wait_end();
        gone.store(true, Ordering::Relaxed);
    });
}

/// Starts another server on the same storage; returns why it does not start,
/// or nothing when the first was gone before it could.
fn second(config: &std::path::Path, gone: &AtomicBool) -> String {
    use std::io::Read as _;
    let mut child = Command::new(KDK)
        .args(["registry", "serve"])
        .arg(config)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    loop {
        if let Some(status) = child.try_wait().expect("asked") {
            let mut said = String::new();
            child
                .stderr
                .take()
                .expect("piped")
                .read_to_string(&mut said)
                .expect("read");
            assert!(!status.success(), "{said}");
            return said;
        }
        if gone.load(Ordering::Relaxed) {
            child.kill().expect("killed");
            child.wait().expect("reaped");
            return String::new();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Looks at all that was acknowledged.
fn check(mut registry: TestRegistry, ledger: Ledger, rounds: usize) -> TestRegistry {
    registry.stop();
    let config = registry.directory.path().join("config.yml");
    let verify = |more: &[&str]| {
        let mut command = Command::new(KDK);
        Output::of(command.args(["registry", "verify"]).args(more).arg(&config))
    };
    verify(&[]).ok();
    let registry = registry.restart();
    let acknowledged = ledger.1.into_inner();
    let refused = ledger.2.into_inner();
    assert!(refused > 0, "no second server was refused in {rounds} rounds");
    let (mut there, mut moves) = (0, 0);
    for ((repository, tag), allowed) in ledger.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let manifest = registry.get(&format!("/v2/{repository}/manifests/{tag}"));
        let found = (manifest.status() == 200).then(|| header(&manifest, "docker-content-digest"));
        assert!(
            allowed.contains(&found),
            "{repository}:{tag} is {found:?}, not one of {allowed:?}"
        );
        let Some(found) = found else { continue };
        let content = manifest.bytes().expect("read");
        assert_eq!(digest(&content), found, "{repository}:{tag}");
        let body: serde_json::Value = serde_json::from_slice(&content).expect("JSON");
        for part in [&body["config"], &body["layers"][0]] {
            let known = part["digest"].as_str().expect("text");
            let path = format!("/v2/{repository}/blobs/{known}");
            let blob = registry.get(&path).bytes().expect("read");
            assert_eq!(digest(&blob), known, "{repository}:{tag}");
        }
        there += 1;
        moves += usize::from(tag == "moves");
    }
    assert!(
        acknowledged > rounds && there > 0 && moves > 0,
        "{acknowledged} changes, {there} tags of which {moves} moved: hardly anything"
    );
    registry
}

fn what_was_acknowledged_is_whole_after_kills_at_random(face: Face) {
    let registry = TestRegistry::on_face(face, temporary(), MORE, &[]);
    at_random(registry, face, MORE);
}

/// The same, while the online collection looks a thousand times a second, and
/// takes what nothing referred to for a second.
#[test]
fn what_was_acknowledged_is_whole_under_an_eager_collection() {
    let face = Face::Database;
    let registry = TestRegistry::on_face(face, temporary(), EAGER, &[]);
    let database = registry.database().expect("it has one").to_owned();
    let postgres = TestPostgres::shared();
    postgres.sql(
        &database,
        "CREATE OR REPLACE FUNCTION gc_review_after(e text) RETURNS timestamp with time zone
        LANGUAGE sql AS $$ SELECT now() + interval '1 second' $$",
    );
    let mut registry = at_random(registry, face, EAGER);
    registry.stop();
    let registry = registry.again(EAGER, &[]);
    // What nothing needs has gone a second later, and what is needed has not.
    let left =
        "SELECT count(*) FROM blobs AS b WHERE NOT EXISTS (SELECT FROM gc_blobs_layers AS l WHERE l.digest = b.digest)
        AND NOT EXISTS (SELECT FROM gc_blobs_configurations AS c WHERE c.digest = b.digest)
        AND NOT EXISTS (SELECT FROM gc_blob_review_queue AS q WHERE q.digest = b.digest AND q.review_count > 0)";
    let mut last = i64::MAX;
    while last > 0 {
        // As long as it becomes less.
        last = wait("the rest is collected", || {
            let now: i64 = postgres.sql(&database, left).trim().parse().expect("a number");
            (now < last).then_some(now)
        });
    }
    wait("something was", || {
        let totals = registry.directory.path().join("storage/.kdk/online-gc.json");
        let text = std::fs::read_to_string(totals).unwrap_or_default();
        let totals: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        (totals["blobs"].as_u64() > Some(0)).then_some(())
    });
    let dangling =
        "SELECT count(*) FROM tags AS t WHERE NOT EXISTS (SELECT FROM manifests AS m WHERE m.id = t.manifest_id)";
    assert_eq!(postgres.sql(&database, dangling).trim(), "0");
}

/// Returns the registry that came through.
fn at_random(mut registry: TestRegistry, face: Face, more: &str) -> TestRegistry {
    let ledger = Ledger::default();
    let rounds = rounds(24);
    for round in 0..rounds {
        storm(&mut registry, face, more, &ledger, round, |pid| {
            // Another moment every round, from the very start of the pushes on.
            ledger.wait(if round == 0 { 10 } else { round % 4 });
            std::thread::sleep(Duration::from_millis(round as u64 * 37 % 211));
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
        });
        registry = registry.again(more, &[]);
        look(&registry, &ledger);
    }
    check(registry, ledger, rounds)
}

fn what_was_acknowledged_is_whole_after_kills_at_each_place(face: Face) {
    let ledger = Ledger::default();
    let directory = temporary();
    let mut registry = TestRegistry::on_face(face, directory, MORE, &[]);
    let mut round = 1_000_000;
    let stages = STAGES.iter().filter(|_| face == Face::Files);
    let places: Vec<_> = PLACES.iter().chain(stages).collect();
    for (place, times) in &places {
        for nth in times {
            let plan = format!("{place}=kill@{nth}");
            registry.stop();
            registry = registry.again(MORE, &[("KDK_FAILPOINTS", &plan)]);
            storm(&mut registry, face, MORE, &ledger, round, |_| {});
            registry = registry.again(MORE, &[]);
            look(&registry, &ledger);
            round += 1;
        }
    }
    drop(check(registry, ledger, 3 * places.len()));
}

/// A collection that hardly waits.
const EAGER: &str = "log: {accesslog: {disabled: true}}\ngc:\n  noidlebackoff: true\n  reviewafter: 1s\n  blobs:\n    interval: 1ms\n  manifests:\n    interval: 1ms\n";
const MORE: &str = "log: {accesslog: {disabled: true}}\ngc:\n  noidlebackoff: true\n  reviewafter: 2s\n  blobs:\n    interval: 20ms\n  manifests:\n    interval: 20ms\n";
