use crate::support::Face;
use crate::support::face::on_every_face;
use crate::support::registry::{assert_error, digest, header};

on_every_face!(
    a_blob_comes_back_whole_and_in_parts,
    a_blob_belongs_to_its_repository,
    a_blob_is_deleted_once,
    a_blob_is_mounted_from_another_repository,
);
on_every_face!(lasting: a_hundred_pushes_of_one_blob_at_once_make_one_file);

fn a_blob_comes_back_whole_and_in_parts(face: Face) {
    let registry = face.start();
    let content: Vec<u8> = (0..=255_u8).cycle().take(3_000_000).collect();
    let digest = registry.push_blob("a/b", &content);
    let path = format!("/v2/a/b/blobs/{digest}");
    let whole = registry.get(&path);
    assert_eq!(whole.status(), 200);
    assert_eq!(header(&whole, "docker-content-digest"), digest);
    assert_eq!(header(&whole, "etag"), format!("\"{digest}\""));
    assert_eq!(header(&whole, "content-length"), content.len().to_string());
    assert!(whole.bytes().expect("read") == content);
    for (range, status, expected, content_range) in [
        ("bytes=5-9", 206, &content[5..10], "bytes 5-9/3000000"),
        ("bytes=-4", 206, &content[2_999_996..], "bytes 2999996-2999999/3000000"),
        (
            "bytes=2999990-",
            206,
            &content[2_999_990..],
            "bytes 2999990-2999999/3000000",
        ),
    ] {
        let part = registry
            .request("GET", &path)
            .header("range", range)
            .send()
            .expect("answered");
        assert_eq!(part.status(), status, "{range}");
        assert_eq!(header(&part, "content-range"), content_range);
        assert!(part.bytes().expect("read") == expected, "{range}");
    }
    let beyond = registry
        .request("GET", &path)
        .header("range", "bytes=3000000-")
        .send()
        .expect("answered");
    assert_eq!(
        (beyond.status().as_u16(), header(&beyond, "content-range")),
        (416, "bytes */3000000".to_owned())
    );
    let head = registry.send("HEAD", &path);
    assert_eq!(
        (head.status().as_u16(), header(&head, "content-length")),
        (200, content.len().to_string())
    );
    let unchanged = registry
        .request("GET", &path)
        .header("if-none-match", format!("\"{digest}\""))
        .send()
        .expect("answered");
    assert_eq!(unchanged.status(), 304);
    // Caches go on keeping it as long as they were told.
    assert_eq!(header(&unchanged, "cache-control"), "max-age=31536000");
}

fn a_blob_belongs_to_its_repository(face: Face) {
    let registry = face.start();
    let digest = registry.push_blob("a/b", b"content");
    assert_error(registry.get(&format!("/v2/other/blobs/{digest}")), 404, "BLOB_UNKNOWN");
    let (_, manifest) = registry.push_image("a/b", "t", "x");
    assert_error(registry.get(&format!("/v2/a/b/blobs/{manifest}")), 404, "BLOB_UNKNOWN");
    assert_error(
        registry.get(&format!("/v2/a/b/manifests/{digest}")),
        404,
        "MANIFEST_UNKNOWN",
    );
    assert_error(registry.get("/v2/a/b/blobs/sha256:bad"), 400, "DIGEST_INVALID");
    assert_error(
        registry.get("/v2/a/b/blobs/md5:d41d8cd98f00b204e9800998ecf8427e"),
        400,
        "DIGEST_INVALID",
    );
}

fn a_blob_is_deleted_once(face: Face) {
    let registry = face.start();
    let digest = registry.push_blob("a/b", b"content");
    let path = format!("/v2/a/b/blobs/{digest}");
    assert_eq!(registry.send("DELETE", &path).status(), 202);
    assert_error(registry.send("DELETE", &path), 404, "BLOB_UNKNOWN");
    assert_error(registry.get(&path), 404, "BLOB_UNKNOWN");
}

fn a_blob_is_mounted_from_another_repository(face: Face) {
    let registry = face.start();
    let known = registry.push_blob("a/b", b"content");
    let mounted = registry.send("POST", &format!("/v2/c/d/blobs/uploads/?mount={known}&from=a/b"));
    assert_eq!(mounted.status(), 201);
    assert!(header(&mounted, "location").ends_with(&format!("/v2/c/d/blobs/{known}")));
    assert_eq!(
        registry.get(&format!("/v2/c/d/blobs/{known}")).text().expect("read"),
        "content"
    );
    let unknown = digest(b"nobody has this");
    for query in [
        format!("mount={unknown}&from=a/b"),
        format!("mount={known}"),
        format!("mount={known}&from=x/y"),
    ] {
        assert_eq!(
            registry
                .send("POST", &format!("/v2/e/f/blobs/uploads/?{query}"))
                .status(),
            202,
            "{query}"
        );
    }
}

fn a_hundred_pushes_of_one_blob_at_once_make_one_file(face: Face) {
    let registry = face.start();
    let content = vec![7_u8; 50_000];
    std::thread::scope(|scope| {
        for index in 0..100 {
            let (registry, content) = (&registry, &content);
            scope.spawn(move || registry.push_blob(&format!("r/{}", index % 10), content));
        }
    });
    let digest = digest(&content);
    let hex = digest.strip_prefix("sha256:").expect("sha256");
    let directory = registry
        .directory
        .path()
        .join(format!("storage/docker/registry/v2/blobs/sha256/{}/{hex}", &hex[..2]));
    let names: Vec<_> = std::fs::read_dir(directory)
        .expect("there")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(names, ["data"]);
    assert!(registry.get(&format!("/v2/r/3/blobs/{digest}")).bytes().expect("read") == content);
}
