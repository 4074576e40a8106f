//! The user document's walkthroughs, step by step.

use crate::support::image;
use crate::support::namespace::{ADDRESS, Namespace};

const HTTP: &str = "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  self_signed: false\n  auth_enabled: true\n  listen_address: 0.0.0.0\n";

/// Makes a root at `root/` in the namespace.
fn root(namespace: &Namespace, settings: &str) {
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), settings).expect("written");
}

const TOKEN: &str = "export KHULNASOFT_TOKEN=$(kdk token create --user root --json | jq -r .token)";

/// The README's first section: two commands, and an image is in the registry.
#[test]
fn from_an_empty_directory_to_a_push() {
    let Some(namespace) = Namespace::new("127.0.0.1") else {
        return;
    };
    namespace.start_docker("{}");
    image::context(&namespace.join("project"), 1);
    namespace
        .sh("project", "docker build -q -t 127.0.0.1:5000/my-image .")
        .ok();
    let up = namespace.sh("new", "kdk up --yes --login");
    for line in [
        "docker is logged in to 127.0.0.1:5000 as root until",
        "  docker, crane, oras, regctl, helm, cosign and skopeo read this login.",
        "  Log in  done, with docker",
        "  Push    docker push 127.0.0.1:5000/my-image",
        "  Look    http://127.0.0.1:3000",
    ] {
        assert!(up.stderr.contains(line), "{line}: {}", up.stderr);
    }
    up.ok();
    namespace.sh("new", "docker push 127.0.0.1:5000/my-image").ok();
    // docker's login serves skopeo.
    let digest = "skopeo inspect --tls-verify=false --format '{{.Digest}}' docker://127.0.0.1:5000/my-image";
    let pushed = namespace.sh("new", digest).ok();
    assert!(pushed.starts_with("sha256:"), "{pushed}");
    namespace.sh("new", "kdk down").ok();

    // podman the same way, in a root of its own beside it.
    let up = namespace.sh("other", "kdk up --yes --login=podman");
    assert!(up.stderr.contains("5001"), "{}", up.stderr);
    assert!(
        up.stderr.contains("  Push    podman push 127.0.0.1:5001/my-image"),
        "{}",
        up.stderr
    );
    up.ok();
    let top = namespace.path().display();
    let podman = format!(
        "podman --root {top}/cr --runroot {top}/cx --storage-driver vfs --tmpdir {top}/pt --cgroup-manager cgroupfs --events-backend none"
    );
    let buildah = format!("buildah --root {top}/cr --runroot {top}/cx --storage-driver vfs");
    let image = "127.0.0.1:5001/my-image";
    namespace
        .sh(
            "project",
            &format!("{buildah} bud -q --isolation chroot -t {image} . && {podman} push -q {image}"),
        )
        .ok();
    namespace
        .sh("project", &format!("{podman} rmi -af && {podman} pull -q {image}"))
        .ok();
    namespace.sh("other", "kdk down").ok();
}

/// "Set up Container Registry to display in UI only."
#[test]
fn interface_only() {
    let Some(namespace) = Namespace::new("127.0.0.1") else {
        return;
    };
    root(&namespace, "registry:\n  enabled: true\n");
    namespace.sh("root", "kdk reconfigure").ok();
    namespace.sh("root", "kdk restart").ok();
    let page = namespace.sh("root", "curl -s http://127.0.0.1:3000/").ok();
    assert!(page.contains("There are no images yet"), "{page}");
    let page = namespace
        .sh("root", "curl -s http://127.0.0.1:3000/my/project/container_registry")
        .ok();
    assert!(
        page.contains("There are no container images stored for this project."),
        "{page}"
    );
    namespace.sh("root", "kdk stop").ok();
}

/// "Set up pushing and pulling of images over HTTP", then "Observe",
/// "Interacting": log in, build, push, and the curl examples.
#[test]
fn http_with_docker() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    root(&namespace, HTTP);
    namespace.start_docker(r#"{"insecure-registries": ["registry.test:5000", "kdk.test:5000"]}"#);
    namespace.sh("root", "kdk reconfigure").ok();
    let started = namespace.sh("root", "kdk restart");
    assert!(
        started
            .stderr
            .contains("A container registry is available at registry.test:5000."),
        "{}",
        started.stderr
    );
    started.ok();
    let log = namespace.sh("root", "kdk tail registry --no-follow --lines 100").ok();
    let places: Vec<_> = [
        "redis not configured",
        "Starting upload purge in",
        "using inmemory blob descriptor cache",
        "listening on [::]:5000",
    ]
    .iter()
    .map(|line| log.find(line))
    .collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{log}");
    assert_eq!(
        namespace
            .sh("root", "curl -s -o /dev/null -w '%{http_code}' registry.test:5000/v2/")
            .ok(),
        "401"
    );

    image::context(&namespace.join("project"), 3);
    let refused = namespace
        .sh(
            "project",
            "docker build -q -t kdk.test:5000/custom-docker-image . && docker push kdk.test:5000/custom-docker-image",
        )
        .refused();
    assert!(
        ["no basic auth credentials", "denied", "unauthorized"]
            .iter()
            .any(|word| refused.contains(word)),
        "{refused}"
    );
    let wrong = namespace
        .sh("project", "docker login kdk.test:5000 -u khulnasoft-token -p wrong")
        .refused();
    assert!(wrong.contains("401") || wrong.contains("denied"), "{wrong}");
    let login = namespace
        .sh(
            "root",
            &format!("{TOKEN}; docker login kdk.test:5000 -u khulnasoft-token -p \"$KHULNASOFT_TOKEN\""),
        )
        .ok();
    assert!(login.contains("Login Succeeded"), "{login}");
    namespace
        .sh("project", "docker build -t kdk.test:5000/custom-docker-image .")
        .ok();
    let pushed = namespace
        .sh("project", "docker push kdk.test:5000/custom-docker-image")
        .ok();
    let digest = pushed
        .split_whitespace()
        .find(|word| word.starts_with("sha256:"))
        .expect("a digest")
        .to_owned();
    let id = namespace
        .sh(
            "project",
            "docker image inspect -f '{{.Id}}' kdk.test:5000/custom-docker-image",
        )
        .ok();
    namespace
        .sh("project", "docker rmi -f $(docker images -q) > /dev/null")
        .ok();
    let pulled = namespace
        .sh("project", "docker pull kdk.test:5000/custom-docker-image")
        .ok();
    assert!(pulled.contains(&digest), "{pulled}");
    assert_eq!(
        namespace
            .sh(
                "project",
                "docker image inspect -f '{{.Id}}' kdk.test:5000/custom-docker-image"
            )
            .ok(),
        id
    );
    // The layers hold the very files that went in.
    namespace.sh("project", "docker create --name box kdk.test:5000/custom-docker-image > /dev/null; for f in file0 file1 file2; do docker cp box:/$f - | tar xO | cmp - $f; done").ok();

    // The curl examples.
    let ask = |scope: &str, path: &str, more: &str| {
        let script = format!(
            "{TOKEN}; SCOPE='{scope}'; export KHULNASOFT_REGISTRY_JWT=`curl -s \"http://khulnasoft-token:$KHULNASOFT_TOKEN@kdk.test:3000/jwt/auth?service=container_registry&scope=$SCOPE\" | jq -r .token`; curl -s -H \"Authorization: Bearer $KHULNASOFT_REGISTRY_JWT\" {more} kdk.test:5000{path}"
        );
        namespace.sh("root", &script).ok()
    };
    assert_eq!(
        ask("registry:catalog:*", "/v2/_catalog", "").trim(),
        r#"{"repositories":["custom-docker-image"]}"#
    );
    assert_eq!(
        ask(
            "repository:custom-docker-image:*",
            "/v2/custom-docker-image/tags/list",
            ""
        )
        .trim(),
        r#"{"name":"custom-docker-image","tags":["latest"]}"#
    );
    let plain = ask(
        "repository:custom-docker-image:*",
        "/v2/custom-docker-image/manifests/latest",
        "",
    );
    let typed = ask(
        "repository:custom-docker-image:*",
        "/v2/custom-docker-image/manifests/latest",
        "-H 'Accept: application/vnd.docker.distribution.manifest.v2+json'",
    );
    assert_eq!(plain, typed);
    let manifest: serde_json::Value = serde_json::from_str(&typed).expect("JSON");
    assert_eq!(manifest["layers"].as_array().expect("a list").len(), 3);
    let layer = manifest["layers"][0]["digest"].as_str().expect("text");
    ask(
        "repository:custom-docker-image:*",
        &format!("/v2/custom-docker-image/blobs/{layer}"),
        "-o layer",
    );
    let content = std::fs::read(namespace.join("root/layer")).expect("read");
    assert_eq!(crate::support::registry::digest(&content), layer);

    // Somebody else's namespace is refused.
    namespace.sh("root", "kdk user add anna; docker logout kdk.test:5000; kdk token create --user anna --json | jq -r .token | docker login kdk.test:5000 -u anna --password-stdin").ok();
    let foreign = namespace
        .sh("project", "docker push kdk.test:5000/custom-docker-image")
        .refused();
    assert!(
        foreign.contains("denied") || foreign.contains("unauthorized"),
        "{foreign}"
    );
    namespace
        .sh(
            "project",
            "docker tag kdk.test:5000/custom-docker-image kdk.test:5000/anna/app && docker push kdk.test:5000/anna/app",
        )
        .ok();
    // And `kdk login` does it all.
    namespace
        .sh("root", "kdk login --client docker --address kdk.test:5000")
        .ok();
    namespace
        .sh("project", "docker push kdk.test:5000/custom-docker-image")
        .ok();
    namespace.sh("root", "kdk stop").ok();
}

/// Without authentication nobody needs to log in; multi-architecture lists go through too.
#[test]
fn http_without_authentication() {
    let Some(namespace) = Namespace::new("127.0.0.1") else {
        return;
    };
    root(&namespace, &HTTP.replace("auth_enabled: true", "auth_enabled: false"));
    namespace.start_docker("{}");
    namespace.sh("root", "kdk reconfigure && kdk start").ok();
    image::context(&namespace.join("project"), 2);
    // Docker holds a name on loopback for insecure by itself.
    namespace.sh("project", "docker build -q -t registry.test:5000/path/to/project:platform-specific . && docker push registry.test:5000/path/to/project:platform-specific").ok();
    let copy = "skopeo copy --src-tls-verify=false --dest-tls-verify=false docker://registry.test:5000/path/to/project:platform-specific";
    namespace.sh("project", &format!("{copy} oci:layout:latest && skopeo copy --all --dest-tls-verify=false oci:layout:latest docker://registry.test:5000/path/to/project:again")).ok();
    let digest = |tag: &str| {
        namespace.sh("project", &format!("skopeo inspect --tls-verify=false --format '{{{{.Digest}}}} {{{{.Layers}}}}' docker://registry.test:5000/path/to/project:{tag}")).ok()
    };
    let layers = |text: &str| text.split_once(' ').map(|(_, layers)| layers.trim().to_owned());
    assert_eq!(layers(&digest("platform-specific")), layers(&digest("again")));
    podman_and_buildah(&namespace, "--tls-verify=false", None);
    namespace
        .sh(
            "project",
            "skopeo delete --tls-verify=false docker://registry.test:5000/path/to/project:again",
        )
        .ok();
    let gone = namespace
        .sh(
            "project",
            "skopeo inspect --tls-verify=false docker://registry.test:5000/path/to/project:again",
        )
        .refused();
    assert!(gone.contains("manifest unknown"), "{gone}");
    namespace.sh("root", "kdk stop").ok();
}

/// Builds with buildah, pushes with podman, pulls again, compares.
pub fn podman_and_buildah(namespace: &Namespace, tls: &str, token: Option<&str>) {
    let top = namespace.path().display();
    let podman = format!(
        "podman --root {top}/cr --runroot {top}/cx --storage-driver vfs --tmpdir {top}/pt --cgroup-manager cgroupfs --events-backend none"
    );
    let buildah = format!("buildah --root {top}/cr --runroot {top}/cx --storage-driver vfs");
    let auth = format!("export REGISTRY_AUTH_FILE={top}/auth.json");
    if let Some(token) = token {
        let login = format!(
            "{auth}; echo '{token}' | {podman} login {tls} -u khulnasoft-token --password-stdin registry.test:5000"
        );
        assert!(namespace.sh("project", &login).ok().contains("Login Succeeded!"));
        let wrong = namespace
            .sh(
                "project",
                &format!("REGISTRY_AUTH_FILE={top}/wrong.json {podman} login {tls} -u x -p wrong registry.test:5000"),
            )
            .refused();
        assert!(wrong.contains("invalid username/password"), "{wrong}");
    }
    let image = "registry.test:5000/group/app:podman";
    namespace.sh("project", &format!("{auth}; {buildah} bud --layers --isolation chroot -t {image} . && {podman} push {tls} --digestfile d1 {image}")).ok();
    namespace.sh("project", &format!("{auth}; {podman} rmi -af && {podman} pull {tls} {image} && {buildah} push {tls} --digestfile d2 {image} docker://registry.test:5000/group/app:buildah")).ok();
    let read = |name: &str| std::fs::read_to_string(namespace.join("project").join(name)).expect("read");
    assert!(read("d1").starts_with("sha256:"));
    let raw = format!(
        "{auth}; skopeo inspect {tls} --raw docker://registry.test:5000/group/app:podman | sha256sum | cut -d' ' -f1"
    );
    assert_eq!(
        format!("sha256:{}", namespace.sh("project", &raw).ok().trim()),
        read("d1").trim()
    );
}

/// "Using a Development Version of the Container Registry."
#[test]
fn development_version() {
    let Some(namespace) = Namespace::new("127.0.0.1") else {
        return;
    };
    root(
        &namespace,
        "registry:\n  enabled: true\nrepositories:\n  registry: ../container-registry.git\n",
    );
    crate::support::source::repository(&namespace.join("container-registry.git"), "kdk");
    namespace
        .sh("root", "kdk config set registry.version registry_dev")
        .ok();
    namespace.sh("root", "kdk reconfigure").ok();
    namespace.sh("root", "kdk restart").ok();
    let log = namespace.sh("root", "kdk tail registry --no-follow").ok();
    assert!(log.contains(r#""version":"registry-dev""#), "{log}");
    namespace.sh("root", "kdk stop").ok();
}
