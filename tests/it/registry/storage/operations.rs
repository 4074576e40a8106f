//! What each kind of request does to the disk and asks of the database: the
//! guard of speed that does not depend on a machine's mood. None of these
//! lists may grow, except where a mend needs it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, digest, header};
use crate::support::{KDK, Output, TestRegistry, temporary};

/// Reads what a file gained since it was last read.
struct Tail {
    path: PathBuf,
    at: usize,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        let mut tail = Self { path, at: 0 };
        tail.read();
        tail
    }

    fn read(&mut self) -> String {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let new = text[self.at..].to_owned();
        self.at = text.len();
        new
    }
}

/// Returns the disk's operations, with short digests, and without what differs
/// each time: in how many pieces a body came, the names of uploads and of
/// temporary files.
fn operations(log: &str, root: &Path) -> Vec<String> {
    let root = format!("{}/", root.display());
    let mut lines: Vec<String> = Vec::new();
    for line in log.lines() {
        let words: Vec<String> = line
            .split(' ')
            .map(|word| {
                let parts: Vec<String> = word.strip_prefix(&root).unwrap_or(word).split('/').map(part).collect();
                parts.join("/")
            })
            .collect();
        if let ["write", path, place] = words.iter().map(String::as_str).collect::<Vec<_>>()[..]
            && let Some(last) = lines.last_mut()
            && let Some((offset, length)) = place.split_once('+')
            && let Some((start, before)) = last
                .strip_prefix(&format!("write {path} "))
                .and_then(|place| place.split_once('+'))
        {
            let number = |text: &str| text.parse::<u64>().expect("a number");
            if number(start) + number(before) == number(offset) {
                *last = format!("write {path} {start}+{}", number(before) + number(length));
                continue;
            }
        }
        lines.push(words.join(" ").trim_end().to_owned());
    }
    for line in &mut lines {
        // A time has as many digits as it needs.
        if let Some(at) = line.find("/startedat 0+") {
            line.truncate(at + "/startedat".len());
        }
    }
    lines
}

fn part(part: &str) -> String {
    let is_hex = |text: &str| text.chars().all(|letter| letter.is_ascii_hexdigit());
    if part.len() == 64 && is_hex(part) {
        return format!("{}…", &part[..8]);
    }
    if part.len() == 36 && part.matches('-').count() == 4 {
        return "<upload>".to_owned();
    }
    match part.strip_suffix(".tmp").and_then(|rest| rest.rsplit_once('.')) {
        Some((name, _)) => format!("{name}.<n>.tmp"),
        None => part.to_owned(),
    }
}

/// Returns the verbs of the statements that PostgreSQL logged.
fn statements(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("LOG:  ")?;
            let sql = match rest.strip_prefix("statement: ") {
                Some(sql) => sql,
                None => rest.strip_prefix("execute ")?.split_once(": ")?.1,
            };
            Some(sql.split_whitespace().next().unwrap_or_default().to_uppercase())
        })
        .collect()
}

const SMALL: &[u8] = b"a small blob";

/// Requests of each kind, in an order in which each finds what it needs.
fn requests(registry: &TestRegistry, mut done: impl FnMut(&str)) {
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(3 << 20).collect();
    let status = |answer: reqwest::blocking::Response, wanted: u16| {
        assert_eq!(answer.status(), wanted, "{answer:?}");
        answer
    };
    // The first request of a connection and of a repository does more than the next.
    registry.push_image("group/first", "v1", "first");
    registry.get("/v2/");
    done("what comes before");
    let at_once = |repository: &str, content: &[u8]| {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", digest(content));
        let request = registry.request("POST", &path).body(content.to_vec());
        status(request.send().expect("answered"), 201);
    };
    at_once("group/app", b"the first blob of a repository");
    done("blob: first of a repository");
    at_once("group/app", SMALL);
    done("blob: small, at once");
    at_once("group/app", SMALL);
    done("blob: small, again");
    at_once("group/other", b"the first blob of another");
    done("blob: first of another repository");
    at_once("group/other", SMALL);
    done("blob: small, known elsewhere");
    registry.push_blob("group/app", b"in three requests");
    done("blob: small, in three requests");
    registry.push_blob("group/app", &large);
    done("blob: 3 MiB, in three requests");
    registry.push_blob("group/app", &large);
    done("blob: 3 MiB, again");
    let mount = format!("/v2/group/other/blobs/uploads/?mount={}&from=group/app", digest(&large));
    status(registry.send("POST", &mount), 201);
    done("blob: mounted");
    let started = status(registry.send("POST", "/v2/group/app/blobs/uploads/"), 202);
    status(registry.send("DELETE", &header(&started, "location")), 204);
    done("upload: begun and given up");

    let image = |note: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"c/c","digest":"{}","size":{}}},"layers":[],"annotations":{{"note":"{note}"}}}}"#,
            digest(SMALL),
            SMALL.len()
        )
        .into_bytes()
    };
    let put = |reference: &str, media_type: &str, content: &[u8]| {
        status(registry.put_manifest("group/app", reference, media_type, content), 201);
    };
    let (one, two) = (image("one"), image("two"));
    put("v1", OCI_MANIFEST, &one);
    done("manifest: first of a repository, by tag");
    put("v2", OCI_MANIFEST, &two);
    done("manifest: new, by tag");
    put("v2", OCI_MANIFEST, &two);
    done("manifest: again, by tag");
    put("v2", OCI_MANIFEST, &one);
    done("manifest: known, moves a tag");
    put(&digest(&image("three")), OCI_MANIFEST, &image("three"));
    done("manifest: new, by digest");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{}}}]}}"#,
        digest(&one),
        one.len()
    );
    put("list", OCI_INDEX, index.as_bytes());
    done("manifest: index, by tag");
    let subject = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","artifactType":"a/b","config":{{"mediaType":"c/c","digest":"{}","size":{}}},"layers":[],"subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{}}}}}"#,
        digest(SMALL),
        SMALL.len(),
        digest(&one),
        one.len()
    );
    put(&digest(subject.as_bytes()), OCI_MANIFEST, subject.as_bytes());
    done("manifest: with a subject, by digest");

    for (title, path) in [
        ("read: manifest by tag", "/v2/group/app/manifests/v1".to_owned()),
        (
            "read: manifest by digest",
            format!("/v2/group/app/manifests/{}", digest(&one)),
        ),
        ("read: blob", format!("/v2/group/app/blobs/{}", digest(SMALL))),
        ("read: tags", "/v2/group/app/tags/list".to_owned()),
        ("read: referrers", format!("/v2/group/app/referrers/{}", digest(&one))),
        ("read: catalog", "/v2/_catalog".to_owned()),
    ] {
        status(registry.get(&path), 200);
        done(title);
    }
    status(registry.send("DELETE", "/v2/group/app/manifests/v2"), 202);
    done("delete: tag");
    let three = format!("/v2/group/app/manifests/{}", digest(&image("three")));
    status(registry.send("DELETE", &three), 202);
    done("delete: manifest without tags");
    status(
        registry.send("DELETE", &format!("/v2/group/app/blobs/{}", digest(&large))),
        202,
    );
    done("delete: blob");
}

#[test]
fn each_change_does_these_operations_on_disk() {
    let directory = temporary();
    let log = directory.path().join("disk.log");
    let root = directory.path().join("storage");
    let registry = TestRegistry::with(directory, "", &[("KDK_DISK_LOG", log.to_str().expect("UTF-8"))]);
    let mut tail = Tail::new(log);
    let mut text = String::new();
    requests(&registry, |title| {
        let operations = operations(&tail.read(), &root).join("\n  ");
        writeln!(text, "{title}\n  {operations}\n").expect("written");
    });
    insta::assert_snapshot!("operations", text);
}

#[test]
fn a_sweep_does_so_many_operations_on_disk() {
    let directory = temporary();
    let log = directory.path().join("disk.log");
    let mut registry = TestRegistry::with(directory, "", &[]);
    for number in 0..64 {
        let (_, digest) = registry.push_image("group/app", "moves", &format!("image {number}"));
        if number % 2 == 0 {
            registry.send("DELETE", &format!("/v2/group/app/manifests/{digest}"));
        }
    }
    registry.stop();
    let mut command = Command::new(KDK);
    command
        .args(["registry", "garbage-collect", "-m", "-q", "--grace", "0s", "--json"])
        .arg(registry.directory.path().join("config.yml"))
        .env("KDK_DISK_LOG", &log);
    let said = Output::of(&mut command).ok();
    let said: serde_json::Value = serde_json::from_str(said.trim()).expect("JSON");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(log).expect("read").lines() {
        *counts
            .entry(line.split(' ').next().expect("a word").to_owned())
            .or_default() += 1;
    }
    insta::assert_snapshot!(
        "operations_of_a_sweep",
        format!(
            "{} manifests and {} blobs went: {counts:#?}",
            said["manifests_deleted"], said["blobs_deleted"]
        )
    );
}

#[test]
fn each_request_asks_the_database_for_so_much() {
    let postgres = TestPostgres::start();
    postgres.make_template();
    postgres.database_of_kdk("registry_dev");
    postgres.sql("registry_dev", "ALTER DATABASE registry_dev SET log_statement = 'all'");
    let section = postgres.section("registry_dev", true);
    let directory = temporary();
    let disk = directory.path().join("disk.log");
    let root = directory.path().join("storage");
    let registry = TestRegistry::with(
        directory,
        // One connection, whose statements are prepared once, and no work of its own.
        &format!("{section}  pool:\n    maxopen: 1\ngc:\n  disabled: true\n"),
        &[("KDK_DISK_LOG", disk.to_str().expect("UTF-8"))],
    );
    // What the server asks by itself at its start comes before.
    crate::support::wait("it has started", || {
        let asked = std::fs::read_to_string(postgres.socket.join("log")).expect("read");
        asked.contains("FROM kdk.migrations").then_some(())
    });
    let mut log = Tail::new(postgres.socket.join("log"));
    let mut disk = Tail::new(disk);
    let mut text = String::new();
    requests(&registry, |title| {
        let statements = statements(&log.read());
        let operations = operations(&disk.read(), &root).len();
        writeln!(
            text,
            "{title}\n  {} statements: {}\n  {operations} operations on disk",
            statements.len(),
            statements.join(" ")
        )
        .expect("written");
    });
    insta::assert_snapshot!("statements", text);
}
