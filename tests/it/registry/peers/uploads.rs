//! Uploads, and what lies behind them on the disk.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::registry::api::wire::{Heard, Line};
use crate::support::face::on_every_face;
use crate::support::registry::{assert_error, digest, header};
use crate::support::{Face, TestRegistry, temporary, wait};

on_every_face!(an_empty_blob_comes_in_every_way);

fn repositories(registry: &TestRegistry) -> PathBuf {
    registry
        .directory
        .path()
        .join("storage/docker/registry/v2/repositories")
}

fn uploads(registry: &TestRegistry) -> PathBuf {
    repositories(registry).join("a/b/_uploads")
}

/// Returns where an upload goes on, and its id.
fn begin(registry: &TestRegistry) -> (String, String) {
    let started = registry.send("POST", "/v2/a/b/blobs/uploads/");
    (header(&started, "location"), header(&started, "docker-upload-uuid"))
}

fn path_of(url: &str) -> &str {
    let at = url.find("/v2/").expect("a path");
    &url[at..]
}

/// A chunk that is not as long as it says is refused, and nothing of it counts.
#[test]
fn chunks_are_as_long_as_they_say() {
    let registry = TestRegistry::start();
    let (location, _) = begin(&registry);
    let mut line = Line::to(&registry);
    let patch = |line: &mut Line, location: &str, headers: &str, body: &str| -> Heard {
        line.say(&format!(
            "PATCH {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n{headers}\r\n{body}",
            path_of(location)
        ));
        line.hear(false)
    };
    let chunked = "Transfer-Encoding: chunked\r\n";
    let status = |range: &str| {
        let answer = registry.get(&location);
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "range").as_str()),
            (204, range)
        );
    };
    for body in ["3\r\nabc\r\n0\r\n\r\n", "7\r\nabcdefg\r\n0\r\n\r\n"] {
        let refused = patch(&mut line, &location, &format!("Content-Range: 0-4\r\n{chunked}"), body);
        assert_eq!(refused.status, 400, "{}", String::from_utf8_lossy(&refused.body));
        assert!(String::from_utf8_lossy(&refused.body).contains("SIZE_INVALID"));
        line = Line::to(&registry);
        status("0-0");
    }
    let taken = patch(
        &mut line,
        &location,
        "Content-Range: 0-9\r\nContent-Length: 10\r\n",
        "0123456789",
    );
    assert_eq!(taken.status, 202);
    let next = taken.path();
    for body in ["3\r\nabc\r\n0\r\n\r\n", "7\r\nabcdefg\r\n0\r\n\r\n"] {
        let refused = patch(&mut line, &next, &format!("Content-Range: 10-14\r\n{chunked}"), body);
        assert_eq!(refused.status, 400);
        line = Line::to(&registry);
        status("0-9");
    }
    // What cannot be right is refused before it is sent.
    line.say(&format!(
        "PATCH {} HTTP/1.1\r\nHost: x\r\nContent-Range: 10-109\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
        path_of(&next)
    ));
    assert_eq!(line.hear(false).status, 400);
}

fn an_empty_blob_comes_in_every_way(face: Face) {
    let registry = face.start();
    let empty = digest(b"");
    let there = || {
        let answer = registry.get(&format!("/v2/a/b/blobs/{empty}"));
        (
            answer.status().as_u16(),
            answer.bytes().map_or(usize::MAX, |body| body.len()),
        )
    };
    let at_once = registry.send("POST", &format!("/v2/a/b/blobs/uploads/?digest={empty}"));
    assert_eq!(at_once.status(), 201);
    assert_eq!(there(), (200, 0));
    assert_eq!(registry.send("DELETE", &format!("/v2/a/b/blobs/{empty}")).status(), 202);
    let (location, _) = begin(&registry);
    let patched = registry.send("PATCH", &location);
    assert_eq!(
        (patched.status().as_u16(), header(&patched, "range").as_str()),
        (202, "0-0")
    );
    let done = registry.send("PUT", &format!("{}&digest={empty}", header(&patched, "location")));
    assert_eq!(done.status(), 201);
    assert_eq!(there(), (200, 0));
}

/// An upload that was begun with nothing, or given up at once, ends as any other.
#[test]
fn an_upload_that_began_with_nothing_leaves_nothing() {
    let registry = TestRegistry::start();
    let small = digest(b"small");
    for given_up in [false, true] {
        let (location, id) = begin(&registry);
        let next = if given_up {
            let mut stream = TcpStream::connect(&registry.address).expect("connected");
            let head = format!(
                "PATCH {} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
                path_of(&location)
            );
            stream.write_all(head.as_bytes()).expect("sent");
            stream.shutdown(Shutdown::Both).expect("closed");
            location
        } else {
            let patched = registry.send("PATCH", &location);
            assert_eq!(patched.status(), 202);
            assert!(uploads(&registry).join(&id).exists());
            header(&patched, "location")
        };
        let put = registry.request("PUT", &format!("{next}&digest={small}")).body("small");
        assert_eq!(put.send().expect("answered").status(), 201, "given up: {given_up}");
        assert!(!uploads(&registry).join(&id).exists(), "given up: {given_up}");
    }
    assert_eq!(
        registry.get(&format!("/v2/a/b/blobs/{small}")).text().expect("text"),
        "small"
    );
}

/// A blob in one request that is not what it says, or does not come whole, leaves nothing.
#[test]
fn one_request_that_fails_leaves_nothing() {
    let registry = TestRegistry::start();
    registry.push_blob("a/b", b"first");
    let content = vec![7; 2 << 20];
    let wrong = digest(b"something else");
    let path = format!("/v2/a/b/blobs/uploads/?digest={wrong}");
    let refused = registry.request("POST", &path).body(content.clone()).send();
    assert_error(refused.expect("answered"), 400, "DIGEST_INVALID");
    let right = digest(&content);
    let mut stream = TcpStream::connect(&registry.address).expect("connected");
    let head = format!(
        "POST /v2/a/b/blobs/uploads/?digest={right} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        content.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&content[..1 << 20]).expect("sent");
    drop(stream);
    wait("nothing is left of them", || {
        let left = std::fs::read_dir(uploads(&registry)).map_or(0, Iterator::count);
        (left == 0).then_some(())
    });
    for blob in [&wrong, &right] {
        assert_eq!(registry.get(&format!("/v2/a/b/blobs/{blob}")).status(), 404);
    }
}

/// The state in a location is that of one upload, and an older one still leads to it.
#[test]
fn a_state_belongs_to_its_upload() {
    let registry = TestRegistry::start();
    let (first, first_id) = begin(&registry);
    let (second, second_id) = begin(&registry);
    let state = first.split_once("_state=").expect("a state").1.to_owned();
    for id in [second_id.as_str(), "5f3d0a4e-9a1b-4c7d-8e2f-0123456789ab"] {
        for method in ["PATCH", "PUT", "GET", "DELETE"] {
            let digest = digest(b"");
            let path = format!("/v2/a/b/blobs/uploads/{id}?_state={state}&digest={digest}");
            assert_error(registry.send(method, &path), 404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
    let status = registry.get(&second);
    assert_eq!(
        (status.status().as_u16(), header(&status, "range").as_str()),
        (204, "0-0")
    );
    let patched = registry
        .request("PATCH", &first)
        .body("01234")
        .send()
        .expect("answered");
    assert_eq!(patched.status(), 202);
    let status = registry.get(&first);
    assert_eq!(
        (status.status().as_u16(), header(&status, "range").as_str()),
        (204, "0-4")
    );
    assert!(uploads(&registry).join(&first_id).exists());
}

/// Chunks without number leave a note of the digest that does not grow with them.
#[test]
fn many_small_chunks_leave_a_small_note() {
    let registry = TestRegistry::start();
    let (location, id) = begin(&registry);
    let first = registry
        .request("PATCH", &location)
        .body(vec![7; 4 << 20])
        .send()
        .expect("answered");
    let mut next = header(&first, "location");
    let mut line = Line::to(&registry);
    let mut content = vec![7; 4 << 20];
    for _ in 0..600 {
        line.say(&format!(
            "PATCH {} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
            path_of(&next)
        ));
        let taken = line.hear(false);
        assert_eq!(taken.status, 202);
        next = taken.path();
        content.push(b'x');
    }
    let note = uploads(&registry).join(&id).join("digest-state");
    let length = std::fs::metadata(&note).expect("there").len();
    assert!(length < 66 << 10, "{length} bytes");
    let registry = registry.kill_and_restart();
    let blob = digest(&content);
    let done = registry.send("PUT", &format!("{next}&digest={blob}"));
    assert_eq!(done.status(), 201);
    let got = registry.get(&format!("/v2/a/b/blobs/{blob}")).bytes().expect("read");
    assert!(got == content, "it came back as it went");
}

/// What another process took away is pushed again, whatever this one remembers of it.
#[test]
fn what_another_process_removed_can_be_pushed_again() {
    let registry = TestRegistry::start();
    let (manifest, image) = registry.push_image("a/b", "t", "x");
    let layer = digest(b"layer x");
    let read = || {
        let found = registry
            .get(&format!("/v2/a/b/manifests/{image}"))
            .bytes()
            .expect("read");
        let blob = registry.get(&format!("/v2/a/b/blobs/{layer}")).bytes().expect("read");
        assert!(found == manifest && blob.as_ref() == b"layer x");
    };
    read();
    read();
    let tree = registry.directory.path().join("storage/docker/registry/v2");
    std::fs::remove_dir_all(tree.join("blobs/sha256")).expect("removed");
    std::fs::remove_dir_all(tree.join("repositories/a/b/_manifests")).expect("removed");
    registry.push_image("a/b", "t", "x");
    read();
    for digest in [&image, &layer] {
        let hex = &digest[7..];
        assert!(
            tree.join("blobs/sha256")
                .join(&hex[..2])
                .join(hex)
                .join("data")
                .exists()
        );
    }
}

/// Where a file became shorter, the answer ends before its length: nobody takes it for whole.
#[test]
fn a_file_that_shrinks_is_not_filled_up() {
    const SIZE: usize = 64 << 20;
    let registry = TestRegistry::start();
    let blob = registry.push_blob("a/b", &vec![7; SIZE]);
    let mut stream = TcpStream::connect(&registry.address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let head = format!("GET /v2/a/b/blobs/{blob} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut piece = [0; 4096];
    let mut come = stream.read(&mut piece).expect("read");
    let head = String::from_utf8_lossy(&piece[..come]).to_lowercase();
    assert!(head.contains(&format!("content-length: {SIZE}\r\n")), "{head}");
    let hex = &blob[7..];
    let store = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/blobs/sha256");
    let data = store.join(&hex[..2]).join(hex).join("data");
    let file = std::fs::OpenOptions::new().write(true).open(data).expect("opened");
    file.set_len(1 << 20).expect("cut");
    let mut rest = vec![0; 1 << 20];
    // The connection is closed, or broken off.
    while let Ok(read @ 1..) = stream.read(&mut rest) {
        come += read;
    }
    assert!(come < SIZE, "{come} bytes came");
    assert_eq!(registry.get("/v2/").status(), 200);
}

/// Makes an upload of eight days ago.
fn old_upload(path: &Path) {
    let at = SystemTime::now() - Duration::from_hours(8 * 24);
    std::fs::create_dir_all(path).expect("made");
    let stamp: jiff::Timestamp = at.try_into().expect("a time");
    std::fs::write(path.join("startedat"), stamp.to_string()).expect("written");
    for name in ["startedat", "data"] {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path.join(name))
            .expect("opened");
        file.set_modified(at).expect("set");
    }
}

/// Lays out old uploads, and returns a registry that has purged what it could.
fn purged(lay_out: impl FnOnce(&Path)) -> TestRegistry {
    let mut first = TestRegistry::start();
    first.stop();
    lay_out(&repositories(&first));
    let directory = std::mem::replace(&mut first.directory, temporary());
    let config = directory.path().join("config.yml");
    let text = std::fs::read_to_string(&config).expect("read");
    let purging =
        "storage:\n  maintenance:\n    uploadpurging:\n      enabled: true\n      age: 168h\n      interval: 1s\n";
    assert!(text.contains("storage:\n"), "{text}");
    std::fs::write(&config, text.replacen("storage:\n", purging, 1)).expect("written");
    TestRegistry::on(directory, &config, &[])
}

/// What cannot be listed or read is told of, and keeps nothing else from being purged.
#[test]
fn what_cannot_be_read_keeps_nothing_from_being_purged() {
    let registry = purged(|root| {
        std::fs::create_dir_all(root.join("a/b")).expect("made");
        symlink(root.join("a/b/_uploads"), root.join("a/b/_uploads")).expect("linked");
        for name in ["no-data", "no-start", "whole"] {
            old_upload(&root.join("c/d/_uploads").join(name));
        }
        for path in ["no-data/data", "no-start/startedat"] {
            let path = root.join("c/d/_uploads").join(path);
            std::fs::remove_file(&path).expect("removed");
            symlink(&path, &path).expect("linked");
        }
    });
    let (mut repositories_told, mut uploads_told) = (Vec::new(), Vec::new());
    registry.wait_for_line(|line| {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        match line["msg"].as_str() {
            Some("cannot list the uploads of a repository") => repositories_told.push(text("repository")),
            Some("cannot purge an upload") => uploads_told.push(text("id")),
            _ => {}
        }
        (line["msg"] == "upload purge complete").then_some(())
    });
    uploads_told.sort();
    assert_eq!(repositories_told, ["a/b"]);
    assert_eq!(uploads_told, ["no-data", "no-start"]);
    let left = repositories(&registry).join("c/d/_uploads");
    assert!(left.join("no-data").exists() && left.join("no-start").exists());
    assert!(!left.join("whole").exists());
}

/// Uploads go when they are old, whatever they and their repositories are called.
#[test]
fn oddly_named_uploads_go_when_they_are_old() {
    let registry = purged(|root| {
        old_upload(&root.join("a/b/_uploads/.odd ~"));
        old_upload(&root.join("Odd_/_uploads/one"));
        let bare = root.join("a/b/_uploads/bare");
        std::fs::create_dir_all(&bare).expect("made");
        let bare = std::fs::File::open(bare).expect("opened");
        bare.set_modified(SystemTime::now() - Duration::from_hours(8 * 24))
            .expect("set");
        std::fs::create_dir_all(root.join("a/b/_uploads/fresh")).expect("made");
        std::fs::write(root.join("a/b/_uploads/stray"), "x").expect("written");
    });
    registry.wait_for_line(|line| (line["msg"] == "upload purge complete").then_some(()));
    let root = repositories(&registry);
    for gone in ["a/b/_uploads/.odd ~", "Odd_/_uploads/one", "a/b/_uploads/bare"] {
        assert!(!root.join(gone).exists(), "{gone}");
    }
    for kept in ["a/b/_uploads/fresh", "a/b/_uploads/stray"] {
        assert!(root.join(kept).exists(), "{kept}");
    }
}
