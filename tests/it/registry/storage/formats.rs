//! A root that an earlier version left behind, killed in the middle of its
//! work, is taken up: images, an upload that is half done, events that wait,
//! what was set aside, tokens, keys, the supervisor's memory. Afterwards
//! docker-registry reads the same storage.

use std::path::Path;
use std::process::Command;

use reqwest::blocking::{Client, RequestBuilder, Response};

use crate::support::registry::{OCI_INDEX, OCI_MANIFEST, digest, header};
use crate::support::{KDK, Output, TestRegistry, temporary, wait};

/// Version 0.1, at the ports 13123 and 15123; its places are written `@ROOT@`,
/// `@HOME@` and `@BIN@`.
const ROOT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/registry/storage/fixtures/root-0.1.tar.gz"
);

/// What tags stand for in it.
const TAGS: [(&str, &str, &str); 5] = [
    (
        "group/app",
        "all",
        "sha256:d69aa5d9a1e6de48faf09e48b176d66f634a0389a9b4b6d18ffd8641e72e0d6b",
    ),
    (
        "group/app",
        "v1",
        "sha256:648b8289acdc03866cf233591b0525fdd445be80e2ab68954de85adf028e6dd7",
    ),
    (
        "group/app",
        "v2",
        "sha256:6702056c93c5d8dc1e5cc9fa13318877adeb72b5a704d26796f6b73873f4068f",
    ),
    (
        "group/late",
        "v1",
        "sha256:cb05901fd73963f43a6facffe3220a8dcaa70c85dbc3b566add45ebfd6986f59",
    ),
    (
        "other/deep/name",
        "latest",
        "sha256:6702056c93c5d8dc1e5cc9fa13318877adeb72b5a704d26796f6b73873f4068f",
    ),
];

/// Lays the root out; the directory is its own.
fn lay_out(directory: &Path) {
    Output::of(Command::new("tar").args(["-xzf", ROOT, "-C"]).arg(directory)).ok();
    let binary = Path::new(KDK).parent().expect("a directory").display().to_string();
    let home = directory.join("home");
    std::fs::create_dir(&home).expect("made");
    let replace = format!(
        "grep -rIlE '@(ROOT|HOME|BIN)@' . | xargs sed -i 's#@ROOT@#{}#g; s#@HOME@#{}#g; s#@BIN@#{binary}#g'",
        directory.display(),
        home.display()
    );
    Output::of(Command::new("sh").args(["-c", &replace]).current_dir(directory)).ok();
}

fn kdk(directory: &Path, arguments: &[&str]) -> Output {
    let binary = Path::new(KDK).parent().expect("a directory").display();
    let mut command = Command::new(KDK);
    command
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", format!("{binary}:/usr/bin:/bin"))
        .env("HOME", directory.join("home"));
    Output::of(&mut command)
}

/// Ends what runs there, however the test ends.
struct Ended<'a>(&'a Path);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let _ = kdk(self.0, &["kill", "--yes"]);
    }
}

/// Looks at all that tags stand for.
fn look(ask: impl Fn(&str) -> RequestBuilder) {
    let accept = format!("{OCI_MANIFEST}, {OCI_INDEX}");
    let answer = |path: &str| -> Response { ask(path).header("accept", &accept).send().expect("answered") };
    for (repository, tag, expected) in TAGS {
        let manifest = answer(&format!("/v2/{repository}/manifests/{tag}"));
        assert_eq!(manifest.status(), 200, "{repository}:{tag}");
        assert_eq!(header(&manifest, "docker-content-digest"), expected);
        let content = manifest.bytes().expect("read");
        assert_eq!(digest(&content), expected);
        let manifest: serde_json::Value = serde_json::from_slice(&content).expect("JSON");
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for part in layers.chain(manifest.get("config")) {
            let known = part["digest"].as_str().expect("text");
            let blob = answer(&format!("/v2/{repository}/blobs/{known}"))
                .bytes()
                .expect("read");
            assert_eq!(digest(&blob), known);
        }
    }
}

#[test]
fn what_version_0_1_left_behind_is_taken_up() {
    let directory = temporary();
    let root = directory.path();
    lay_out(root);
    let _ended = Ended(root);
    kdk(root, &["up", "--yes"]).ok();

    // Its token is good for pulls, and for the second half of an upload.
    let client = Client::new();
    let token = std::fs::read_to_string(root.join("token.text")).expect("read");
    let bearer = |repository: &str| {
        let url = format!(
            "http://127.0.0.1:15123/jwt/auth?service=container_registry&scope=repository:{repository}:pull,push"
        );
        let answer = client.get(url).basic_auth("x", Some(token.trim())).send();
        let answer: serde_json::Value = answer.expect("answered").json().expect("JSON");
        answer["token"].as_str().expect("a token").to_owned()
    };
    let repository_of = |path: &str| {
        let rest = path.strip_prefix("/v2/").expect("the API");
        let end = rest
            .find("/manifests/")
            .or_else(|| rest.find("/blobs/"))
            .expect("a repository");
        rest[..end].to_owned()
    };
    let ask = |method: reqwest::Method, path: &str| -> RequestBuilder {
        client
            .request(method, format!("http://127.0.0.1:15123{path}"))
            .bearer_auth(bearer(&repository_of(path)))
    };
    look(|path| ask(reqwest::Method::GET, path));
    let location = std::fs::read_to_string(root.join("upload.location")).expect("read");
    let patched = ask(reqwest::Method::PATCH, location.trim()).body("second half").send();
    let patched = patched.expect("answered");
    assert_eq!(patched.status(), 202, "{patched:?}");
    let whole = digest(b"first half, second half");
    let next = header(&patched, "location").replace("http://127.0.0.1:15123", "");
    let done = ask(reqwest::Method::PUT, &format!("{next}&digest={whole}")).send();
    assert_eq!(done.expect("answered").status(), 201);

    // The event that nobody had taken arrives.
    wait("the event that waited arrives", || {
        let log = kdk(root, &["tail", "rails", "--no-follow", "-n", "200"]).ok();
        (log.contains("registry event") && log.contains("group/late")).then_some(())
    });
    let aside = format!("registry/storage/.kdk/quarantine/sha256:{}", "ab".repeat(32));
    assert_eq!(
        std::fs::read_to_string(root.join(aside)).expect("kept"),
        "not what its digest says"
    );
    let verified = kdk(root, &["registry", "verify"]).ok();
    assert!(verified.contains("all is well"), "{verified}");
    kdk(root, &["down"]).ok();

    // docker-registry reads it as well.
    let other = temporary();
    let config = other.path().join("config.yml");
    let port = crate::support::port();
    std::fs::write(
        &config,
        format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            root.join("registry/storage").display()
        ),
    )
    .expect("written");
    let docker = TestRegistry::docker(other, &config);
    look(|path| docker.request("GET", path));
    assert_eq!(docker.get(&format!("/v2/group/app/blobs/{whole}")).status(), 200);
}
