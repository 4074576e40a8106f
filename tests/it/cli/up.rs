//! From nothing to a registry, and many of them beside each other.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{KDK, Output, TestRoot, temporary, wait};

/// A home in which roots are made.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(temporary())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn join(&self, name: &str) -> std::path::PathBuf {
        self.path().join(name)
    }

    fn command(&self, directory: &str, arguments: &[&str]) -> Command {
        let here = self.join(directory);
        std::fs::create_dir_all(&here).expect("made");
        let binary = Path::new(KDK).parent().expect("a directory").display();
        let mut command = Command::new(KDK);
        command
            .args(arguments)
            .current_dir(here)
            .env_clear()
            .env("PATH", format!("{binary}:/usr/sbin:/usr/bin:/sbin:/bin"))
            .env("HOME", self.path())
            .env("LANG", "C.UTF-8");
        command
    }

    fn kdk(&self, directory: &str, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(directory, arguments))
    }

    fn ports(&self, root: &str) -> [u16; 2] {
        ["registry.port", "port"].map(|key| {
            let text = self.kdk(root, &["config", "get", key]).ok();
            text.trim().parse().expect("a port")
        })
    }

    fn roots(&self) -> Vec<Value> {
        serde_json::from_str(&self.kdk("", &["roots", "--json"]).ok()).expect("JSON")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for root in std::fs::read_dir(self.path()).into_iter().flatten().flatten() {
            if root.path().join(".kdk/supervisor.json").exists() {
                let name = root.file_name().into_string().expect("UTF-8");
                let _ = self.kdk(&name, &["kill", "--yes"]);
            }
        }
    }
}

#[test]
fn nothing_is_made_without_a_yes() {
    let home = Home::new();
    let refused = home.kdk("new", &["up"]).fails(1);
    assert!(
        refused.contains("nothing was done") && refused.contains("--yes"),
        "{refused}"
    );
    home.kdk("", &["up", "other"]).fails(1);
    assert!(!home.join("other").exists());
    let meant = home.kdk("new", &["up", "--yes", "--login", "podman"]).fails(1);
    assert!(meant.contains("--login=podman"), "{meant}");
    let both = home.kdk("new", &["--root", ".", "up", "--yes", "other"]).fails(1);
    assert!(both.contains("both name a root"), "{both}");
    assert_eq!(std::fs::read_dir(home.join("new")).expect("there").count(), 0);
    // A root that is named and is none was meant to be one.
    let refused = home.kdk("new", &["--root", "/nonexistent", "up", "--yes"]).fails(1);
    assert!(refused.contains("no KDK root"), "{refused}");
    // On a terminal it asks; no is no, and no error.
    let line = format!("echo n | script -qec '{KDK} up' /dev/null");
    let mut asked = home.command("new", &[]);
    asked = {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &line])
            .current_dir(home.join("new"))
            .env("HOME", home.path());
        drop(asked);
        shell
    };
    let said = Output::of(&mut asked);
    assert!(
        said.stdout.contains("[y/N]") && said.stdout.contains("Nothing was done."),
        "{said:?}"
    );
    assert!(!said.stdout.contains("error"), "{said:?}");
    assert!(!home.join("new/kdk.yml").exists());
}

#[test]
fn one_command_makes_a_registry_that_takes_pushes() {
    let home = Home::new();
    let up = home.kdk("new", &["up", "--yes"]);
    let [registry, rails] = home.ports("new");
    for line in [
        "  Log in  kdk login".to_owned(),
        format!("push 127.0.0.1:{registry}/my-image"),
        format!("  Look    http://127.0.0.1:{rails}"),
    ] {
        assert!(up.stderr.contains(&line), "{line}: {up:?}");
    }
    assert_eq!(up.stderr.matches("is a KDK root now").count(), 1);
    assert!(!up.stderr.contains("new file"), "{up:?}");
    up.ok();
    let token = home
        .kdk("new", &["registry", "token", "--scope", "repository:a:pull,push"])
        .ok();
    let digest = crate::support::registry::digest(b"{}");
    let pushed = reqwest::blocking::Client::new()
        .post(format!(
            "http://127.0.0.1:{registry}/v2/a/blobs/uploads/?digest={digest}"
        ))
        .bearer_auth(token.trim())
        .body("{}")
        .send();
    assert_eq!(pushed.expect("answered").status(), 201);
    // Again, from below and from elsewhere, it changes nothing.
    let pid = || {
        let status: Value = serde_json::from_str(&home.kdk("new", &["ps", "--json"]).ok()).expect("JSON");
        status[1]["pid"].as_i64()
    };
    let before = pid();
    home.kdk("new/below", &["up"]).ok();
    home.kdk("", &["up", "new", "-d"]).ok();
    assert_eq!(pid(), before);
    // Words that people type.
    let logs = home.kdk("new", &["logs", "registry", "-n", "1"]).ok();
    assert_eq!(logs.lines().count(), 1, "{logs}");
    home.kdk("new", &["logs", "--tail", "2"]).ok();
    home.kdk("new", &["down"]).ok();
    assert_eq!(pid(), None);
    // A change is applied by it, too.
    home.kdk("new", &["config", "set", "registry.read_only_maintenance_enabled=true"])
        .ok();
    let up = home.kdk("new", &["up"]);
    assert!(
        up.stderr
            .contains("Changed registry.read_only_maintenance_enabled false → true."),
        "{up:?}"
    );
    // Nobody is sent where nobody listens.
    home.kdk("new", &["config", "set", "registry.listen_address", "127.0.0.2"])
        .ok();
    let astray = home.kdk("new", &["up"]);
    assert!(
        astray
            .stderr
            .contains("listens on 127.0.0.2, where its name 127.0.0.1 does not lead")
            && !astray.stderr.contains("is available"),
        "{astray:?}"
    );
}

#[test]
fn roots_get_ports_of_their_own() {
    let home = Home::new();
    home.kdk("", &["init", "one", "--with-registry"]).ok();
    // Other tests may hold the default ports just now; what it says counts.
    home.kdk("one", &["config", "set", "registry.port", "5000"]).ok();
    home.kdk("one", &["config", "set", "port", "3000"]).ok();
    let first = home.ports("one");
    // It claims them whether it runs or not.
    let made = home.kdk("", &["init", "two"]);
    let second = home.ports("two");
    assert!(
        made.stderr
            .contains(&format!("registry.port is {}: 5000 is ", second[0])),
        "{made:?}"
    );
    assert!(
        made.stderr.contains(&format!("port is {}: 3000 is ", second[1])),
        "{made:?}"
    );
    made.ok();
    assert!(first.iter().all(|port| !second.contains(port)), "{first:?} {second:?}");
    let refused = home.kdk("", &["init", "three", "--strict-ports"]).fails(1);
    assert!(
        refused.contains("port 5000 is ") && refused.contains("nothing was made"),
        "{refused}"
    );
    assert!(!home.join("three").exists());
    // What a root's file says now is what it claims.
    home.kdk("two", &["config", "set", "registry.port", "25999"]).ok();
    home.kdk("", &["init", "four"]).ok();
    let two = home
        .roots()
        .into_iter()
        .find(|root| root["path"].as_str().is_some_and(|path| path.ends_with("/two")));
    assert_eq!(two.expect("known")["registry_port"], 25999);
    // One that is gone claims nothing.
    std::fs::remove_dir_all(home.join("one")).expect("removed");
    let names: Vec<String> = home
        .roots()
        .iter()
        .map(|root| {
            root["path"]
                .as_str()
                .expect("text")
                .rsplit('/')
                .next()
                .expect("a name")
                .to_owned()
        })
        .collect();
    assert_eq!(names, ["four", "two"]);
    let list = home.join(".local/state/kdk/roots.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&list).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    // A root that was not made here, or was moved, is known from its next reconfigure on.
    std::fs::rename(home.join("four"), home.join("moved")).expect("moved");
    home.kdk("moved", &["reconfigure"]).ok();
    assert!(
        home.roots()
            .iter()
            .any(|root| root["path"].as_str().expect("text").ends_with("/moved"))
    );
    // A damaged list harms nobody.
    std::fs::write(&list, "{").expect("written");
    let said = home.kdk("moved", &["reconfigure"]);
    assert!(said.stderr.contains("roots.json, was damaged"), "{said:?}");
    assert_eq!(home.roots().len(), 1);
    let kept = std::fs::read_to_string(home.join(".local/state/kdk/roots.json.damaged"));
    assert_eq!(kept.expect("kept"), "{");
    assert!(!home.kdk("", &["roots"]).stderr.contains("damaged"));
}

#[test]
fn twenty_roots_started_at_once_do_not_clash() {
    let home = Home::new();
    let names: Vec<String> = (0..20).map(|number| format!("r{number}")).collect();
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            let mut command = home.command(name, &["up", "--yes"]);
            command.stdin(std::process::Stdio::null());
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            command.spawn().expect("started")
        })
        .collect();
    for (name, child) in names.iter().zip(children) {
        let output = child.wait_with_output().expect("ended");
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut seen = HashSet::new();
    for root in home.roots() {
        assert_eq!(root["state"], "up", "{root}");
        for key in ["registry_port", "rails_port"] {
            assert!(seen.insert(root[key].as_u64().expect("a port")), "{root}");
        }
        // Each gets its tokens from its own token service.
        let path = root["path"].as_str().expect("text");
        let name = path.rsplit('/').next().expect("a name");
        let token = home
            .kdk(name, &["registry", "token", "--scope", "registry:catalog:*"])
            .ok();
        let answer = reqwest::blocking::Client::new()
            .get(format!("http://127.0.0.1:{}/v2/_catalog", root["registry_port"]))
            .bearer_auth(token.trim())
            .send();
        assert_eq!(answer.expect("answered").status(), 200, "{name}");
    }
    assert_eq!(seen.len(), 40);
}

/// A program that stands for docker and podman: it notes its arguments and
/// what it was given, and says that all is well, or not.
fn client(root: &TestRoot, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = root.join(&format!("bin/{name}"));
    root.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("made a program");
}

fn login(root: &TestRoot, arguments: &[&str]) -> Output {
    let mut command = root.command(arguments);
    // Nothing else: this machine may have real ones.
    Output::of(command.env("PATH", root.join("bin")))
}

#[test]
fn a_token_goes_only_where_this_roots_registry_listens() {
    let root = TestRoot::with_registry("");
    client(
        &root,
        "docker",
        "echo \"$@\" >> args; /bin/cat >> tokens; echo >> tokens",
    );
    root.kdk(&["reconfigure"]).ok();
    let sent = || std::fs::read_to_string(root.join("tokens")).unwrap_or_default();
    // Nobody listens.
    let refused = login(&root, &["login"]).fails(1);
    assert!(
        refused.contains("this root's registry is not running") && refused.contains("kdk start"),
        "{refused}"
    );
    // Somebody else does.
    let other = std::net::TcpListener::bind(("127.0.0.1", root.registry_port)).expect("bound");
    let refused = login(&root, &["login"]).fails(1);
    let expected = format!("not running: port {} belongs to it-", root.registry_port);
    assert!(
        refused.contains(&expected) && refused.contains("kdk config set registry.port"),
        "{refused}"
    );
    drop(other);
    root.kdk(&["start"]).ok();
    // On another address of the same port.
    let beside = std::net::TcpListener::bind(("127.0.0.2", root.registry_port)).expect("bound");
    let elsewhere = format!("127.0.0.2:{}", root.registry_port);
    let refused = login(&root, &["login", "--address", &elsewhere]).fails(1);
    assert!(refused.contains("no token is sent there"), "{refused}");
    login(&root, &["login", "--address", &elsewhere, "--force"]).fails(1);
    drop(beside);
    let refused = login(&root, &["login", "--address", &elsewhere]).fails(1);
    assert!(
        refused.contains("nobody listens on") && refused.contains("--force"),
        "{refused}"
    );
    let refused = login(&root, &["login", "--address", "nowhere.invalid:5000"]).fails(1);
    assert!(refused.contains("nowhere.invalid does not resolve"), "{refused}");
    login(&root, &["login", "--expires", "99999999999h"]).fails(2);
    // On a port that is not the registry's.
    let stranger = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bound");
    let strange = stranger.local_addr().expect("an address").to_string();
    let refused = login(&root, &["login", "--address", &strange]).fails(1);
    assert!(refused.contains("not to this root's registry"), "{refused}");
    // Nor on one that is still to be applied.
    let port = stranger.local_addr().expect("an address").port().to_string();
    root.kdk(&["config", "set", "registry.port", &port]).ok();
    let refused = login(&root, &["login", "--address", &strange]).fails(1);
    assert!(refused.contains("kdk reconfigure"), "{refused}");
    root.kdk(&["config", "set", "registry.port", &root.registry_port.to_string()])
        .ok();
    // Nor while nobody could be let in, and that is told.
    root.kdk(&["stop", "rails"]).ok();
    let service = root.rails_url("/jwt/auth");
    let refused = login(&root, &["login"]).fails(1);
    assert!(
        refused.contains(&format!(
            "nobody can log in: the token service {service} does not answer"
        )) && refused.contains("kdk status"),
        "{refused}"
    );
    let other = std::net::TcpListener::bind(("127.0.0.1", root.rails_port)).expect("bound");
    let answering = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        // Asked three times by way of the registry, and directly.
        for _ in 0..6 {
            let (mut stream, _) = other.accept().expect("asked");
            let _ = stream.read(&mut [0; 4096]).expect("a request");
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .expect("answered");
        }
    });
    let refused = login(&root, &["login"]).fails(1);
    assert!(
        refused.contains(&format!("the token service {service} answers 404 Not Found")),
        "{refused}"
    );
    answering.join().expect("all are asked");
    root.kdk(&["start", "rails"]).ok();
    assert_eq!(sent(), "");
    let tokens = || -> Vec<Value> { serde_json::from_str(&root.kdk(&["token", "list", "--json"]).ok()).expect("JSON") };
    assert_eq!(tokens().len(), 0);
    // And where it does; a second login replaces the first one's token.
    let done = login(&root, &["login"]);
    assert!(
        done.stderr
            .contains("docker, crane, oras, regctl, helm, cosign and skopeo read this login"),
        "{done:?}"
    );
    done.ok();
    login(&root, &["login", "--user", "root", "--expires", "1h"]).ok();
    let left = tokens();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(
        left[0]["name"].as_str().expect("text").contains(".docker/config.json"),
        "{left:?}"
    );
    let given: Vec<String> = sent().lines().map(str::to_owned).collect();
    assert_eq!(given.len(), 2);
    // What is to be applied yet changes nothing of where it answers.
    root.kdk(&["config", "set", "registry.port", &port]).ok();
    let address = format!("127.0.0.1:{}", root.registry_port);
    let started = root.kdk(&["start"]).stderr;
    assert!(
        started.contains(&format!("docker push {address}/my-image")),
        "{started}"
    );
    let done = login(&root, &["login", "--expires", "2h"]).stderr;
    assert!(done.contains(&format!("logged in to {address} ")), "{done}");
    root.kdk(&["config", "set", "registry.port", &root.registry_port.to_string()])
        .ok();
    let left = tokens();
    let given: Vec<String> = sent().lines().skip(1).map(str::to_owned).collect();
    let status = |token: &str| {
        let url = root.registry_url("/jwt/auth?service=container_registry");
        let request = reqwest::blocking::Client::new().get(url).basic_auth("x", Some(token));
        request.send().expect("answered").status().as_u16()
    };
    assert_eq!((status(&given[0]), status(&given[1])), (401, 200));
    // A login that fails leaves the earlier one in force, and says one sentence.
    client(
        &root,
        "docker",
        "echo 'WARNING! Your password' >&2; echo 'Error response from daemon: login attempt failed: &{0xc000 map[]}' >&2; exit 1",
    );
    let failed = login(&root, &["login"]).fails(1);
    assert!(
        failed.contains("docker login failed: login attempt failed\n"),
        "{failed}"
    );
    assert_eq!(tokens(), left);
}

#[test]
fn over_https_podman_checks_the_certificate() {
    let root = TestRoot::with_registry("  self_signed: true\n");
    client(&root, "podman", "echo \"$@\" >> args; /bin/cat > /dev/null");
    root.up();
    login(&root, &["login", "--client", "podman"]).ok();
    let args = root.read("args");
    assert!(args.contains("login ") && !args.contains("tls-verify"), "{args}");
}

#[test]
fn podman_is_told_of_plain_http_once() {
    let root = TestRoot::with_registry("");
    client(&root, "podman", "echo \"$@\" >> args; /bin/cat > /dev/null");
    root.up();
    let file = root.join("home/.config/containers/registries.conf.d/kdk.conf");
    let last = || {
        let all = root.read("args");
        all.lines().last().expect("a line").to_owned()
    };
    let asked = login(&root, &["login", "--client", "podman"]);
    assert!(
        asked.stderr.contains("--yes") && asked.stderr.contains("kdk.conf"),
        "{asked:?}"
    );
    asked.ok();
    assert!(last().contains("--tls-verify=false") && !file.exists());
    login(&root, &["login", "--client", "podman", "--yes"]).ok();
    assert!(!last().contains("--tls-verify"), "{}", last());
    let written = std::fs::read_to_string(&file).expect("written");
    let address = format!("127.0.0.1:{}", root.registry_port);
    assert!(
        written.contains(&format!("location = \"{address}\"\ninsecure = true")),
        "{written}"
    );
    let again = login(&root, &["login", "--client", "podman"]);
    assert!(!again.stderr.contains("kdk.conf"), "{again:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("written"), written);
    assert!(
        login(&root, &["start"])
            .stderr
            .contains(&format!("podman push {address}/my-image"))
    );
    login(&root, &["trust-docker-registry", "--remove"]).ok();
    assert!(!file.exists());
    assert!(
        login(&root, &["start"])
            .stderr
            .contains(&format!("podman push --tls-verify=false {address}/my-image"))
    );
    let plain = login(&root, &["trust-docker-registry"]);
    assert!(plain.stderr.contains("there is no certificate to trust"), "{plain:?}");
    assert!(file.exists() && !root.join("registry_host.crt").exists());
}

#[test]
fn a_shell_takes_over_what_other_clients_need() {
    let root = TestRoot::with_registry("");
    root.up();
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        let binary = Path::new(KDK).parent().expect("a directory").display();
        command
            .args(["-c", &format!("set -eu; {script}")])
            .current_dir(root.path())
            .env_clear()
            .env("PATH", format!("{binary}:/usr/bin:/bin"))
            .env("HOME", root.join("home"));
        Output::of(&mut command).ok()
    };
    let list = "curl -sf -H \"Authorization: Bearer $(kdk_jwt 'registry:catalog:*')\" $SCHEME://$REGISTRY_HOST:$REGISTRY_PORT/v2/_catalog";
    assert_eq!(
        shell(&format!(
            "eval \"$(kdk env)\"; SCHEME=http; test -z \"${{SSL_CERT_FILE-}}\"; {list}"
        ))
        .trim(),
        r#"{"repositories":[]}"#
    );
    root.kdk(&["config", "set", "registry.self_signed", "true"]).ok();
    root.kdk(&["reconfigure"]).ok();
    // Once, twice, and with authorities of one's own.
    let authority = rcgen::generate_simple_self_signed(["other.test".to_owned()]).expect("made");
    root.write("mine.pem", &authority.cert.pem());
    for prepare in ["", "eval \"$(kdk env)\";", "export SSL_CERT_FILE=$PWD/mine.pem;"] {
        let said = shell(&format!(
            "{prepare} eval \"$(kdk env)\"; eval \"$(kdk env)\"; SCHEME=https; {list}; grep -c BEGIN $SSL_CERT_FILE"
        ));
        let count: usize = said.lines().last().expect("a line").parse().expect("a number");
        assert!(said.starts_with(r#"{"repositories":[]}"#), "{said}");
        assert_eq!(count == 2, prepare.contains("mine"), "{said}");
    }
    let back = shell("export SSL_CERT_FILE=/mine.pem; : > /dev/null; eval \"$(kdk env --unset)\"; echo $SSL_CERT_FILE");
    assert_eq!(back.trim(), "/mine.pem");
    let back = shell(
        "export SSL_CERT_FILE=$PWD/mine.pem; eval \"$(kdk env)\"; eval \"$(kdk env --unset)\"; echo $SSL_CERT_FILE ${REGISTRY_HOST-none}; ! command -v kdk_jwt",
    );
    assert_eq!(back.trim(), format!("{}/mine.pem none", root.path().display()));
    let back = shell("eval \"$(kdk env)\"; eval \"$(kdk env --unset)\"; echo ${SSL_CERT_FILE-none}");
    assert_eq!(back.trim(), "none");
    // A token only when it is asked for, one at a time.
    assert!(!shell("kdk env").contains("TOKEN"));
    let status = "curl -s --cacert registry_host.crt -o /dev/null -w '%{http_code}' -u \"x:$KHULNASOFT_TOKEN\" \"https://$REGISTRY_HOST:$REGISTRY_PORT/jwt/auth?service=container_registry\"";
    let said = shell(&format!(
        "eval \"$(kdk env --with-token)\"; {status}; kdk env --with-token > /dev/null; {status}"
    ));
    assert_eq!(said, "200401");
    // Nor does a service inherit the bundle of whoever starts it.
    shell("kdk stop; eval \"$(kdk env)\"; kdk start");
    let environment = std::fs::read(format!("/proc/{}/environ", root.pid("registry"))).expect("read");
    assert!(!String::from_utf8_lossy(&environment).contains("SSL_CERT_FILE"));
}

#[test]
fn what_changed_is_said_in_a_line() {
    let root = TestRoot::with_registry("");
    root.up();
    let port = crate::support::port();
    root.kdk(&["config", "set", "registry.port", &port.to_string()]).ok();
    let done = root.kdk(&["reconfigure"]);
    assert_eq!(
        done.stderr,
        format!(
            "✔ Changed registry.port {} → {port}; restarted rails-web, registry.\nhint: logins at the old address do not count at the new one; log in with: kdk login\n",
            root.registry_port
        )
    );
    done.ok();
    // What follows from another setting has a past, too; who wants silence has it.
    root.kdk(&["config", "set", "registry.host", "localhost"]).ok();
    assert_eq!(root.kdk(&["reconfigure", "--quiet"]).stderr, "");
    root.kdk(&["config", "unset", "registry.host"]).ok();
    let back = root.kdk(&["reconfigure"]);
    assert!(
        back.stderr.contains("Changed registry.host localhost → 127.0.0.1;"),
        "{back:?}"
    );
    root.kdk(&["config", "set", "registry.relativeurls", "true"]).ok();
    let long = root.kdk(&["reconfigure", "-v"]);
    for part in [
        "+  relativeurls: true",
        "the old version is kept in .backups/",
        "✔ Changed registry.relativeurls false → true; restarted registry.",
    ] {
        assert!(long.stderr.contains(part), "{part}: {long:?}");
    }
    // No setting changed: somebody edited the file.
    root.write(
        "registry/config.yml",
        &root
            .read("registry/config.yml")
            .replace("relativeurls: true", "relativeurls: false"),
    );
    let mended = root.kdk(&["reconfigure"]);
    assert!(
        mended
            .stderr
            .starts_with("warning: registry/config.yml was changed by hand and is overwritten")
            && mended
                .stderr
                .ends_with("\n✔ Rewrote registry/config.yml as kdk.yml says.\n"),
        "{mended:?}"
    );
    // Secrets are not told.
    root.kdk(&["config", "set", "registry.http_secret", "a-secret-of-some-length"])
        .ok();
    let secret = root.kdk(&["reconfigure"]);
    assert!(
        secret.stderr.contains("Changed registry.http_secret") && !secret.stderr.contains("a-secret"),
        "{secret:?}"
    );
    assert!(!root.read(".kdk/applied.json").contains("a-secret"));
    for settings in [
        &["registry.relativeurls", "false"][..],
        &["registry.token_expire_delay", "7"],
        &["registry.issuer", "me"],
        &["registry.read_only_maintenance_enabled", "true"],
    ] {
        root.kdk(&[&["config", "set"], settings].concat()).ok();
    }
    let many = root.kdk(&["reconfigure"]);
    assert!(many.stderr.contains(" and 1 more settings; restarted "), "{many:?}");
}

#[test]
fn words_lead_where_people_meant_to_go() {
    let root = TestRoot::with_registry("");
    root.kdk(&["config", "set", "registry.port=25001"]).ok();
    assert_eq!(root.kdk(&["config", "get", "registry.port"]).ok(), "25001\n");
    assert_eq!(root.kdk(&["config", "get", "registry", "port"]).ok(), "25001\n");
    assert_eq!(
        root.kdk(&["config", "get", "registry.port", "registry.self_signed"])
            .ok(),
        "registry.port: 25001\nregistry.self_signed: false\n"
    );
    let unknown = root.kdk(&["config", "get", "registry.port", "registry.prot"]).fails(1);
    assert!(unknown.contains("there is no setting \"registry.prot\""), "{unknown}");
    let missing = root.kdk(&["config", "set", "registry.port"]).fails(1);
    assert!(missing.contains("kdk config set registry.port VALUE"), "{missing}");
    let far = root.kdk(&["restart", "foo"]).fails(1);
    assert!(
        !far.contains("did you mean") && far.contains("the services are"),
        "{far}"
    );
    // Eighty columns are enough.
    for arguments in [&["config", "list", "--show-origin"][..], &["status"]] {
        let shown = root.kdk(arguments).ok();
        for line in shown.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(shown.lines().count() > 2);
    }
    // Two lines are two lines, since whenever.
    root.kdk(&["reconfigure"]).ok();
    root.kdk(&["start"]).ok();
    wait("the registry has said enough", || {
        let all = root.kdk(&["tail", "registry", "--no-follow", "--since", "1h"]).ok();
        (all.lines().count() > 3).then_some(())
    });
    let two = root
        .kdk(&["tail", "registry", "--no-follow", "--since", "1h", "-n", "2"])
        .ok();
    assert_eq!(two.lines().count(), 2, "{two}");
    // Variables of other tools are no settings.
    let mut check = root.command(&["registry", "config", "check"]);
    Output::of(check.env("REGISTRY_AUTH_FILE", "/home/anna/auth.json")).ok();
    let mut again = root.command(&["reconfigure"]);
    Output::of(again.env("REGISTRY_AUTH_FILE", "/home/anna/auth.json")).ok();
}
