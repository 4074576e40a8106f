//! The requests that every registry is asked, in order: each builds on those
//! before it.

use crate::support::registry::digest;

/// One request.
pub struct Step {
    /// Its name in the fixtures.
    pub name: String,
    pub method: &'static str,
    /// Path and query; `{upload}` stands for where the last upload goes on.
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const UNKNOWN_UPLOAD: &str = "/v2/rec/a/blobs/uploads/11111111-2222-4333-8444-555555555555";

struct Session {
    steps: Vec<Step>,
    area: &'static str,
}

impl Session {
    fn ask(&mut self, name: &str, method: &'static str, path: impl Into<String>) -> &mut Step {
        self.steps.push(Step {
            name: format!("{:03} {}: {name}", self.steps.len() + 1, self.area),
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
        });
        self.steps.last_mut().expect("just added")
    }
}

impl Step {
    fn with(&mut self, name: &'static str, value: impl Into<String>) -> &mut Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(&mut self, kind: &str, bytes: impl Into<Vec<u8>>) {
        self.with("content-type", kind);
        self.body = bytes.into();
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.body("application/octet-stream", bytes);
    }
}

fn descriptor(kind: &str, content: &[u8]) -> String {
    format!(
        r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#,
        digest(content),
        content.len()
    )
}

fn image(kind: &str, config: &[u8], layer: &[u8], more: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{},"layers":[{}]{more}}}"#,
        descriptor(CONFIG, config),
        descriptor(LAYER, layer)
    )
}

fn index(kind: &str, of: &str, image: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{}]}}"#,
        descriptor(of, image.as_bytes())
    )
}

/// Returns the whole session.
pub fn steps() -> Vec<Step> {
    let mut session = Session {
        steps: Vec::new(),
        area: "base",
    };
    base(&mut session);
    uploads(&mut session);
    blobs(&mut session);
    manifests(&mut session);
    lists(&mut session);
    removal(&mut session);
    session.steps
}

const LAYER_BYTES: &[u8] = b"123456789";
const CONFIG_BYTES: &[u8] = b"{}";

fn base(session: &mut Session) {
    session.ask("the base", "GET", "/v2/");
    session.ask("the base, its head", "HEAD", "/v2/");
    session.ask("the base without its slash", "GET", "/v2");
    session.ask("POST to the base", "POST", "/v2/");
    session.ask("the root", "GET", "/");
    session.ask("a route of nobody's", "GET", "/v2/nothing");
    session.ask("version 1", "GET", "/v1/_ping");
    session.area = "names";
    session.ask("capital letters", "GET", "/v2/Rec/tags/list");
    session.ask("a leading dash", "GET", "/v2/-rec/tags/list");
    session.ask(
        "three hundred letters",
        "GET",
        format!("/v2/{}/tags/list", "a".repeat(300)),
    );
    session.ask("a repository that is not there", "GET", "/v2/rec/none/tags/list");
    session.ask("a tag with a wrong letter", "GET", "/v2/rec/a/manifests/!");
    session.ask(
        "a tag of 129 letters",
        "GET",
        format!("/v2/rec/a/manifests/{}", "a".repeat(129)),
    );
    session.area = "catalog";
    session.ask("an empty registry", "GET", "/v2/_catalog");
    session.ask("POST", "POST", "/v2/_catalog");
}

fn uploads(session: &mut Session) {
    let layer = digest(LAYER_BYTES);
    let start = "/v2/rec/a/blobs/uploads/";
    session.area = "uploads";
    session.ask("start", "POST", start);
    session.ask("status of a new one", "GET", "{upload}");
    session.ask("bytes without a range", "PATCH", "{upload}").bytes(b"1234");
    session.ask("status after bytes", "GET", "{upload}");
    session
        .ask("the next chunk", "PATCH", "{upload}")
        .with("content-range", "4-5")
        .bytes(b"56");
    session
        .ask("end with the last bytes", "PUT", format!("{{upload}}?digest={layer}"))
        .bytes(b"789");
    session.ask("status after the end", "GET", "{upload}");
    for (name, range) in [
        ("a chunk that leaves a gap", "7-8"),
        ("a range that is none", "four-5"),
        ("a range longer than its bytes", "0-99"),
    ] {
        session.ask(&format!("one for {name}"), "POST", start);
        session
            .ask(name, "PATCH", "{upload}")
            .with("content-range", range)
            .bytes(b"89");
    }
    session.ask("one to be ended wrongly", "POST", start);
    session.ask("end without a digest", "PUT", "{upload}");
    session.ask("end with a digest that is none", "PUT", "{upload}?digest=sha256:abc");
    session.ask("one to have another digest", "POST", start);
    session
        .ask("end with another digest", "PUT", format!("{{upload}}?digest={layer}"))
        .bytes(b"other bytes");
    session.ask("one to be cancelled", "POST", start);
    session.ask("cancel", "DELETE", "{upload}");
    session.ask("status after cancelling", "GET", "{upload}");
    session.ask("cancel again", "DELETE", "{upload}");
    session.ask("one for the configuration", "POST", start);
    session
        .ask(
            "end with all bytes",
            "PUT",
            format!("{{upload}}?digest={}", digest(CONFIG_BYTES)),
        )
        .bytes(CONFIG_BYTES);
    session
        .ask("in one request", "POST", format!("{start}?digest={}", digest(b"one")))
        .bytes(b"one");
    session.ask("status of a stranger", "GET", UNKNOWN_UPLOAD);
    session
        .ask("a chunk for a stranger", "PATCH", UNKNOWN_UPLOAD)
        .bytes(b"1");
    session.ask(
        "the end of a stranger",
        "PUT",
        format!("{UNKNOWN_UPLOAD}?digest={layer}"),
    );
    let mount = |what: &str, from: &str| format!("/v2/rec/b/blobs/uploads/?mount={what}{from}");
    session.ask("mount", "POST", mount(&layer, "&from=rec/a"));
    session.ask(
        "mount what is not there",
        "POST",
        mount(&digest(b"not there"), "&from=rec/a"),
    );
    session.ask("mount from where nothing is", "POST", mount(&layer, "&from=rec/none"));
    session.ask(
        "mount by a digest that is none",
        "POST",
        mount("sha256:abc", "&from=rec/a"),
    );
    session.ask(
        "mount, with no source named",
        "POST",
        mount(&layer, "").replace("rec/b", "rec/c"),
    );
    session.ask("start in a name that is none", "POST", "/v2/Rec/blobs/uploads/");
}

fn blobs(session: &mut Session) {
    let layer = format!("/v2/rec/a/blobs/{}", digest(LAYER_BYTES));
    session.area = "blobs";
    session.ask("head", "HEAD", &*layer);
    session.ask("get", "GET", &*layer);
    session
        .ask("the first four bytes", "GET", &*layer)
        .with("range", "bytes=0-3");
    session.ask("from a byte on", "GET", &*layer).with("range", "bytes=5-");
    session
        .ask("the last four bytes", "GET", &*layer)
        .with("range", "bytes=-4");
    session
        .ask("beyond the end", "GET", &*layer)
        .with("range", "bytes=100-200");
    session
        .ask("across the end", "GET", &*layer)
        .with("range", "bytes=5-200");
    session
        .ask("a range that is none", "GET", &*layer)
        .with("range", "bytes=x-y");
    session
        .ask("known already", "GET", &*layer)
        .with("if-none-match", format!("\"{}\"", digest(LAYER_BYTES)));
    session.ask("mounted", "HEAD", layer.replace("rec/a", "rec/b"));
    session.ask(
        "one that is not there",
        "GET",
        format!("/v2/rec/a/blobs/{}", digest(b"not there")),
    );
    session.ask(
        "the head of one that is not there",
        "HEAD",
        format!("/v2/rec/a/blobs/{}", digest(b"not there")),
    );
    session.ask("one of another repository", "GET", layer.replace("rec/a", "rec/none"));
    session.ask("a digest that is none", "GET", "/v2/rec/a/blobs/sha256:abc");
    session.ask(
        "another algorithm",
        "GET",
        "/v2/rec/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e",
    );
    session.ask("PUT", "PUT", &*layer);
}

fn manifests(session: &mut Session) {
    let own = image(IMAGE, CONFIG_BYTES, LAYER_BYTES, "");
    let at = |reference: &str| format!("/v2/rec/a/manifests/{reference}");
    session.area = "manifests";
    session.ask("put by tag", "PUT", at("v1")).body(IMAGE, own.clone());
    session
        .ask("put by digest", "PUT", at(&digest(own.as_bytes())))
        .body(IMAGE, own.clone());
    session
        .ask("put by another digest", "PUT", at(&digest(b"not there")))
        .body(IMAGE, own.clone());
    session
        .ask("put with a layer that is not there", "PUT", at("bad"))
        .body(IMAGE, image(IMAGE, CONFIG_BYTES, b"not there", ""));
    session.ask("put what is no JSON", "PUT", at("bad")).body(IMAGE, "{");
    session.ask("put nothing", "PUT", at("bad")).body(IMAGE, "");
    session
        .ask("put what says to be another type", "PUT", at("bad"))
        .body(DOCKER_IMAGE, own.clone());
    session
        .ask("put as a type of nobody's", "PUT", at("v1"))
        .body("application/json", own.clone());
    session.ask("put without a type", "PUT", at("v1")).body = own.clone().into_bytes();
    session
        .ask("put under a tag that is none", "PUT", at("!"))
        .body(IMAGE, own.clone());
    session
        .ask("put five megabytes", "PUT", at("bad"))
        .body(IMAGE, format!("{own}{}", " ".repeat(5 << 20)));
    let docker = image(DOCKER_IMAGE, CONFIG_BYTES, LAYER_BYTES, "")
        .replace(CONFIG, "application/vnd.docker.container.image.v1+json")
        .replace(LAYER, "application/vnd.docker.image.rootfs.diff.tar.gzip");
    session
        .ask("put as Docker does", "PUT", at("docker"))
        .body(DOCKER_IMAGE, docker.clone());
    session
        .ask("put an index", "PUT", at("index"))
        .body(INDEX, index(INDEX, IMAGE, &own));
    session
        .ask("put a list of Docker's", "PUT", at("list"))
        .body(DOCKER_LIST, index(DOCKER_LIST, DOCKER_IMAGE, &docker));
    session
        .ask("put an index of what is not there", "PUT", at("bad"))
        .body(INDEX, index(INDEX, IMAGE, "not there"));
    let subject = format!(",\"subject\":{}", descriptor(IMAGE, own.as_bytes()));
    session
        .ask("put with a subject", "PUT", at("signed"))
        .body(IMAGE, image(IMAGE, CONFIG_BYTES, LAYER_BYTES, &subject));
    session.ask("head", "HEAD", at("v1")).with("accept", IMAGE);
    session.ask("get", "GET", at("v1")).with("accept", IMAGE);
    session
        .ask("get by digest", "GET", at(&digest(own.as_bytes())))
        .with("accept", IMAGE);
    session.ask("get, naming no type", "GET", at("v1"));
    session
        .ask("get, taking another type", "GET", at("v1"))
        .with("accept", DOCKER_IMAGE);
    session
        .ask("get a Docker image, taking OCI's", "GET", at("docker"))
        .with("accept", IMAGE);
    session
        .ask("get an index, taking images alone", "GET", at("index"))
        .with("accept", IMAGE);
    session
        .ask("get a list, taking images alone", "GET", at("list"))
        .with("accept", DOCKER_IMAGE);
    session
        .ask("known already", "GET", at("v1"))
        .with("if-none-match", format!("\"{}\"", digest(own.as_bytes())))
        .with("accept", IMAGE);
    session.ask("a tag that is not there", "GET", at("none"));
    session.ask("the head of a tag that is not there", "HEAD", at("none"));
    session.ask("a digest that is not there", "GET", at(&digest(b"not there")));
    session.ask("a digest that is none", "GET", at("sha256:abc"));
    session.ask("in a repository that is not there", "GET", "/v2/rec/none/manifests/v1");
    session.ask("POST", "POST", at("v1")).body(IMAGE, own.clone());
    session.ask("PATCH", "PATCH", at("v1")).body(IMAGE, own);
}

fn lists(session: &mut Session) {
    let own = digest(image(IMAGE, CONFIG_BYTES, LAYER_BYTES, "").as_bytes());
    session.area = "tags";
    let list = "/v2/rec/a/tags/list";
    session.ask("all", "GET", list);
    session.ask("two", "GET", format!("{list}?n=2"));
    session.ask("the next two", "GET", format!("{list}?n=2&last=index"));
    session.ask("none", "GET", format!("{list}?n=0"));
    session.ask("fewer than none", "GET", format!("{list}?n=-1"));
    session.ask("a number that is none", "GET", format!("{list}?n=two"));
    session.ask("after one", "GET", format!("{list}?last=list"));
    session.ask("after the last", "GET", format!("{list}?last=zzz"));
    session.ask("head", "HEAD", list);
    session.ask("DELETE", "DELETE", list);
    session.area = "catalog";
    session.ask("all", "GET", "/v2/_catalog");
    session.ask("one", "GET", "/v2/_catalog?n=1");
    session.ask("the next", "GET", "/v2/_catalog?n=1&last=rec/a");
    session.ask("none", "GET", "/v2/_catalog?n=0");
    session.ask("fewer than none", "GET", "/v2/_catalog?n=-1");
    session.ask("more than any", "GET", "/v2/_catalog?n=100000");
    session.ask("a number that is none", "GET", "/v2/_catalog?n=two");
    session.area = "referrers";
    session.ask("of an image", "GET", format!("/v2/rec/a/referrers/{own}"));
    session.ask(
        "of one type",
        "GET",
        format!("/v2/rec/a/referrers/{own}?artifactType={CONFIG}"),
    );
    session.ask(
        "of what is not there",
        "GET",
        format!("/v2/rec/a/referrers/{}", digest(b"not there")),
    );
    session.ask("of a digest that is none", "GET", "/v2/rec/a/referrers/sha256:abc");
}

fn removal(session: &mut Session) {
    let own = digest(image(IMAGE, CONFIG_BYTES, LAYER_BYTES, "").as_bytes());
    let layer = format!("/v2/rec/a/blobs/{}", digest(LAYER_BYTES));
    session.area = "removal";
    session.ask("a tag", "DELETE", "/v2/rec/a/manifests/signed");
    session.ask("a tag that is not there", "DELETE", "/v2/rec/a/manifests/none");
    session.ask("a manifest", "DELETE", format!("/v2/rec/a/manifests/{own}"));
    session.ask("a manifest again", "DELETE", format!("/v2/rec/a/manifests/{own}"));
    session.ask("its tag", "GET", "/v2/rec/a/manifests/v1");
    session.ask("tags after it", "GET", "/v2/rec/a/tags/list");
    session.ask(
        "in a repository that is not there",
        "DELETE",
        format!("/v2/rec/none/manifests/{own}"),
    );
    session.ask("a blob", "DELETE", &*layer);
    session.ask("a blob again", "DELETE", &*layer);
    session.ask("the blob after it", "HEAD", &*layer);
    session.ask("the blob elsewhere", "HEAD", layer.replace("rec/a", "rec/b"));
    session.ask(
        "a blob by a digest that is none",
        "DELETE",
        "/v2/rec/a/blobs/sha256:abc",
    );
}
