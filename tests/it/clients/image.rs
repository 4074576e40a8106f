//! A registry image, run by each engine (`registry.image`).

use serde_json::Value;

use crate::support::namespace::{ADDRESS, Namespace};
use crate::support::{image as images, peers, wait};

/// What each engine's containers may use: no more than a test's own processes.
const CONTAINERS_CONF: &str = "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=1000:1000\"]\n";

fn runs_an_image(engine: &str) {
    let namespace = Namespace::new(ADDRESS).expect("an image needs root");
    let sh = |script: &str| namespace.sh("root", script);
    std::fs::write(namespace.join("etc/containers/containers.conf"), CONTAINERS_CONF).expect("written");
    if engine == "docker" {
        namespace.start_docker("{}");
    }
    let entry = r#"--change 'ENTRYPOINT ["/registry-v3"]'"#;
    let import = format!(
        "tar -C {} -c registry-v3 | {engine} import {entry} - registry:dev",
        peers().display()
    );
    sh(&import).ok();
    let settings = format!("registry:\n  enabled: true\n  image: registry:dev\n  engine: {engine}\n");
    std::fs::write(namespace.join("root/kdk.yml"), settings).expect("written");

    sh("kdk up").ok();
    let names = || {
        sh(&format!("{engine} ps -a --format '{{{{.Names}}}}'"))
            .ok()
            .trim()
            .to_owned()
    };
    let container = names();
    assert!(container.starts_with("kdk-registry-"), "{container}");
    let status: Value = serde_json::from_str(&sh("kdk status --json registry").ok()).expect("JSON");
    assert_eq!(
        (&status[0]["kind"], &status[0]["version"]),
        (&"image".into(), &"registry:dev".into())
    );
    assert_eq!(status[0]["health"], "ok");
    let inspect = |format: &str| sh(&format!("{engine} container inspect --format '{format}' {container}")).ok();
    assert_eq!(inspect("{{.Config.User}}").trim(), "0:0");

    // It takes what is pushed, writes it where the built-in one would, and its log is here.
    images::layout(&namespace.join("layout"), "an image's image");
    let token = sh("kdk token create").ok().trim().to_owned();
    let push = format!(
        "skopeo copy -q --dest-tls-verify=false --dest-creds x:{token} oci:../layout:image docker://127.0.0.1:5000/a/b:1"
    );
    sh(&push).ok();
    assert!(
        namespace
            .join("root/registry/storage/docker/registry/v2/repositories/a/b")
            .is_dir()
    );
    wait("its log is seen", || {
        sh("kdk tail --no-follow --raw registry")
            .ok()
            .contains("http.request")
            .then_some(())
    });

    // Whatever is killed, there is one container, and it serves.
    sh("kdk kill --yes").ok();
    assert_eq!(names(), "", "a killed root leaves its container");
    sh("kdk start && curl -sf 127.0.0.1:5000/v2/ -o /dev/null || test $? = 22").ok();
    assert_eq!(names(), container);
    sh("pkill -9 -f '[r]un --rm.*kdk-registry'").ok();
    wait("it comes back", || {
        let status: Value = serde_json::from_str(&sh("kdk status --json registry").stdout).ok()?;
        (status[0]["health"] == "ok" && status[0]["restarts"] == 1).then_some(())
    });

    // Another image, another user; and what is not there changes nothing.
    let before = std::fs::read_to_string(namespace.join("root/registry/config.yml")).expect("read");
    sh("kdk config set registry.image=127.0.0.1:1/none:1 registry.port=5001").ok();
    let refused = sh("kdk reconfigure").fails(1);
    assert!(
        refused.contains("has no image 127.0.0.1:1/none:1") && refused.contains("nothing was written"),
        "{refused}"
    );
    assert_eq!(
        std::fs::read_to_string(namespace.join("root/registry/config.yml")).expect("read"),
        before
    );
    sh("kdk config set registry.image=registry:dev registry.port=5000 && kdk reconfigure").ok();
    // As another user, who is given the files.
    sh("kdk config set registry.uid=12345 registry.gid=54321 && kdk reconfigure").ok();
    assert_eq!(inspect("{{.Config.User}}").trim(), "12345:54321");
    images::layout(&namespace.join("layout"), "another user's image");
    sh(&push).ok();
    let others = sh("find registry ! -uid 12345").ok();
    assert_eq!(others.trim(), "registry", "{others}");
    sh("kdk config unset registry.uid registry.gid && kdk reconfigure && kdk restart").ok();

    // An image that was built anew is run by the next reconfigure.
    assert!(sh("kdk reconfigure").stderr.contains("Nothing to change"));
    sh(&import.replace("--change", "--change 'LABEL again=yes' --change")).ok();
    let again = sh("kdk reconfigure").ok();
    assert_eq!(inspect("{{.Config.Labels.again}}").trim(), "yes", "{again}");
    assert_eq!(sh("kdk restart").code, 0);

    sh("kdk stop").ok();
    assert_eq!(names(), "", "a stopped root leaves its container");
    // What was pushed is every registry's.
    sh("kdk config unset registry.image && kdk up").ok();
    let check = format!("skopeo inspect --tls-verify=false --creds x:{token} docker://127.0.0.1:5000/a/b:1");
    sh(&check).ok();
    sh("kdk stop").ok();
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn an_image_is_run_by_docker() {
    runs_an_image("docker");
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn an_image_is_run_by_podman() {
    runs_an_image("podman");
}
