//! A real server that has no room for a moment.

use crate::support::registry::{OCI_MANIFEST, digest};
use crate::support::{Face, TestRegistry, temporary};

fn manifest_of(layer: &[u8]) -> String {
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c/c","digest":"{}","size":{}}},"layers":[]}}"#,
        digest(layer),
        layer.len()
    )
}

/// Pushes an image; returns the first status that is not as it should be.
fn push(registry: &TestRegistry, layer: &[u8]) -> Result<String, u16> {
    let named = digest(layer);
    let path = format!("/v2/a/b/blobs/uploads/?digest={named}");
    let sent = registry.request("POST", &path).body(layer.to_vec()).send();
    let status = sent.expect("answered").status().as_u16();
    if status != 201 {
        return Err(status);
    }
    let manifest = manifest_of(layer);
    match registry
        .put_manifest("a/b", "latest", OCI_MANIFEST, manifest.as_bytes())
        .status()
        .as_u16()
    {
        201 => Ok(digest(manifest.as_bytes())),
        status => Err(status),
    }
}

/// Whichever write finds no room: the push is refused, nothing of it is seen,
/// and the next one works.
#[test]
fn a_push_without_room_shows_nothing_and_can_be_tried_again() {
    let layer = b"what there may be no room for".repeat(100);
    for (face, place) in [
        (Face::Files, "disk:write"),
        (Face::Memory, "object:put"),
        (Face::Files, "storage:commit"),
    ] {
        let mut refused = 0;
        for nth in 1.. {
            let plan = format!("{place}=full@{nth}");
            let registry = TestRegistry::on_face(face, temporary(), "", &[("KDK_FAILPOINTS", &plan)]);
            let outcome = push(&registry, &layer);
            let Err(status) = outcome else { break };
            assert_eq!(status, 507, "{plan}");
            refused += 1;
            let own = digest(manifest_of(&layer).as_bytes());
            for reference in ["latest", &own] {
                let found = registry.get(&format!("/v2/a/b/manifests/{reference}")).status();
                assert_eq!(found, 404, "{plan}: {reference}");
            }
            let again = push(&registry, &layer);
            let again = again.unwrap_or_else(|status| panic!("{plan}: {status}"));
            assert_eq!(
                registry.get(&format!("/v2/a/b/manifests/{again}")).status(),
                200,
                "{plan}"
            );
            let blob = registry.get(&format!("/v2/a/b/blobs/{}", digest(&layer)));
            assert!(blob.bytes().expect("read") == layer, "{plan}");
        }
        assert!(refused >= 2, "{place}: only {refused} writes");
    }
}

/// A client that sends and reads at the same time, as Go's do, gets the answer,
/// and not a connection that is reset.
#[test]
fn a_client_in_the_middle_of_sending_hears_that_there_is_no_room() {
    use std::io::{Read as _, Write as _};
    let registry = TestRegistry::on_face(Face::Files, temporary(), "", &[("KDK_FAILPOINTS", "disk:write=full")]);
    let piece = vec![7; 1 << 20];
    let head = format!(
        "POST /v2/a/b/blobs/uploads/?digest={} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
        digest(b"never all there"),
        registry.address,
        1_u64 << 30
    );
    for _ in 0..20 {
        let mut reading = std::net::TcpStream::connect(&registry.address).expect("connected");
        let mut sending = reading.try_clone().expect("cloned");
        sending.write_all(head.as_bytes()).expect("sent");
        let sender = std::thread::spawn({
            let piece = piece.clone();
            move || while sending.write_all(&piece).is_ok() {}
        });
        // Busy with something else for a moment.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let mut answer = vec![0; 4096];
        let length = reading.read(&mut answer).expect("no reset");
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("HTTP/1.1 507 "), "{answer}");
        assert!(answer.contains("no space left"), "{answer}");
        reading.shutdown(std::net::Shutdown::Both).expect("closed");
        sender.join().expect("ended");
    }
}
