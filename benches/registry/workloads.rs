//! What is measured. Each workload returns what it did and in which time.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use kdk::registry::oci::{Algorithm, Digest};

use crate::client::Client;

const LARGE: usize = 256 << 20;
const CHUNK: usize = 16 << 20;
const READING: Duration = Duration::from_secs(3);
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub fn digest(content: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, content).to_string()
}

/// Makes bytes that compress badly and differ by seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = vec![0; length];
    for chunk in content.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    content
}

/// Runs `work(client, number)` for numbers below `count` on some connections; returns numbers per second.
fn spread(address: &str, connections: usize, count: usize, work: impl Fn(&mut Client, usize) + Sync) -> f64 {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = Client::connect(address).expect("connected");
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    work(&mut client, number);
                }
            });
        }
    });
    count as f64 / began.elapsed().as_secs_f64()
}

/// Runs `work` over and over for a while; returns how often per second.
pub fn repeat(address: &str, connections: usize, work: impl Fn(&mut Client, usize) + Sync) -> f64 {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = Client::connect(address).expect("connected");
                while began.elapsed() < READING {
                    work(&mut client, next.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
    });
    next.into_inner() as f64 / began.elapsed().as_secs_f64()
}

/// Times of manifests by tag over 32 connections, in milliseconds, the shortest first.
///
/// One thread serves all connections: with a thread for each, on as few cores, the times would tell how
/// long threads of this program wait for each other.
pub fn manifest_times(address: &str, count: usize) -> Vec<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let connection = async || {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        let mut times = Vec::new();
        while began.elapsed() < READING {
            let number = next.fetch_add(1, Ordering::Relaxed) * 7 % count;
            let request = format!(
                "GET /v2/tagged/manifests/t{number:05} HTTP/1.1\r\nHost: {address}\r\nAccept: {MANIFEST}\r\n\r\n"
            );
            let started = Instant::now();
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = Vec::with_capacity(8 << 10);
            while !is_whole(&answer) {
                assert_ne!(stream.read_buf(&mut answer).await.expect("read"), 0, "cut off");
            }
            times.push(started.elapsed().as_secs_f64() * 1000.0);
            assert!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
        times
    };
    let connections = std::iter::repeat_with(connection).take(32);
    let all = runtime
        .expect("a runtime")
        .block_on(futures_util::future::join_all(connections));
    let mut all: Vec<f64> = all.into_iter().flatten().collect();
    all.sort_unstable_by(f64::total_cmp);
    all
}

/// Whether an answer with a `Content-Length` has all come.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("a length").parse().expect("a number");
    answer.len() >= end + 4 + length
}

fn upload(client: &mut Client, repository: &str) -> String {
    let started = client
        .request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"")
        .expect("answered");
    assert_eq!(started.status, 202, "{}", started.head);
    started.header("location").expect("a location").to_owned()
}

pub fn push(client: &mut Client, repository: &str, digest: &str, content: &[u8]) {
    let location = upload(client, repository);
    let separator = if location.contains('?') { '&' } else { '?' };
    let done = client
        .request(
            "PUT",
            &format!("{location}{separator}digest={digest}"),
            "Content-Type: application/octet-stream\r\n",
            content,
        )
        .expect("answered");
    assert_eq!(done.status, 201, "{}", done.head);
}

fn push_in_chunks(client: &mut Client, repository: &str, digest: &str, content: &[u8]) {
    let mut location = upload(client, repository);
    for (number, chunk) in content.chunks(CHUNK).enumerate() {
        let first = number * CHUNK;
        let headers = format!(
            "Content-Type: application/octet-stream\r\nContent-Range: {first}-{}\r\n",
            first + chunk.len() - 1
        );
        let taken = client.request("PATCH", &location, &headers, chunk).expect("answered");
        assert_eq!(taken.status, 202, "{}", taken.head);
        location = taken.header("location").expect("a location").to_owned();
    }
    let separator = if location.contains('?') { '&' } else { '?' };
    let done = client
        .request("PUT", &format!("{location}{separator}digest={digest}"), "", b"")
        .expect("answered");
    assert_eq!(done.status, 201, "{}", done.head);
}

/// How long a disk gets to recover from the row before: virtual ones slow down after some GiB.
const REST: Duration = Duration::from_secs(20);

/// Lets the disk finish what was written, and recover.
pub fn rest() {
    std::process::Command::new("sync").status().expect("synced");
    std::thread::sleep(REST);
}

/// MiB per second of pushing four large blobs, whole or in chunks.
pub fn large_push(address: &str, blobs: &[(String, Vec<u8>)], streams: usize, chunked: bool) -> f64 {
    let repository = format!("large/{streams}{}", if chunked { "c" } else { "m" });
    rest();
    let rate = spread(address, streams, blobs.len(), |client, number| {
        let (digest, content) = &blobs[number];
        if chunked {
            push_in_chunks(client, &repository, digest, content);
        } else {
            push(client, &repository, digest, content);
        }
    });
    rate * (LARGE >> 20) as f64
}

pub fn large_blobs(seed: u64) -> Vec<(String, Vec<u8>)> {
    (0..4)
        .map(|number| {
            let content = noise(LARGE, seed * 100 + number);
            (digest(&content), content)
        })
        .collect()
}

/// MiB per second of pulling the blobs that [`large_push`] left.
pub fn large_pull(address: &str, blobs: &[(String, Vec<u8>)], streams: usize) -> f64 {
    let rate = spread(address, streams, 12, |client, number| {
        let (digest, content) = &blobs[number % blobs.len()];
        let got = client
            .drain("GET", &format!("/v2/large/4m/blobs/{digest}"), "")
            .expect("answered");
        assert_eq!(got, (200, content.len() as u64));
    });
    rate * (LARGE >> 20) as f64
}

/// Small blobs per second.
pub fn small_blobs(address: &str, count: usize) -> f64 {
    let blobs: Vec<_> = (0..count)
        .map(|number| {
            let content = noise(4096, 1_000_000 + number as u64);
            (digest(&content), content)
        })
        .collect();
    spread(address, 16, count, |client, number| {
        let (digest, content) = &blobs[number];
        push(client, "small", digest, content);
    })
}

fn image(config: &(String, Vec<u8>), layers: &[(String, usize)], note: &str) -> Vec<u8> {
    let layers: Vec<String> = layers
        .iter()
        .map(|(digest, size)| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{size}}}"#
            )
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{}],"annotations":{{"note":"{note}"}}}}"#,
        config.0,
        config.1.len(),
        layers.join(",")
    )
    .into_bytes()
}

fn put_manifest(client: &mut Client, repository: &str, reference: &str, content: &[u8]) {
    let done = client
        .request(
            "PUT",
            &format!("/v2/{repository}/manifests/{reference}"),
            &format!("Content-Type: {MANIFEST}\r\n"),
            content,
        )
        .expect("answered");
    assert_eq!(done.status, 201, "{}", done.head);
}

/// Manifests per second, each under a tag of its own.
pub fn manifest_puts(address: &str, count: usize) -> f64 {
    let mut client = Client::connect(address).expect("connected");
    let config_content = br#"{"architecture":"amd64","os":"linux"}"#.to_vec();
    let config = (digest(&config_content), config_content);
    let layer = noise(4096, 77);
    push(&mut client, "tagged", &config.0, &config.1);
    push(&mut client, "tagged", &digest(&layer), &layer);
    let layers = vec![(digest(&layer), layer.len())];
    let manifests: Vec<_> = (0..count)
        .map(|number| image(&config, &layers, &number.to_string()))
        .collect();
    spread(address, 16, count, |client, number| {
        put_manifest(client, "tagged", &format!("t{number:05}"), &manifests[number]);
    })
}

/// What manifests [`manifest_puts`] left, by digest.
fn digests_of_tags(address: &str, count: usize) -> Vec<String> {
    let mut client = Client::connect(address).expect("connected");
    (0..count)
        .map(|number| {
            let answer = client
                .request(
                    "HEAD",
                    &format!("/v2/tagged/manifests/t{number:05}"),
                    &format!("Accept: {MANIFEST}\r\n"),
                    b"",
                )
                .expect("answered");
            answer.header("docker-content-digest").expect("a digest").to_owned()
        })
        .collect()
}

/// Manifest reads per second, by tag and by digest.
pub fn manifest_gets(address: &str, count: usize) -> (f64, f64) {
    let accept = format!("Accept: {MANIFEST}\r\n");
    let digests = digests_of_tags(address, 500);
    let by_tag = repeat(address, 32, |client, number| {
        let got = client
            .drain(
                "GET",
                &format!("/v2/tagged/manifests/t{:05}", number * 7 % count),
                &accept,
            )
            .expect("answered");
        assert_eq!(got.0, 200);
    });
    let by_digest = repeat(address, 32, |client, number| {
        let digest = &digests[number * 7 % digests.len()];
        let got = client
            .drain("GET", &format!("/v2/tagged/manifests/{digest}"), &accept)
            .expect("answered");
        assert_eq!(got.0, 200);
    });
    (by_tag, by_digest)
}

/// Blob HEADs per second over the blobs that [`small_blobs`] left.
pub fn blob_heads(address: &str) -> f64 {
    let digests: Vec<String> = (0..500)
        .map(|number| digest(&noise(4096, 1_000_000 + number)))
        .collect();
    repeat(address, 32, |client, number| {
        let digest = &digests[number * 7 % digests.len()];
        let got = client
            .drain("HEAD", &format!("/v2/small/blobs/{digest}"), "")
            .expect("answered");
        assert_eq!(got.0, 200);
    })
}

/// Pages of 100 tags per second.
pub fn tag_pages(address: &str, count: usize) -> f64 {
    repeat(address, 32, |client, number| {
        let last = format!("t{:05}", number * 100 % count);
        let got = client
            .drain("GET", &format!("/v2/tagged/tags/list?n=100&last={last}"), "")
            .expect("answered");
        assert_eq!(got.0, 200);
    })
}

/// Pages of 100 repositories per second.
pub fn catalog_pages(address: &str, repositories: usize) -> f64 {
    repeat(address, 32, |client, number| {
        let last = format!("group/r{:05}", number * 100 % repositories);
        let got = client
            .drain("GET", &format!("/v2/_catalog?n=100&last={last}"), "")
            .expect("answered");
        assert_eq!(got.0, 200);
    })
}

/// Puts one small image into many repositories, layers mounted; images per second.
pub fn image_pushes(address: &str, repositories: usize, prefix: &str) -> f64 {
    let mut client = Client::connect(address).expect("connected");
    let layers: Vec<(String, usize)> = (0..10)
        .map(|number| {
            let content = noise(4096, 5000 + number);
            let digest = digest(&content);
            push(&mut client, "base", &digest, &content);
            (digest, content.len())
        })
        .collect();
    spread(address, 4, repositories, |client, number| {
        let repository = format!("{prefix}{number:05}");
        for (digest, _) in &layers {
            let mounted = client
                .request(
                    "POST",
                    &format!("/v2/{repository}/blobs/uploads/?mount={digest}&from=base"),
                    "",
                    b"",
                )
                .expect("answered");
            assert_eq!(mounted.status, 201, "{}", mounted.head);
        }
        let content = format!(r#"{{"n":"{repository}"}}"#).into_bytes();
        let config = (digest(&content), content);
        push(client, &repository, &config.0, &config.1);
        put_manifest(client, &repository, "latest", &image(&config, &layers, ""));
    })
}

/// Makes the repositories that the catalog is to list, without a registry: each with one bare manifest directory.
pub fn lay_out_repositories(storage: &Path, repositories: usize) {
    let top = storage.join("docker/registry/v2/repositories/group");
    for number in 0..repositories {
        let repository = top.join(format!("r{number:05}"));
        // docker-registry lists what has layers, others what has manifests.
        fs::create_dir_all(repository.join("_layers")).expect("made");
        fs::create_dir_all(repository.join("_manifests")).expect("made");
    }
}

fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("below")).expect("made");
    fs::write(path, content).expect("written");
}

/// Lays a blob into a store; returns its digest.
fn put_blob(top: &Path, content: &[u8]) -> String {
    let digest = digest(content);
    let hex = &digest[7..];
    put(&top.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2])), content);
    digest
}

/// The image that all others of [`lay_out_growth`] are like; `more` goes to its end.
fn growth_image(more: &str) -> String {
    let config = digest(b"{}");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[]{more}}}"#
    )
}

/// What attaches an image to the first one, with a number.
fn growth_attached(number: &str) -> String {
    let subject = digest(growth_image("").as_bytes());
    format!(
        r#","subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{subject}","size":1}},"annotations":{{"number":"{number}"}}"#
    )
}

const GROWING: [&str; 3] = ["tags", "manifests", "blobs"];

/// Makes a store that has so many of each thing: tags, manifests that are
/// attached to one, blobs of a repository, repositories. Returns the digests of
/// the manifests, the one that the others are attached to first.
pub fn lay_out_growth(storage: &Path, count: usize) -> Vec<String> {
    let top = storage.join("docker/registry/v2");
    let put = |path: String, content: &[u8]| put(&top.join(path), content);
    let blob = |content: &[u8]| put_blob(&top, content);
    let link = |place: String, digest: &str| put(format!("repositories/{place}/link"), digest.as_bytes());
    let config = blob(b"{}");
    let subject = blob(growth_image("").as_bytes());
    let hex = &subject[7..];
    for name in GROWING {
        link(format!("grow/{name}/_layers/sha256/{}", &config[7..]), &config);
        link(format!("grow/{name}/_manifests/revisions/sha256/{hex}"), &subject);
        link(format!("grow/{name}/_manifests/tags/v000000/current"), &subject);
        link(
            format!("grow/{name}/_manifests/tags/v000000/index/sha256/{hex}"),
            &subject,
        );
    }
    let mut manifests = vec![subject.clone()];
    for number in 1..count {
        link(format!("grow/tags/_manifests/tags/v{number:06}/current"), &subject);
        let attached = growth_image(&growth_attached(&number.to_string()));
        let attached = blob(attached.as_bytes());
        link(
            format!("grow/manifests/_manifests/revisions/sha256/{}", &attached[7..]),
            &attached,
        );
        manifests.push(attached);
    }
    for number in 0..count {
        let one = blob(format!("blob {number:06}").as_bytes());
        link(format!("grow/blobs/_layers/sha256/{}", &one[7..]), &one);
    }
    // docker-registry lists what has layers, others what has manifests.
    for number in 0..count {
        let repository = top.join(format!("repositories/many/r{number:06}"));
        fs::create_dir_all(repository.join("_layers")).expect("made");
        fs::create_dir_all(repository.join("_manifests")).expect("made");
    }
    manifests
}

/// Pushes the first of each thing.
pub fn push_growth(address: &str) {
    let mut client = Client::connect(address).expect("connected");
    let image = growth_image("");
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    for name in GROWING {
        for blob in [&b"{}"[..], b"blob"] {
            let path = format!("/v2/grow/{name}/blobs/uploads/?digest={}", digest(blob));
            assert_eq!(client.request("POST", &path, "", blob).expect("answered").status, 201);
        }
        let path = format!("/v2/grow/{name}/manifests/v000000");
        let put = client.request("PUT", &path, kind, image.as_bytes());
        assert_eq!(put.expect("answered").status, 201);
    }
}

/// Returns what makes as many rows of what was pushed as [`lay_out_growth`]
/// makes files, but for the blobs' contents.
pub fn growth_rows(count: usize) -> String {
    let image = growth_image(&growth_attached("NUMBER"));
    format!(
        "INSERT INTO tags (top_level_namespace_id, repository_id, name, manifest_id)
        SELECT t.top_level_namespace_id, t.repository_id, 'v' || lpad(x::text, 6, '0'), t.manifest_id
        FROM tags AS t JOIN repositories AS r ON r.id = t.repository_id, generate_series(1, {count} - 1) AS x
        WHERE r.path = 'grow/tags';
        INSERT INTO manifests (top_level_namespace_id, repository_id, digest, payload, schema_version, media_type_id,
            total_size, subject_id, configuration_media_type_id, configuration_blob_digest, configuration_payload)
        SELECT m.top_level_namespace_id, m.repository_id, '\\x01'::bytea || sha256(convert_to(y.text, 'UTF8')),
            convert_to(y.text, 'UTF8'), 2, m.media_type_id, 2, m.id, m.configuration_media_type_id,
            m.configuration_blob_digest, m.configuration_payload
        FROM manifests AS m JOIN repositories AS r ON r.id = m.repository_id, generate_series(1, {count} - 1) AS x,
            LATERAL (SELECT replace('{image}', 'NUMBER', x::text) AS text) AS y
        WHERE r.path = 'grow/manifests' AND m.subject_id IS NULL;
        INSERT INTO blobs (digest, media_type_id, size)
        SELECT '\\x01'::bytea || sha256(convert_to('blob ' || lpad(x::text, 6, '0'), 'UTF8')), b.media_type_id, 11
        FROM generate_series(0, {count} - 1) AS x, (SELECT media_type_id FROM blobs LIMIT 1) AS b;
        INSERT INTO repository_blobs (top_level_namespace_id, repository_id, blob_digest)
        SELECT r.top_level_namespace_id, r.id, b.digest FROM repositories AS r, blobs AS b
        WHERE r.path = 'grow/blobs' ON CONFLICT DO NOTHING;
        WITH n AS (INSERT INTO top_level_namespaces (name) VALUES ('many') RETURNING id)
        INSERT INTO repositories (top_level_namespace_id, name, path)
        SELECT n.id, 'r' || lpad(x::text, 6, '0'), 'many/r' || lpad(x::text, 6, '0')
        FROM n, generate_series(0, {count} - 1) AS x;
        INSERT INTO manifests (top_level_namespace_id, repository_id, digest, payload, schema_version, media_type_id,
            total_size)
        SELECT r.top_level_namespace_id, r.id, '\\x01'::bytea || sha256(r.path::bytea), '{{}}', 2, m.media_type_id, 2
        FROM repositories AS r, (SELECT media_type_id FROM manifests LIMIT 1) AS m WHERE r.path LIKE 'many/%'"
    )
}

/// Makes a store with 2,000 repositories of five manifests each, half of them without a tag.
pub fn lay_out_garbage(storage: &Path) {
    let top = storage.join("docker/registry/v2");
    let put = |path: String, content: &[u8]| put(&top.join(path), content);
    let blob = |content: &[u8]| put_blob(&top, content);
    for repository in 0..2000_u64 {
        let name = format!("g{}/r{repository}", repository % 20);
        let layer = |digest: &str| {
            put(
                format!("repositories/{name}/_layers/sha256/{}/link", &digest[7..]),
                digest.as_bytes(),
            );
        };
        for number in 0..5 {
            let seed = repository * 5 + number;
            let config_content = format!(r#"{{"n":{seed}}}"#).into_bytes();
            let config = (blob(&config_content), config_content);
            layer(&config.0);
            // Every second manifest has the layer of the one before.
            let content = noise(512, 9_000_000 + seed / 2);
            let layers = vec![(blob(&content), content.len())];
            layer(&layers[0].0);
            let manifest = image(&config, &layers, &name);
            let digest = blob(&manifest);
            let hex = &digest[7..];
            put(
                format!("repositories/{name}/_manifests/revisions/sha256/{hex}/link"),
                digest.as_bytes(),
            );
            let tag = format!("repositories/{name}/_manifests/tags/t{}", number % 3);
            put(format!("{tag}/index/sha256/{hex}/link"), digest.as_bytes());
            // The tags t0 and t1 move on; what they left has none.
            if number >= 2 {
                put(format!("{tag}/current/link"), digest.as_bytes());
            }
        }
    }
}

/// Counts the files below a directory.
pub fn files_below(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, |entries| {
        entries
            .flatten()
            .map(|entry| {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    files_below(&entry.path())
                } else {
                    1
                }
            })
            .sum()
    })
}
