use crate::support::face::on_every_face;
use crate::support::registry::{assert_error, digest, header};
use crate::support::{Face, TestRegistry};
use reqwest::blocking::Response;

on_every_face!(
    chunks_are_taken_in_order_only,
    an_older_location_serves_when_the_range_fits,
    one_request_suffices,
    a_wrong_digest_ends_the_upload,
    uploads_are_cancelled_and_states_are_checked,
    nobody_writes_into_an_upload_that_has_ended,
    a_change_is_carried_through_when_its_client_goes_away,
);
on_every_face!(lasting: what_is_pushed_again_heals_what_is_damaged, an_upload_goes_on_after_kill_9, what_was_acknowledged_survives_kill_9);

fn start(registry: &TestRegistry) -> String {
    let started = registry.send("POST", "/v2/a/b/blobs/uploads/");
    assert_eq!(started.status(), 202);
    assert_eq!(header(&started, "range"), "0-0");
    assert!(!header(&started, "docker-upload-uuid").is_empty());
    header(&started, "location")
}

fn patch(registry: &TestRegistry, location: &str, range: Option<&str>, content: &[u8]) -> Response {
    let mut request = registry.request("PATCH", location).body(content.to_vec());
    if let Some(range) = range {
        request = request.header("content-range", range);
    }
    request.send().expect("answered")
}

fn chunks_are_taken_in_order_only(face: Face) {
    let registry = face.start();
    let first = patch(&registry, &start(&registry), Some("0-9"), b"0123456789");
    assert_eq!(
        (first.status().as_u16(), header(&first, "range")),
        (202, "0-9".to_owned())
    );
    let location = header(&first, "location");
    assert_error(
        patch(&registry, &location, Some("20-29"), b"0123456789"),
        416,
        "RANGE_INVALID",
    );
    assert_error(
        patch(&registry, &location, Some("5-14"), b"0123456789"),
        416,
        "RANGE_INVALID",
    );
    assert_error(
        patch(&registry, &location, Some("10-12"), b"0123456789"),
        400,
        "SIZE_INVALID",
    );
    let status = registry.get(&location);
    assert_eq!(
        (status.status().as_u16(), header(&status, "range")),
        (204, "0-9".to_owned())
    );
    let second = patch(&registry, &location, Some("10-19"), b"abcdefghij");
    assert_eq!(
        (second.status().as_u16(), header(&second, "range")),
        (202, "0-19".to_owned())
    );
    let location = header(&second, "location");
    let digest = digest(b"0123456789abcdefghijklm");
    let misplaced = registry
        .request("PUT", &format!("{location}&digest={digest}"))
        .header("content-range", "30-32")
        .body("klm")
        .send();
    assert_error(misplaced.expect("answered"), 416, "RANGE_INVALID");
    let done = registry
        .request("PUT", &format!("{location}&digest={digest}"))
        .header("content-range", "20-22")
        .body("klm")
        .send();
    assert_eq!(done.expect("answered").status(), 201);
    assert_eq!(
        registry.get(&format!("/v2/a/b/blobs/{digest}")).text().expect("read"),
        "0123456789abcdefghijklm"
    );
}

fn an_older_location_serves_when_the_range_fits(face: Face) {
    let registry = face.start();
    let location = start(&registry);
    assert_eq!(patch(&registry, &location, Some("0-2"), b"abc").status(), 202);
    assert_eq!(patch(&registry, &location, Some("3-5"), b"def").status(), 202);
    assert_error(patch(&registry, &location, None, b"x"), 416, "RANGE_INVALID");
}

fn one_request_suffices(face: Face) {
    let registry = face.start();
    let content = vec![3_u8; 2_500_000];
    let digest = digest(&content);
    let done = registry
        .request("POST", &format!("/v2/a/b/blobs/uploads/?digest={digest}"))
        .body(content.clone())
        .send()
        .expect("answered");
    assert_eq!(done.status(), 201);
    assert!(registry.get(&format!("/v2/a/b/blobs/{digest}")).bytes().expect("read") == content);
    let location = start(&registry);
    let empty = crate::support::registry::digest(b"");
    assert_eq!(
        registry.send("PUT", &format!("{location}&digest={empty}")).status(),
        201
    );
    assert_eq!(
        registry
            .get(&format!("/v2/a/b/blobs/{empty}"))
            .bytes()
            .expect("read")
            .len(),
        0
    );
}

fn a_wrong_digest_ends_the_upload(face: Face) {
    let registry = face.start();
    let location = header(&patch(&registry, &start(&registry), None, b"abc"), "location");
    assert_error(registry.send("PUT", &location), 400, "DIGEST_INVALID");
    assert_error(
        registry.send("PUT", &format!("{location}&digest=nonsense")),
        400,
        "DIGEST_INVALID",
    );
    let wrong = digest(b"other");
    assert_error(
        registry.send("PUT", &format!("{location}&digest={wrong}")),
        400,
        "DIGEST_INVALID",
    );
    assert_error(registry.get(&format!("/v2/a/b/blobs/{wrong}")), 404, "BLOB_UNKNOWN");
    assert_eq!(registry.send("GET", &location).status(), 404);
}

fn uploads_are_cancelled_and_states_are_checked(face: Face) {
    let registry = face.start();
    let location = header(&patch(&registry, &start(&registry), None, b"abc"), "location");
    assert_error(
        registry.get(&location.replace("/v2/a/b/", "/v2/x/y/")),
        404,
        "BLOB_UPLOAD_UNKNOWN",
    );
    let tampered = format!("{}AAAA", &location[..location.len() - 4]);
    assert_error(registry.get(&tampered), 404, "BLOB_UPLOAD_INVALID");
    assert_eq!(registry.send("DELETE", &location).status(), 204);
    assert_error(registry.send("DELETE", &location), 404, "BLOB_UPLOAD_UNKNOWN");
    assert_error(patch(&registry, &location, None, b"x"), 404, "BLOB_UPLOAD_UNKNOWN");
    let fresh = start(&registry);
    assert_eq!(registry.send("DELETE", &fresh).status(), 204);
    assert_error(registry.send("DELETE", &fresh), 404, "BLOB_UPLOAD_UNKNOWN");
    let moved = reqwest::blocking::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let answer = moved
        .post(registry.url("/v2/a/b/blobs/uploads"))
        .send()
        .expect("answered");
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "location")),
        (301, "/v2/a/b/blobs/uploads/".to_owned())
    );
}

/// Small ones are read again; of large ones the running digest was written down.
fn an_upload_goes_on_after_kill_9(face: Face) {
    const CHUNKS: u8 = 3;
    for size in [3, 5 << 20] {
        let mut registry = face.start();
        let mut location = start(&registry);
        let content: Vec<u8> = (0..CHUNKS).flat_map(|number| vec![number; size]).collect();
        for (number, chunk) in content.chunks(size).enumerate() {
            let range = format!("{}-{}", number * size, (number + 1) * size - 1);
            let taken = patch(&registry, &location, Some(&range), chunk);
            let so_far = format!("0-{}", (number + 1) * size - 1);
            assert_eq!((taken.status().as_u16(), header(&taken, "range")), (202, so_far));
            let next = header(&taken, "location");
            let path = next.strip_prefix(&registry.url("")).expect("ours").to_owned();
            registry = registry.kill_and_restart();
            location = registry.url(&path);
        }
        let digest = digest(&content);
        let done = registry.send("PUT", &format!("{location}&digest={digest}"));
        assert_eq!(done.status(), 201);
        let back = registry.get(&format!("/v2/a/b/blobs/{digest}"));
        assert!(back.bytes().expect("read") == content);
    }
}

fn what_was_acknowledged_survives_kill_9(face: Face) {
    let registry = face.start();
    let (bytes, digest) = registry.push_image("a/b", "t", "kept");
    let registry = registry.kill_and_restart();
    let back = registry.get("/v2/a/b/manifests/t");
    assert_eq!(header(&back, "docker-content-digest"), digest);
    assert!(back.bytes().expect("read") == bytes);
}

/// Requests that wait for their turn on an upload that ends meanwhile must not write into its successor.
fn nobody_writes_into_an_upload_that_has_ended(face: Face) {
    let registry = face.start();
    for _ in 0..20 {
        let location = start(&registry);
        let good = vec![b'G'; 200_000];
        let digest = digest(&good);
        std::thread::scope(|scope| {
            for content in [vec![b'E'; 200_000], good.clone(), vec![b'F'; 200_000]] {
                let (registry, location) = (&registry, &location);
                scope.spawn(move || drop(registry.request("PATCH", location).body(content).send()));
                scope.spawn(move || drop(registry.request("DELETE", location).send()));
            }
            let done = registry
                .request("PUT", &format!("{location}&digest={digest}"))
                .body(good.clone())
                .send()
                .expect("answered");
            let stored = registry.get(&format!("/v2/a/b/blobs/{digest}"));
            if done.status() == 201 {
                assert!(
                    stored.bytes().expect("read") == good,
                    "other bytes are stored under the digest"
                );
            }
        });
    }
}

fn a_change_is_carried_through_when_its_client_goes_away(face: Face) {
    use std::io::Write as _;
    let registry = face.start();
    let content = b"carried through";
    let digest = digest(content);
    let mut stream = std::net::TcpStream::connect(&registry.address).expect("connected");
    let head = format!(
        "POST /v2/a/b/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        content.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(content).expect("sent");
    drop(stream);
    crate::support::wait("the blob is there", || {
        (registry.get(&format!("/v2/a/b/blobs/{digest}")).status() == 200).then_some(())
    });
}

/// The bytes that were just verified replace those that are wrong.
fn what_is_pushed_again_heals_what_is_damaged(face: Face) {
    let registry = face.start();
    let content = b"what is pushed".repeat(40_000);
    let digest = digest(&content);
    let hex = &digest["sha256:".len()..];
    let data = registry.directory.path().join(format!(
        "storage/docker/registry/v2/blobs/sha256/{}/{hex}/data",
        &hex[..2]
    ));
    let at_once = || {
        let path = format!("/v2/a/b/blobs/uploads/?digest={digest}");
        registry
            .request("POST", &path)
            .body(content.clone())
            .send()
            .expect("answered")
            .status()
    };
    // In pieces, and at once; damage that keeps the size is not seen from outside.
    for in_pieces in [true, false] {
        registry.push_blob("a/b", &content);
        let mut damaged = content.clone();
        damaged[1000..1010].fill(0);
        std::fs::write(&data, damaged).expect("written");
        if in_pieces {
            registry.push_blob("a/b", &content);
        } else {
            assert_eq!(at_once(), 201);
        }
        assert!(std::fs::read(&data).expect("read") == content, "in pieces: {in_pieces}");
        let back = registry.get(&format!("/v2/a/b/blobs/{digest}"));
        assert!(back.bytes().expect("read") == content);
    }
}

/// A file that is not what this server left is read again, whatever it noted.
#[test]
fn a_digest_counts_only_for_the_bytes_that_it_is_of() {
    let registry = Face::Files.start();
    let location = start(&registry);
    let content = vec![7; 5 << 20];
    let patched = patch(&registry, &location, None, &content);
    assert_eq!(patched.status(), 202);
    let id = header(&patched, "docker-upload-uuid");
    let data = registry.directory.path().join(format!(
        "storage/docker/registry/v2/repositories/a/b/_uploads/{id}/data"
    ));
    let mut changed = content.clone();
    changed[1000..1010].fill(0);
    std::fs::write(&data, &changed).expect("written");
    let latest = header(&patched, "location");
    let wrong = registry.send("PUT", &format!("{latest}&digest={}", digest(&content)));
    assert_error(wrong, 400, "DIGEST_INVALID");
}
