//! `kdk setup NAME --apply` with real clients: each takes the registry without
//! a flag of its own afterwards, and refuses it again after `--remove`.

use crate::support::image;
use crate::support::namespace::{ADDRESS, Namespace};
use crate::support::wait;

const HTTP: &str = "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  auth_enabled: true\n  listen_address: 0.0.0.0\n";
const HTTPS: &str = "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  self_signed: true\n  auth_enabled: true\n  listen_address: 0.0.0.0\n";

/// Makes a root at `root/`, starts it, and makes a token, which shells read from `token`.
fn up(namespace: &Namespace, settings: &str) {
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), settings).expect("written");
    namespace
        .sh("root", "kdk reconfigure && kdk start && kdk token create > ../token")
        .ok();
}

fn read(namespace: &Namespace, path: &str) -> String {
    std::fs::read_to_string(namespace.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn docker_over_http() {
    const BEFORE: &str = "{\n    \"insecure-registries\": [\"old.test\"],\n    \"debug\": false\n}";
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    up(&namespace, HTTP);
    namespace.start_docker(BEFORE);
    image::context(&namespace.join("project"), 1);
    let login = "docker login NAME:5000 -u khulnasoft-token --password-stdin < ../token";
    let refused = namespace
        .sh("project", &login.replace("NAME", "registry.test"))
        .refused();
    assert!(refused.contains("HTTP response to HTTPS client"), "{refused}");

    let printed = namespace.sh("root", "kdk setup docker");
    assert!(printed.stderr.contains("/etc/docker/daemon.json"), "{}", printed.stderr);
    assert_eq!(
        printed.ok(),
        "{\n  \"insecure-registries\": [\n    \"registry.test:5000\",\n    \"kdk.test:5000\"\n  ]\n}\n"
    );
    // Nobody restarts, or tells, a daemon unasked.
    let quiet = namespace.sh("root", "kdk setup docker --apply");
    assert!(
        quiet.stderr.contains("it is taken up after: kill -HUP "),
        "{}",
        quiet.stderr
    );
    quiet.ok();
    let file = read(&namespace, "etc/docker/daemon.json");
    assert!(
        file.contains("    \"debug\": false") && file.contains("\"old.test\""),
        "{file}"
    );
    namespace.sh("root", "kdk setup docker --remove").ok();
    assert_eq!(read(&namespace, "etc/docker/daemon.json"), BEFORE);

    namespace.sh("root", "kdk setup docker --apply --yes").ok();
    let list = namespace.sh("root", "kdk setup").ok();
    let line = list
        .lines()
        .find(|line| line.starts_with("docker "))
        .unwrap_or_default();
    assert!(line.contains("set up") && !line.contains("not set up"), "{list}");
    for name in ["registry.test", "kdk.test"] {
        wait("dockerd has read its file", || {
            (namespace.sh("project", &login.replace("NAME", name)).code == 0).then_some(())
        });
        let push = format!("docker build -q -t {name}:5000/group/app . && docker push -q {name}:5000/group/app");
        namespace.sh("project", &push).ok();
        let pull = format!("docker rmi -f $(docker images -q) >/dev/null && docker pull -q {name}:5000/group/app");
        namespace.sh("project", &pull).ok();
    }
    // What others write meanwhile stays, and ours goes.
    let edited = read(&namespace, "etc/docker/daemon.json").replace("\"debug\": false", "\"debug\": true");
    std::fs::write(namespace.join("etc/docker/daemon.json"), edited).expect("written");
    namespace.sh("root", "kdk setup docker --remove --yes").ok();
    let left: serde_json::Value = serde_json::from_str(&read(&namespace, "etc/docker/daemon.json")).expect("JSON");
    assert_eq!(
        left,
        serde_json::json!({"insecure-registries": ["old.test"], "debug": true})
    );
    let refused = wait("dockerd has read its file", || {
        let said = namespace.sh("project", "docker pull -q registry.test:5000/group/app");
        (said.code != 0).then(|| said.refused())
    });
    assert!(refused.contains("HTTP response to HTTPS client"), "{refused}");
    assert!(
        namespace
            .sh("root", "kdk setup docker --remove")
            .stderr
            .contains("Nothing was set up")
    );

    // A file that is not its daemon's is named with its line, and stays.
    std::fs::write(namespace.join("etc/docker/daemon.json"), "{\n  \"debug\": yes\n}\n").expect("written");
    let refused = namespace.sh("root", "kdk setup docker --apply --yes").fails(1);
    assert!(
        refused.contains("/etc/docker/daemon.json: ") && refused.contains("line 2"),
        "{refused}"
    );
    assert_eq!(read(&namespace, "etc/docker/daemon.json"), "{\n  \"debug\": yes\n}\n");
    namespace.sh("root", "kdk stop").ok();
}

/// podman, skopeo and containerd's ctr, over HTTP and then over HTTPS: a new plan takes the old one's place.
#[test]
fn podman_and_containerd_over_http_and_https() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    up(&namespace, HTTP);
    image::layout(&namespace.join("project/layout"), "applied");
    let top = namespace.path().display().to_string();
    let ctr = format!("ctr -a {top}/c.sock images");
    let containerd = format!(
        "printf 'version = 2\\nroot = \"{top}/c/root\"\\nstate = \"{top}/c/state\"\\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\\n[grpc]\\naddress = \"{top}/c.sock\"\\n' > c.toml; setsid containerd -c c.toml > c.log 2>&1 < /dev/null &"
    );
    namespace.sh("", &containerd).ok();
    wait("containerd answers", || namespace.join("c.sock").exists().then_some(()));
    // skopeo stands for podman and buildah, which read the same files.
    let login = "skopeo login NAME:5000 -u khulnasoft-token --password-stdin < ../token";
    let push = "skopeo copy -q oci:layout:image docker://NAME:5000/group/app:v1";
    let pull = format!(
        "{ctr} pull --snapshotter native --hosts-dir /etc/containerd/certs.d --user x:$(cat ../token) NAME:5000/group/app:v1"
    );
    let again = format!(
        "{ctr} tag --force NAME:5000/group/app:v1 NAME:5000/group/app:v2 && {ctr} push --hosts-dir /etc/containerd/certs.d --user x:$(cat ../token) NAME:5000/group/app:v2"
    );
    let refusals = |login: &str, pull: &str, expected: &str| {
        for line in [login, pull] {
            let refused = namespace
                .sh("project", &line.replace("NAME", "registry.test"))
                .refused();
            assert!(refused.contains(expected), "{line}: {refused}");
        }
    };
    for (is_https, expected) in [(false, "HTTP response to HTTPS client"), (true, "x509")] {
        if is_https {
            std::fs::write(namespace.join("root/kdk.yml"), HTTPS).expect("written");
            namespace.sh("root", "kdk reconfigure && kdk restart").ok();
        }
        if !is_https {
            refusals(login, &pull, expected);
        }
        namespace
            .sh("root", "kdk setup podman --apply && kdk setup ctr --apply")
            .ok();
        for name in ["registry.test", "kdk.test"] {
            for line in [login, push, &pull, &again] {
                namespace.sh("project", &line.replace("NAME", name)).ok();
            }
        }
        let list = namespace.sh("root", "kdk setup --json").ok();
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        for client in list["clients"].as_array().expect("a list") {
            if ["podman", "containerd"].iter().any(|name| client["name"] == *name) {
                assert_eq!(
                    (&client["found"], &client["state"]),
                    (&true.into(), &"set up".into()),
                    "{client}"
                );
            }
        }
        namespace
            .sh("root", "kdk setup podman --remove && kdk setup containerd --remove")
            .ok();
        refusals(login, &pull, expected);
        for left in [
            "etc/containerd/certs.d/registry.test:5000",
            "home/.config/containers/registries.conf.d/kdk.conf",
        ] {
            assert!(!namespace.join(left).exists(), "{left}");
        }
        // Of the plan before, nothing may be left when the next one is put in.
        namespace
            .sh("root", "kdk setup podman --apply && kdk setup nerdctl --apply")
            .ok();
    }
    assert!(
        !namespace
            .join("home/.config/containers/registries.conf.d/kdk.conf")
            .exists()
    );
    namespace.sh("root", "kdk stop").ok();
}

/// Everything that reads the system's store, and everything that asks the resolver.
#[test]
fn the_system_s_store_and_its_hosts_file() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    up(&namespace, HTTPS);
    namespace
        .sh("", "mount -t tmpfs tmpfs /usr/local/share/ca-certificates")
        .ok();
    let curl = "curl -sS -o /dev/null -w '%{http_code}' https://registry.test:5000/v2/";
    let untrusted = namespace.sh("", curl).refused();
    assert!(
        untrusted.contains("self-signed") || untrusted.contains("self signed"),
        "{untrusted}"
    );
    namespace.sh("root", "kdk setup trust-store --apply --yes").ok();
    assert_eq!(namespace.sh("", curl).ok(), "401");
    namespace.sh("root", "kdk setup trust-store --remove --yes").ok();
    namespace.sh("", curl).refused();

    let before = "127.0.0.1 localhost\n# Mine.\n198.51.100.9 other";
    std::fs::write(namespace.join("etc/hosts"), before).expect("written");
    let listen = format!("kdk config set registry.listen_address {ADDRESS}");
    namespace.sh("root", &listen).ok();
    assert_eq!(
        namespace.sh("root", "kdk setup hosts").ok().lines().nth(1),
        Some(format!("{ADDRESS} kdk.test registry.test").as_str())
    );
    namespace.sh("root", "kdk setup hosts --apply").ok();
    for name in ["kdk.test", "registry.test"] {
        let found = namespace.sh("", &format!("getent hosts {name}")).ok();
        assert!(found.starts_with(ADDRESS), "{found}");
    }
    namespace.sh("root", "kdk setup hosts --remove").ok();
    assert_eq!(read(&namespace, "etc/hosts"), before);
    // An address that is nowhere yet is told of, with what LANs do with it.
    namespace
        .sh("root", "kdk config set registry.listen_address 172.16.123.1")
        .ok();
    let alias = namespace.sh("root", "kdk setup hosts");
    assert!(
        alias.stderr.contains("ip addr add 172.16.123.1") && alias.stderr.contains("others there"),
        "{}",
        alias.stderr
    );
    namespace.sh("root", "kdk stop").ok();
}

/// A runner's file keeps what its owner wrote; jobs get what they need.
#[test]
fn a_runner_s_file() {
    const BEFORE: &str = "concurrent = 2\n\n[[runners]]\n  name = \"mine\" # keep\n  executor = \"docker\"\n  [runners.docker]\n    image = \"ruby:3.2\"\n    privileged = true\n    volumes = [\"/src:/src\"]\n";
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), HTTPS).expect("written");
    namespace.sh("root", "kdk reconfigure").ok();
    let early = namespace.sh("root", "kdk setup runner --apply").fails(1);
    assert!(early.contains("no runner is registered"), "{early}");
    let file = namespace.join("home/.khulnasoft-runner/config.toml");
    std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
    std::fs::write(&file, BEFORE).expect("written");
    namespace.sh("root", "kdk setup runner --apply").ok();
    let set: toml_edit::DocumentMut = read(&namespace, "home/.khulnasoft-runner/config.toml")
        .parse()
        .expect("TOML");
    let docker = set["runners"]
        .as_array_of_tables()
        .expect("runners")
        .get(0)
        .expect("one")["docker"]
        .clone();
    let list = |key: &str| -> Vec<String> {
        let list = docker[key].as_array().expect("a list").iter();
        list.map(|value| value.as_str().expect("text").to_owned()).collect()
    };
    let home = namespace.join("home").display().to_string();
    assert_eq!(
        list("volumes"),
        [
            "/src:/src".to_owned(),
            format!("{home}/.docker/certs.d:/etc/docker/certs.d"),
            "/certs/client".into(),
            "/cache".into()
        ]
    );
    assert_eq!(
        list("extra_hosts"),
        [format!("registry.test:{ADDRESS}"), format!("kdk.test:{ADDRESS}")]
    );
    assert_eq!(docker["pull_policy"].as_str(), Some("if-not-present"));
    assert!(set.to_string().contains("name = \"mine\" # keep"), "{set}");
    let mounted = namespace.join("home/.docker/certs.d/registry.test:5000/ca.crt");
    assert!(mounted.exists());
    namespace.sh("root", "kdk setup runner --remove").ok();
    assert_eq!(std::fs::read_to_string(&file).expect("read"), BEFORE);
    assert!(!mounted.exists());
    // Without privileges jobs use this machine's Engine.
    namespace
        .sh(
            "root",
            "kdk config set runner.privileged false && kdk setup runner --apply",
        )
        .ok();
    let set = std::fs::read_to_string(&file).expect("read");
    assert!(
        set.contains("privileged = false") && set.contains("/var/run/docker.sock:/var/run/docker.sock"),
        "{set}"
    );
    namespace.sh("root", "kdk setup runner --remove").ok();
    assert_eq!(std::fs::read_to_string(&file).expect("read"), BEFORE);
}

/// Where rights are missing, the line that is printed does it, and what it did is taken back.
#[test]
fn without_rights_the_line_is_printed() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), HTTP).expect("written");
    std::fs::write(namespace.join("etc/docker/daemon.json"), "{\"debug\": true}").expect("written");
    namespace
        .sh(
            "",
            "mount --bind /etc/docker /etc/docker && mount -o remount,bind,ro /etc/docker",
        )
        .ok();
    let denied = namespace.sh("root", "kdk setup docker --apply").fails(1);
    let line = denied.lines().find(|line| line.trim().starts_with("sudo "));
    let line = line.unwrap_or_else(|| panic!("{denied}")).replace("sudo ", "");
    assert!(line.contains("tee /etc/docker/daemon.json < "), "{line}");
    assert_eq!(read(&namespace, "etc/docker/daemon.json"), "{\"debug\": true}");
    namespace.sh("", &format!("umount /etc/docker; {line}")).ok();
    assert!(read(&namespace, "etc/docker/daemon.json").contains("registry.test:5000"));
    let again = namespace.sh("root", "kdk setup docker --apply");
    assert!(again.stderr.contains("unchanged"), "{}", again.stderr);
    namespace.sh("root", "kdk setup docker --remove").ok();
    assert_eq!(read(&namespace, "etc/docker/daemon.json"), "{\"debug\": true}");
}

/// Whatever changes between two calls, only what the last one put in is there, and that comes out.
#[test]
fn what_an_earlier_plan_put_in_goes() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    let kdk = |line: &str| namespace.sh("root", line);
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), HTTP).expect("written");
    kdk("kdk reconfigure").ok();
    let toml = "home/.docker/buildx/buildkitd.default.toml";
    kdk("kdk setup buildx --apply").ok();
    assert!(read(&namespace, toml).contains("http = true"));
    std::fs::write(namespace.join("root/kdk.yml"), HTTPS).expect("written");
    kdk("kdk reconfigure && kdk setup buildx --apply").ok();
    let secure = read(&namespace, toml);
    assert!(secure.contains("ca = [") && !secure.contains("http = true"), "{secure}");
    kdk("kdk setup buildx --remove").ok();
    assert!(!namespace.join(toml).exists() && !namespace.join("home/.docker/buildx").exists());

    // A new name takes the old one's place, also after somebody else wrote there.
    let file = "etc/docker/daemon.json";
    std::fs::write(namespace.join("root/kdk.yml"), HTTP).expect("written");
    kdk("kdk setup docker --apply").ok();
    let edited = read(&namespace, file).replacen('{', "{\"debug\": true,", 1);
    std::fs::write(namespace.join(file), edited).expect("written");
    kdk("kdk config set registry.host new.test && kdk setup docker --apply").ok();
    let renamed = read(&namespace, file);
    assert!(
        renamed.contains("new.test:5000") && !renamed.contains("registry.test:5000"),
        "{renamed}"
    );
    kdk("kdk setup docker --remove").ok();
    let left: serde_json::Value = serde_json::from_str(&read(&namespace, file)).expect("JSON");
    assert_eq!(left, serde_json::json!({"debug": true}));
    std::fs::remove_file(namespace.join(file)).expect("removed");

    // Two roots in one file, and two clients in one.
    namespace.sh("", "kdk init other").ok();
    std::fs::write(
        namespace.join("other/kdk.yml"),
        HTTP.replace("registry.test", "other.test"),
    )
    .expect("written");
    kdk("kdk setup docker --apply && cd ../other && kdk setup docker --apply && cd ../root && kdk setup docker --remove").ok();
    let one = read(&namespace, file);
    assert!(one.contains("other.test:5000") && !one.contains("new.test"), "{one}");
    namespace.sh("other", "kdk setup docker --remove").ok();
    let left = namespace.sh("", "ls etc/docker").ok();
    assert_eq!(left, "", "neither a file nor a backup is left");
    let https = HTTPS.replace("self_signed: true", "self_signed: true\n  path: images");
    std::fs::write(
        namespace.join("root/kdk.yml"),
        format!("{https}runner:\n  privileged: false\n"),
    )
    .expect("written");
    namespace.sh("", "mkdir -p home/.khulnasoft-runner && printf '[[runners]]\n  name = \"a\"\n  [runners.docker]\n    volumes = [\"/srv:/cache\"]\n' > home/.khulnasoft-runner/config.toml").ok();
    kdk("kdk reconfigure && kdk setup docker --apply && kdk setup runner --apply && kdk setup docker --remove").ok();
    assert!(
        namespace.docker_certificate("registry.test:5000").exists(),
        "the runner needs it still"
    );
    let runner = read(&namespace, "home/.khulnasoft-runner/config.toml");
    assert_eq!(
        runner.matches("cache").count(),
        1,
        "nothing is mounted twice at one place: {runner}"
    );
    kdk("kdk setup runner --remove").ok();
    assert!(!namespace.docker_certificate("registry.test:5000").exists());

    // A file that is damaged for a while is not forgotten.
    std::fs::write(namespace.join("root/kdk.yml"), HTTP).expect("written");
    kdk("kdk setup docker --apply").ok();
    let set = read(&namespace, file);
    std::fs::write(namespace.join(file), set.replace('{', "{{")).expect("written");
    let damaged = kdk("kdk setup docker --remove").fails(1);
    assert!(damaged.contains("it was left as it is"), "{damaged}");
    std::fs::write(namespace.join(file), set).expect("written");
    kdk("kdk setup docker --remove").ok();
    assert!(!namespace.join(file).exists());

    // A record that cannot be read is not taken for an empty one.
    kdk("kdk setup docker --apply").ok();
    std::fs::write(namespace.join("root/.kdk/trusted.json"), "{").expect("written");
    for line in ["kdk setup docker --remove", "kdk setup docker --apply"] {
        let refused = kdk(line).fails(1);
        assert!(
            refused.contains("trusted.json") && refused.contains("is damaged"),
            "{refused}"
        );
    }
}

/// What others did to a file of everybody's stays theirs.
#[test]
fn a_mark_that_is_lost_takes_nothing_else_with_it() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), HTTP).expect("written");
    std::fs::write(namespace.join("etc/hosts"), "127.0.0.1 localhost\n").expect("written");
    // As containers have it: a file that is mounted by itself cannot be exchanged.
    namespace
        .sh("", "cp etc/hosts hosts.own && mount --bind hosts.own /etc/hosts")
        .ok();
    namespace.sh("root", "kdk setup hosts --apply").ok();
    let put = read(&namespace, "hosts.own");
    assert!(put.contains(" kdk.test registry.test\n"), "{put}");
    let (lines, _) = put.rsplit_once("# kdk: end of").expect("marked");
    std::fs::write(namespace.join("hosts.own"), format!("{lines}192.0.2.7 mine\n")).expect("written");
    namespace.sh("root", "kdk setup hosts --remove").ok();
    assert_eq!(read(&namespace, "hosts.own"), "127.0.0.1 localhost\n192.0.2.7 mine\n");
    // Names that somebody wrote there are there; one that is elsewhere is named.
    std::fs::write(
        namespace.join("hosts.own"),
        "127.0.0.1 localhost kdk.test\n192.0.2.8 registry.test\n",
    )
    .expect("written");
    let said = namespace.sh("root", "kdk setup hosts");
    assert!(
        said.stderr
            .contains("line 2 of /etc/hosts says that registry.test is 192.0.2.8"),
        "{}",
        said.stderr
    );
    assert!(!said.ok().contains("kdk.test"));
}

/// Lines that are piped into a shell run to their end, whatever the commands in them read.
#[test]
fn what_is_piped_into_a_shell_runs_to_its_end() {
    // As ssh does, each reads all that it is given.
    const TOOL: &str = "#!/bin/sh\n[ \"$1\" = get ] && echo node-1 && exit\nprintf '%s ' \"${0##*/}\" \"$@\" >>\"$LOG\"\nwc -c >>\"$LOG\"\n";
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), HTTPS).expect("written");
    namespace.sh("root", "kdk reconfigure").ok();
    let tools = ["kind", "docker", "kubectl", "minikube", "limactl", "docker-machine"];
    std::fs::create_dir(namespace.join("tools")).expect("made");
    for tool in tools {
        let path = namespace.join("tools").join(tool);
        std::fs::write(&path, TOOL).expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    }
    for (line, last) in [
        ("kdk setup kind", "kubectl apply -f - "),
        ("kdk setup minikube", "minikube ssh -- sudo systemctl restart docker "),
        (
            "kdk setup lima",
            "limactl shell default sh -c cat >\"$HOME/.config/containerd/certs.d/kdk.test:5000/ca.crt\" ",
        ),
        (
            "DOCKER_MACHINE_NAME=vm kdk setup docker",
            "docker-machine ssh vm sudo tee /etc/docker/certs.d/kdk.test:5000/ca.crt ",
        ),
    ] {
        let script = format!(
            "export LOG=$PWD/log; rm -f $LOG; {line} > ../lines 2>/dev/null; PATH=$PWD/../tools:$PATH bash --posix < ../lines; cat $LOG"
        );
        let log = namespace.sh("root", &script).ok();
        assert!(log.lines().count() >= 4, "{line}: {log}");
        assert!(
            log.lines().last().is_some_and(|line| line.starts_with(last)),
            "{line}: {log}"
        );
        assert!(log.lines().any(|line| line.ends_with(" 0")), "{line}: {log}");
        let certificate = read(&namespace, "root/registry_host.crt").len();
        assert!(
            log.contains(&format!(" {certificate}\n")),
            "the certificate came whole: {log}"
        );
    }
}

/// Killed at any moment, a file is the old or the new one, and comes back.
#[test]
fn an_apply_that_is_killed_leaves_a_whole_file() {
    const BEFORE: &str = "{\"debug\": true}";
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), HTTP).expect("written");
    let path = namespace.join("etc/docker/daemon.json");
    std::fs::write(&path, BEFORE).expect("written");
    namespace.sh("root", "kdk setup docker --apply").ok();
    let after = std::fs::read_to_string(&path).expect("read");
    namespace.sh("root", "kdk setup docker --remove").ok();
    let mut seen = [0; 2];
    for round in 0..40 {
        let script = format!(
            "kdk setup docker --apply & sleep {}; kill -9 $! 2>/dev/null || true; wait || true",
            0.001 * f64::from(round)
        );
        namespace.sh("root", &script).ok();
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text == BEFORE || text == after, "{text}");
        seen[usize::from(text == after)] += 1;
        if text == after {
            let kept = std::fs::read_dir(namespace.join("etc/docker"))
                .expect("listed")
                .flatten();
            let kept = kept.filter(|entry| entry.file_name().to_string_lossy().ends_with(".kdk"));
            assert!(
                kept.map(|entry| std::fs::read_to_string(entry.path()).expect("read"))
                    .any(|text| text == BEFORE)
            );
        }
        namespace.sh("root", "kdk setup docker --remove").ok();
        assert_eq!(std::fs::read_to_string(&path).expect("read"), BEFORE);
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

/// From a bare machine to a push over HTTPS, by a name that is no loopback's, in four commands at most: with
/// docker, podman and containerd.
#[test]
fn from_nothing_to_a_push_over_https() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    let top = namespace.path().display().to_string();
    namespace.start_docker("{}");
    image::context(&namespace.join("project"), 1);
    let shown = |script: &str| {
        let said = namespace.sh("kdk", script);
        let shown = said.shown();
        said.ok();
        shown
    };
    // docker: two commands before the push.
    let up = shown("kdk up --yes --https --login");
    for line in [
        "docker is logged in to 127.0.0.1:5000",
        "These trust 127.0.0.1:5000 now: Docker Engine",
        "https://127.0.0.1:5000",
    ] {
        assert!(up.contains(line), "{line}: {up}");
    }
    let push = "docker build -q -t 127.0.0.1:5000/my-image ../project && docker push -q 127.0.0.1:5000/my-image";
    shown(push);
    // By a name, whose address docker does not take for its own.
    shown("kdk config set registry.host=registry.test registry.listen_address=0.0.0.0");
    shown("kdk up --https --login");
    shown("docker build -q -t registry.test:5000/my-image ../project && docker push -q registry.test:5000/my-image");

    // podman, in a root of its own.
    let podman = format!(
        "podman --root {top}/cr --runroot {top}/cx --storage-driver vfs --tmpdir {top}/pt --cgroup-manager cgroupfs --events-backend none"
    );
    let buildah = format!("buildah --root {top}/cr --runroot {top}/cx --storage-driver vfs");
    let other = |script: &str| namespace.sh("other", script).ok();
    other("kdk up --yes --https --login=podman");
    other(&format!(
        "{buildah} bud -q --isolation chroot -t 127.0.0.1:5001/my-image ../project"
    ));
    other(&format!("{podman} push -q 127.0.0.1:5001/my-image"));
    other(&format!(
        "{buildah} push -q 127.0.0.1:5001/my-image && {buildah} pull -q --policy always 127.0.0.1:5001/my-image"
    ));

    // containerd: what it must know, and a token on its command line.
    let containerd = format!(
        "cd ..; printf 'version = 2\\nroot = \"{top}/c/root\"\\nstate = \"{top}/c/state\"\\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\\n[grpc]\\naddress = \"{top}/c.sock\"\\n' > c.toml; setsid containerd -c c.toml > c.log 2>&1 < /dev/null &"
    );
    namespace.sh("root", &containerd).ok();
    wait("containerd answers", || namespace.join("c.sock").exists().then_some(()));
    let ctr = format!("ctr -a {top}/c.sock images");
    shown("kdk setup ctr --apply");
    let options = "--hosts-dir /etc/containerd/certs.d --user x:$(kdk token create)";
    shown(&format!(
        "{ctr} pull --snapshotter native {options} registry.test:5000/my-image:latest"
    ));
    shown(&format!(
        "{ctr} tag registry.test:5000/my-image:latest registry.test:5000/again:v1 && {ctr} push {options} registry.test:5000/again:v1"
    ));
    // Doctor asks it, too, once it was told.
    let asked = || {
        let script = format!("CONTAINERD_ADDRESS={top}/c.sock kdk doctor engines 2>&1 || true");
        namespace.sh("kdk", &script).ok()
    };
    let heard = asked();
    assert!(!heard.contains("ctr does not reach"), "{heard}");
    let hosts = std::fs::read_to_string(namespace.join("etc/hosts")).expect("read");
    std::fs::write(namespace.join("etc/hosts"), hosts.replace("registry.test", "")).expect("written");
    wait("containerd has read the hosts file", || {
        asked().contains("ctr does not reach").then_some(())
    });
    std::fs::write(namespace.join("etc/hosts"), hosts).expect("written");
    namespace.sh("other", "kdk down; cd ../kdk; kdk down").ok();
}

/// What is printed for clients that have no file of their own logs them in, and BuildKit builds with its file.
#[test]
#[ignore = "clients of the matrix: run by make test-clients"]
fn clients_without_a_file_log_in_as_printed() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    let peers = crate::support::peers();
    up(&namespace, HTTP);
    image::layout(&namespace.join("project/layout"), "printed");
    image::context(&namespace.join("project/context"), 1);
    for settings in [HTTP, HTTPS] {
        std::fs::write(namespace.join("root/kdk.yml"), settings).expect("written");
        namespace.sh("root", "kdk reconfigure && kdk restart").ok();
        for tool in ["crane", "oras", "regctl", "helm", "cosign", "ko", "curl"] {
            let script = format!(
                "export PATH={}:$PATH; rm -rf $HOME/.docker $HOME/.regctl; kdk setup {tool} 2>/dev/null > ../lines; bash -eo pipefail ../lines 2>&1",
                peers.display()
            );
            let said = namespace.sh("root", &script).ok();
            let is_in = ["Login Succeeded", "logged in via", "\"token\"", "Logged in"];
            assert!(
                is_in.iter().any(|text| said.contains(text)) || tool == "regctl",
                "{tool}: {said}"
            );
        }
        // The file that buildx and buildkitd read.
        let top = namespace.path().display().to_string();
        let script = format!(
            "export PATH={}:$PATH BUILDKIT_HOST=unix://{top}/b.sock; kdk setup buildkit --apply; \
             (kdk setup buildkit --print 2>/dev/null | sed 's/^# .*//') > ../printed.toml; rm -f {top}/b.sock; \
             mkdir -p $HOME/.docker; printf '{{\"auths\":{{\"registry.test:5000\":{{\"auth\":\"%s\"}}}}}}' $(printf x:$(cat ../token) | base64 -w0) > $HOME/.docker/config.json; \
             setsid buildkitd --config $HOME/.docker/buildx/buildkitd.default.toml --addr unix://{top}/b.sock --root {top}/bk --oci-worker-snapshotter=native > ../b.log 2>&1 < /dev/null & \
             for i in $(seq 100); do buildctl debug workers >/dev/null 2>&1 && break; sleep 0.1; done; \
             eval \"$(kdk env)\"; buildctl build --frontend dockerfile.v0 --local context=../project/context --local dockerfile=../project/context --output type=image,name=registry.test:5000/built:v1,push=true; \
             pkill buildkitd; kdk setup buildkit --remove",
            peers.display()
        );
        namespace.sh("root", &script).ok();
    }
    namespace.sh("root", "kdk stop").ok();
}

/// nginx as Debian has it, with what is printed for it, and a gibibyte through it.
#[test]
#[ignore = "a gibibyte: run by make test-clients"]
fn nginx_before_the_registry() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    up(
        &namespace,
        "hostname: kdk.test\nregistry:\n  enabled: true\n  auth_enabled: true\n  external_url: https://registry.test\n",
    );
    namespace
        .sh(
            "root",
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=registry.test -addext subjectAltName=DNS:registry.test -keyout web.key -out web.crt 2>/dev/null; mkdir -p /var/lib/nginx /run/nginx; mount -t tmpfs tmpfs /var/log; mkdir -p /var/log/nginx; mkdir -p $HOME/.config/containers/certs.d/registry.test; cp web.crt $HOME/.config/containers/certs.d/registry.test/ca.crt; rm -f /etc/nginx/sites-enabled/*",
        )
        .ok();
    let refused = namespace.sh("root", "kdk setup nginx --listen 5000").fails(1);
    assert!(refused.contains("on which the registry itself listens"), "{refused}");
    namespace
        .sh(
            "root",
            "kdk setup nginx --redirect-http --certificate $PWD/web.crt --key $PWD/web.key --apply && nginx",
        )
        .ok();
    let curl = "curl -sS --cacert web.crt -o /dev/null -w '%{http_code} %{redirect_url}'";
    wait("nginx answers", || {
        (namespace
            .sh("root", &format!("{curl} https://registry.test/v2/"))
            .stdout
            == "401 ")
            .then_some(())
    });
    assert_eq!(
        namespace
            .sh("root", &format!("{curl} http://registry.test/v2/?a=b"))
            .ok(),
        "308 https://registry.test/v2/?a=b"
    );
    image::large(&namespace.join("large"), 1 << 30);
    namespace
        .sh(
            "large",
            "skopeo login registry.test -u khulnasoft-token --password-stdin < ../token && skopeo copy -q oci:layout:image docker://registry.test/group/large:v1 && skopeo copy -q docker://registry.test/group/large:v1 oci:back:image && test \"$(skopeo inspect --config oci:layout:image | jq -c .rootfs)\" = \"$(skopeo inspect --config oci:back:image | jq -c .rootfs)\"",
        )
        .ok();
    namespace.sh("root", "nginx -s stop; kdk setup nginx --remove").ok();
    assert!(!namespace.join("etc/nginx/conf.d/kdk-registry.test.conf").exists());
    namespace.sh("root", "kdk stop").ok();
}
