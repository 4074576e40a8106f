//! "Set up pushing and pulling of images over HTTPS": trust, given and taken.

use crate::support::image;
use crate::support::namespace::{ADDRESS, Namespace};

const HTTPS: &str = "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  self_signed: true\n  auth_enabled: true\n  listen_address: 0.0.0.0\n";

#[test]
fn https_with_a_trusted_certificate() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), HTTPS).expect("written");
    namespace.start_docker("{}");
    namespace.sh("root", "kdk reconfigure && kdk start").ok();
    let token = namespace.sh("root", "kdk token create").ok();
    let token = token.trim();

    // Without trust everybody refuses.
    let untrusted = namespace
        .sh(
            "root",
            &format!("echo {token} | docker login kdk.test:5000 -u khulnasoft-token --password-stdin"),
        )
        .refused();
    assert!(
        untrusted.contains("x509: certificate signed by unknown authority"),
        "{untrusted}"
    );
    let untrusted = namespace.sh("root", "kdk login --client docker").refused();
    assert!(untrusted.contains("kdk trust-docker-registry"), "{untrusted}");
    let untrusted = namespace
        .sh("root", "skopeo inspect docker://registry.test:5000/a/b")
        .refused();
    assert!(untrusted.contains("x509"), "{untrusted}");

    // The document's line.
    let before = std::fs::read_to_string(namespace.join("root/registry_host.crt")).expect("read");
    let trusted = namespace.sh("root", "rm -f registry_host.{key,crt} && make trust-docker-registry");
    // The Engine needs no restart, and looks in one place only.
    assert!(!trusted.stderr.contains("restart Docker"), "{}", trusted.stderr);
    trusted.ok();
    assert!(!namespace.join("home/.docker/certs.d").exists());
    let certificate = std::fs::read_to_string(namespace.join("root/registry_host.crt")).expect("read");
    assert_ne!(certificate, before);
    for place in ["home/.config/containers/certs.d", "etc/docker/certs.d"] {
        for name in ["registry.test:5000", "kdk.test:5000"] {
            let placed = namespace.join(place).join(name).join("ca.crt");
            assert_eq!(
                std::fs::read_to_string(&placed).unwrap_or_else(|error| panic!("{}: {error}", placed.display())),
                certificate
            );
        }
    }

    let login = namespace.sh("root", &format!("export KHULNASOFT_TOKEN={token}; docker login kdk.test:5000 -u khulnasoft-token -p \"$KHULNASOFT_TOKEN\"")).ok();
    assert!(login.contains("Login Succeeded"), "{login}");
    image::context(&namespace.join("project"), 3);
    namespace
        .sh(
            "project",
            "docker build -t kdk.test:5000/custom-docker-image . && docker push kdk.test:5000/custom-docker-image",
        )
        .ok();
    namespace
        .sh(
            "project",
            "docker rmi -f $(docker images -q) > /dev/null; docker pull kdk.test:5000/custom-docker-image",
        )
        .ok();
    super::walkthroughs::podman_and_buildah(&namespace, "", Some(token));
    let curl = "curl -s --cacert registry_host.crt -H \"Authorization: Bearer $(kdk registry token --scope 'registry:catalog:*')\" https://kdk.test:5000/v2/_catalog";
    assert_eq!(
        namespace.sh("root", curl).ok().trim(),
        r#"{"repositories":["custom-docker-image","group/app"]}"#
    );
    let plain = namespace.sh("root", "curl -s http://kdk.test:5000/v2/").ok();
    assert!(plain.contains("https://kdk.test:5000/v2/"), "{plain}");

    // A second time nothing changes; then it is taken away again.
    let again = namespace.sh("root", "kdk trust-docker-registry");
    assert!(
        again.stderr.contains("unchanged") && !again.stderr.contains("overwritten"),
        "{}",
        again.stderr
    );
    again.ok();
    // The jobs of a runner mount what Docker Desktop would have to be restarted for.
    namespace
        .sh(
            "root",
            "kdk config set runner.enabled true && kdk trust-docker-registry",
        )
        .ok();
    let jobs = namespace.join("home/.docker/certs.d/registry.test:5000/ca.crt");
    assert!(jobs.exists());
    let removed = namespace.sh(
        "root",
        "kdk config set runner.enabled false && kdk trust-docker-registry --remove",
    );
    assert!(
        removed.stderr.contains("(CI/CD jobs)") && !removed.stderr.contains("restart Docker"),
        "{}",
        removed.stderr
    );
    removed.ok();
    assert!(!jobs.exists());
    assert!(!namespace.docker_certificate("registry.test:5000").exists());
    let untrusted = namespace
        .sh("project", "docker pull kdk.test:5000/custom-docker-image")
        .refused();
    assert!(
        untrusted.contains("x509: certificate signed by unknown authority"),
        "{untrusted}"
    );
    // The names of before go with the others.
    namespace.sh("root", "kdk trust-docker-registry").ok();
    namespace
        .sh(
            "root",
            "kdk config set registry.host kdk.test && kdk reconfigure && kdk trust-docker-registry",
        )
        .ok();
    assert!(!namespace.docker_certificate("registry.test:5000").exists());
    namespace
        .sh("root", "kdk config set registry.host registry.test && kdk config set registry.self_signed false && kdk reconfigure")
        .ok();
    let plain = namespace.sh("root", "kdk trust-docker-registry");
    assert!(
        plain.stderr.contains("there is no certificate to trust") && plain.stderr.contains("insecure-registries"),
        "{}",
        plain.stderr
    );
    plain.ok();
    assert!(!namespace.docker_certificate("kdk.test:5000").exists());
    namespace
        .sh("root", "kdk config set registry.self_signed true && kdk reconfigure")
        .ok();
    // A certificate of before goes as well when another was made since.
    namespace
        .sh(
            "root",
            "kdk trust-docker-registry && rm -f registry_host.{key,crt} && kdk reconfigure",
        )
        .ok();
    assert!(namespace.docker_certificate("registry.test:5000").exists());
    namespace.sh("root", "kdk trust-docker-registry --remove").ok();
    assert!(!namespace.docker_certificate("registry.test:5000").exists());
    // Docker Desktop reads certificates when it starts.
    let desktop = namespace.sh(
        "root",
        "unset DOCKER_HOST; mkdir -p $HOME/.docker/desktop && kdk trust-docker-registry",
    );
    assert!(
        desktop.stderr.contains("Don't forget to restart Docker Desktop!"),
        "{}",
        desktop.stderr
    );
    desktop.ok();
    assert!(jobs.exists());
    namespace
        .sh(
            "root",
            "unset DOCKER_HOST; kdk trust-docker-registry --remove && rmdir $HOME/.docker/desktop",
        )
        .ok();
    // What is there already is overwritten, and said so.
    let foreign = namespace.docker_certificate("registry.test:5000");
    std::fs::create_dir_all(foreign.parent().expect("a parent")).expect("made");
    std::fs::write(&foreign, "another").expect("written");
    let over = namespace.sh("root", "kdk trust-docker-registry").stderr;
    assert!(
        over.contains(&"overwritten  /etc/docker/certs.d/registry.test:5000/ca.crt".to_string()),
        "{over}"
    );
    namespace.sh("root", "kdk stop").ok();
}
