//! `kdk cert`: what is shown, renewed, brought, and signed by an authority of the root's own.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Output, TestRoot, temporary, wait};

const HTTPS: &str = "  self_signed: true\n  auth_enabled: true\n";

fn up(more: &str) -> TestRoot {
    let root = TestRoot::with_registry(more);
    root.up();
    root
}

/// Returns what `show` says of one certificate.
fn shown(root: &TestRoot, what: &str) -> Value {
    let said: Value = serde_json::from_str(&root.kdk(&["cert", "show", "--json"]).ok()).expect("JSON");
    let all = said["certificates"].as_array().expect("a list");
    let found = all.iter().find(|certificate| certificate["for"] == what);
    found.cloned().unwrap_or_else(|| panic!("{what}: {said}"))
}

/// Waits until the registry serves what its file holds.
fn served(root: &TestRoot) -> Value {
    wait("the file's certificate is served", || {
        let registry = shown(root, "registry");
        (registry["served"][0]["is_the_file"] == true).then_some(registry)
    })
}

fn openssl(arguments: &[&str]) -> String {
    Output::of(Command::new("openssl").args(arguments)).ok()
}

/// A chain for some names, as an authority somewhere gives one: the server's
/// own, an intermediate one's, and the authority's by itself.
struct Chain {
    directory: tempfile::TempDir,
    own: String,
    middle: String,
    top: String,
    key: String,
}

impl Chain {
    fn of(names: &[&str], years: (i32, i32)) -> Self {
        let authority = |name: &str| {
            let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            (params, rcgen::KeyPair::generate().expect("a key"))
        };
        let (top, top_key) = authority("Top");
        let top_pem = top.self_signed(&top_key).expect("signed").pem();
        let top = rcgen::Issuer::new(top, top_key);
        let (middle, middle_key) = authority("Middle");
        let middle_pem = middle.signed_by(&middle_key, &top).expect("signed").pem();
        let middle = rcgen::Issuer::new(middle, middle_key);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        // Of an elliptic curve: only tokens need RSA.
        let key = rcgen::KeyPair::generate().expect("a key");
        Self {
            directory: temporary(),
            own: params.signed_by(&key, &middle).expect("signed").pem(),
            middle: middle_pem,
            top: top_pem,
            key: key.serialize_pem(),
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }
}

#[test]
fn what_is_served_is_shown() {
    let root = up(HTTPS);
    let registry = served(&root);
    assert_eq!(
        (&registry["made_by_kdk"], &registry["certificate"]["self_signed"]),
        (&true.into(), &true.into())
    );
    let text = root.kdk(&["cert", "show"]).ok();
    for line in [
        "registry registry_host.crt",
        "  names   127.0.0.1, localhost",
        "  issuer  itself",
        "  made by kdk, which renews it",
        &format!("  served  at 127.0.0.1:{}", root.registry_port),
        "tokens localhost.crt",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // One that was put there since is not what is served: the server keeps what it has until it reads again.
    root.kdk(&["stop"]).ok();
    let text = root.kdk(&["cert", "show"]).ok();
    assert!(
        text.contains(&format!("not at 127.0.0.1:{}: ", root.registry_port)),
        "{text}"
    );
}

#[test]
fn what_kdk_made_is_renewed_and_what_it_did_not_make_is_not() {
    let root = up(HTTPS);
    let before = root.read("registry_host.crt");
    let said = root.kdk(&["cert", "renew"]);
    assert!(said.stderr.contains("kdk trust-docker-registry"), "{}", said.stderr);
    said.ok();
    let after = root.read("registry_host.crt");
    assert_ne!(after, before);
    served(&root);
    let kept = std::fs::read_dir(root.join(".backups")).expect("there").flatten();
    assert!(
        kept.map(|entry| std::fs::read_to_string(entry.path()).expect("read"))
            .any(|text| text == before)
    );
    // Tokens of the new pair count.
    root.kdk(&["cert", "renew", "--for", "tokens"]).ok();
    let token = root.kdk(&["registry", "token", "--scope", "registry:catalog:*"]).ok();
    let url = format!("https://127.0.0.1:{}/v2/_catalog", root.registry_port);
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let file = root.join("registry_host.crt").display().to_string();
    wait("tokens of the new key count", || {
        let mut curl = Command::new("curl");
        curl.args(["-sf", "--cacert", &file, "-H", &bearer, &url]);
        (Output::of(&mut curl).code == 0).then_some(())
    });
    let chain = Chain::of(&["127.0.0.1", "localhost"], (2020, 2040));
    let pem = chain.file(
        "all.pem",
        &[&chain.own, &chain.middle, &chain.key].map(String::as_str).concat(),
    );
    root.kdk(&["cert", "install", &pem, "--for", "registry"]).ok();
    let refused = root.kdk(&["cert", "renew"]).fails(1);
    assert!(refused.contains("was not made by kdk"), "{refused}");
    let plain = TestRoot::with_registry("");
    assert!(
        plain
            .kdk(&["cert", "renew"])
            .fails(1)
            .contains("registry.self_signed is false")
    );
}

#[test]
fn a_pair_that_is_brought_is_served_and_stays() {
    let root = up(HTTPS);
    let chain = Chain::of(&["127.0.0.1", "localhost"], (2020, 2040));
    let certificate = chain.file("chain.pem", &format!("{}{}", chain.own, chain.middle));
    let key = chain.file("key.pem", &chain.key);
    root.kdk(&["cert", "install", &certificate, &key, "--for", "registry"])
        .ok();
    let registry = served(&root);
    assert_eq!(registry["certificate"]["issuer"], "Middle");
    assert_eq!(registry["made_by_kdk"], false);
    let mode = std::fs::metadata(root.join("registry_host.key"))
        .expect("there")
        .permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    // Who trusts the top trusts it: the chain is served whole.
    let top = chain.file("top.pem", &chain.top);
    let url = format!("https://127.0.0.1:{}/v2/", root.registry_port);
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &top, &url]);
    assert_eq!(Output::of(&mut curl).ok(), "401");
    // An authority would have nothing to sign, and must not take its place where clients look.
    let refused = root.kdk(&["cert", "ca"]).fails(1);
    assert!(
        refused.contains("is yours") && !root.join(".kdk/authority").exists(),
        "{refused}"
    );
    let installed = root.read("registry_host.crt");
    root.kdk(&["reconfigure"]).ok();
    assert_eq!(root.read("registry_host.crt"), installed);

    // For the pages: a pair beside that of tokens, which stays.
    let signing = root.read("localhost.crt");
    let refused = root
        .kdk(&["cert", "install", &certificate, &key, "--for", "rails"])
        .fails(1);
    assert!(refused.contains("https.enabled is false"), "{refused}");
    root.kdk(&["config", "set", "https.enabled", "true"]).ok();
    root.kdk(&["reconfigure"]).ok();
    root.kdk(&["cert", "install", &certificate, &key, "--for", "both"]).ok();
    assert_eq!(root.read("localhost.crt"), signing);
    assert_eq!(root.read("https.crt"), format!("{}{}", chain.own, chain.middle));
    assert!(
        root.read("kdk.yml").contains("certificate: https.crt"),
        "{}",
        root.read("kdk.yml")
    );
    wait("the pages serve it", || {
        (shown(&root, "pages")["served"][0]["is_the_file"] == true).then_some(())
    });
}

#[test]
fn a_pair_that_would_not_work_is_refused_with_its_reason() {
    let root = TestRoot::with_registry(HTTPS);
    root.kdk(&["reconfigure"]).ok();
    let before = [root.read("registry_host.crt"), root.read("registry_host.key")];
    let good = Chain::of(&["127.0.0.1"], (2020, 2040));
    let other = Chain::of(&["127.0.0.1"], (2020, 2040));
    let old = Chain::of(&["127.0.0.1"], (2020, 2021));
    let young = Chain::of(&["127.0.0.1"], (2039, 2040));
    let elsewhere = Chain::of(&["elsewhere.test"], (2020, 2040));
    let key = |chain: &Chain| chain.file("key.pem", &chain.key);
    let encrypted = good.directory.path().join("encrypted.pem").display().to_string();
    openssl(&[
        "pkey",
        "-in",
        &key(&good),
        "-aes256",
        "-passout",
        "pass:secret",
        "-out",
        &encrypted,
    ]);
    let cases: [(String, Option<String>, &str); 9] = [
        (
            good.file("a", &good.own),
            Some(key(&other)),
            "does not go with the first certificate",
        ),
        (
            good.file("b", &format!("{}{}", good.middle, good.own)),
            Some(key(&good)),
            "a chain begins with the server's own",
        ),
        (
            good.file("c", &format!("{}{}", good.own, other.middle)),
            Some(key(&good)),
            "the chain is broken: certificate 1",
        ),
        (old.file("d", &old.own), Some(key(&old)), "expired on 2021-01-01"),
        (young.file("e", &young.own), Some(key(&young)), "does not hold before"),
        (
            elsewhere.file("f", &elsewhere.own),
            Some(key(&elsewhere)),
            "does not hold for 127.0.0.1, but for elsewhere.test",
        ),
        (good.file("g", &good.own), None, "there is no private key in it"),
        (
            good.file("h", "nothing"),
            Some(key(&good)),
            "there is no certificate in it",
        ),
        (good.file("i", &good.own), Some(encrypted), "its key is encrypted"),
    ];
    for (certificate, key, expected) in cases {
        let mut arguments = vec!["cert", "install", &certificate];
        arguments.extend(key.as_deref());
        arguments.extend(["--for", "registry"]);
        let refused = root.kdk(&arguments).fails(1);
        assert!(
            refused.contains(expected) && refused.contains("nothing was changed"),
            "{expected}: {refused}"
        );
    }
    assert_eq!([root.read("registry_host.crt"), root.read("registry_host.key")], before);
    // One that lacks a name that somebody may use is taken, with a word.
    let pem = good.file("j", &format!("{}{}", good.own, good.key));
    let said = root.kdk(&["cert", "install", &pem, "--for", "registry"]);
    assert!(
        said.stderr.contains("it does not hold for localhost"),
        "{}",
        said.stderr
    );
    said.ok();
}

/// Who trusts the root's own authority trusts the registry under every name and key it will have.
#[test]
fn an_authority_of_the_root_s_own() {
    let root = up(HTTPS);
    root.kdk(&["cert", "ca"]).ok();
    let authority = root.join(".kdk/authority/ca.crt").display().to_string();
    let key = root.join(".kdk/authority/ca.key");
    let mode = std::fs::metadata(&key).expect("there").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    let curl = |port: u16| {
        let url = format!("https://localhost:{port}/v2/");
        let mut curl = Command::new("curl");
        curl.args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--cacert",
            &authority,
            &url,
        ]);
        Output::of(&mut curl)
    };
    served(&root);
    assert_eq!(curl(root.registry_port).ok(), "401");
    let trusted =
        |path: &str| std::fs::read_to_string(root.join("home/.config/containers/certs.d").join(path)).expect("read");
    let _ = root.kdk(&["trust-docker-registry"]);
    let place = format!("127.0.0.1:{}/ca.crt", root.registry_port);
    assert_eq!(trusted(&place), std::fs::read_to_string(&authority).expect("read"));
    // A new key, and a new name: nobody must be told.
    let renewed = root.kdk(&["cert", "renew"]);
    assert!(!renewed.stderr.contains("trust-docker-registry"), "{}", renewed.stderr);
    renewed.ok();
    root.kdk(&["config", "set", "registry.certificate_names", "[other.test]"])
        .ok();
    root.kdk(&["reconfigure"]).ok();
    let registry = served(&root);
    assert!(
        registry["certificate"]["names"].to_string().contains("other.test"),
        "{registry}"
    );
    assert_eq!(curl(root.registry_port).ok(), "401");
    assert_eq!(trusted(&place), std::fs::read_to_string(&authority).expect("read"));

    // A name that it may not sign for is refused before a certificate is made that nobody accepts.
    let before = root.read("registry_host.crt");
    root.kdk(&["config", "set", "registry.certificate_names", "[www.example.com]"])
        .ok();
    let refused = root.kdk(&["reconfigure"]).fails(1);
    assert!(refused.contains("may not sign for www.example.com"), "{refused}");
    assert_eq!(root.read("registry_host.crt"), before);
    root.kdk(&["config", "set", "registry.certificate_names", "['*.other.test']"])
        .ok();
    root.kdk(&["reconfigure"]).ok();
    let text = openssl(&[
        "x509",
        "-noout",
        "-text",
        "-in",
        &root.join("registry_host.crt").display().to_string(),
    ]);
    assert!(
        text.contains("Authority Key Identifier") && text.contains("DNS:*.other.test"),
        "{text}"
    );

    // It signs for no site on the internet: clients refuse what it would sign.
    let path = |name: &str| root.join(name).display().to_string();
    openssl(&[
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=x",
        "-keyout",
        &path("x.key"),
        "-out",
        &path("x.csr"),
    ]);
    for (name, is_permitted) in [("www.example.com", false), ("any.registry.test", true)] {
        root.write("x.ext", &format!("subjectAltName=DNS:{name}\n"));
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &path("x.csr"),
            "-CA",
            &authority,
            "-CAkey",
            key.to_str().expect("UTF-8"),
            "-CAcreateserial",
            "-extfile",
            &path("x.ext"),
            "-out",
            &path("x.crt"),
        ]);
        let verified = Output::of(Command::new("openssl").args(["verify", "-CAfile", &authority, &path("x.crt")]));
        assert_eq!(
            verified.code == 0,
            is_permitted,
            "{name}: {}{}",
            verified.stdout,
            verified.stderr
        );
    }

    // One that is brought is what clients must trust, authority or not.
    let chain = Chain::of(&["127.0.0.1", "localhost"], (2020, 2040));
    let pem = chain.file(
        "all.pem",
        &[&chain.own, &chain.middle, &chain.key].map(String::as_str).concat(),
    );
    let before = [root.read("registry_host.crt"), root.read("registry_host.key")];
    root.kdk(&["cert", "install", &pem, "--for", "registry"]).ok();
    let _ = root.kdk(&["trust-docker-registry"]);
    assert_eq!(trusted(&place), root.read("registry_host.crt"));
    root.write("registry_host.crt", &before[0]);
    root.write("registry_host.key", &before[1]);
    root.kdk(&["reconfigure"]).ok();

    assert!(root.kdk(&["cert", "ca", "--remove"]).refused().contains("--yes"));
    root.kdk(&["cert", "ca", "--remove", "--yes"]).ok();
    assert!(!Path::new(&authority).exists());
    assert_eq!(served(&root)["certificate"]["self_signed"], true);
    curl(root.registry_port).refused();
}

/// Whenever a command that puts a pair in its place is killed, the next one goes on.
#[test]
fn a_kill_between_a_certificate_and_its_key_leaves_one_pair() {
    let root = up(HTTPS);
    let chain = Chain::of(&["127.0.0.1", "localhost"], (2020, 2040));
    let certificate = chain.file("chain.pem", &format!("{}{}", chain.own, chain.middle));
    let key = chain.file("key.pem", &chain.key);
    let install = ["cert", "install", &certificate, &key, "--for", "registry"];
    for (command, times) in [(&["cert", "renew"][..], 3), (&install, 3)] {
        for time in 1..=times {
            let before = root.read("registry_host.crt");
            let killed = Output::of(root.command(command).env("KDK_FAILPOINTS", format!("pair=kill@{time}")));
            assert_ne!(killed.code, 0, "{command:?} was to be killed at {time}");
            assert!(root.join(".kdk/pair.json").exists(), "{command:?} at {time}");
            root.kdk(&["restart", "registry"]).ok();
            assert!(!root.join(".kdk/pair.json").exists());
            let registry = served(&root);
            assert_eq!(registry["key"]["state"], "good", "{command:?} at {time}");
            // Of one that is there already nothing more is put.
            if command[1] == "renew" || time == 1 {
                assert_ne!(root.read("registry_host.crt"), before, "{command:?} at {time}");
            }
        }
    }
    assert_eq!(root.read("registry_host.crt"), format!("{}{}", chain.own, chain.middle));
}

#[test]
fn keys_are_shown_as_they_are() {
    let root = up(HTTPS);
    let state = |what: &str| shown(&root, what)["key"]["state"].clone();
    assert_eq!((state("registry"), state("tokens")), ("good".into(), "good".into()));
    let key = root.join("registry_host.key");
    let loose = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&key, loose).expect("set");
    assert_eq!(state("registry"), "readable by others");
    let text = root.kdk(&["cert", "show"]).ok();
    assert!(
        text.contains("  key     registry_host.key: others may read it"),
        "{text}"
    );
    root.kdk(&["reconfigure"]).ok();
    assert_eq!(state("registry"), "good");
    std::fs::copy(root.join("localhost.key"), &key).expect("copied");
    assert_eq!(state("registry"), "another's");
    std::fs::remove_file(&key).expect("removed");
    assert_eq!(state("registry"), "missing");
}

/// No authority of the world signs localhost: that is no reason to complain.
#[test]
fn a_pair_of_one_s_own_need_not_hold_for_loopback() {
    let root =
        TestRoot::with_registry("  self_signed: true\n  host: registry.test\n  certificate_names: [other.test]\n");
    let complaint = |root: &TestRoot| root.kdk(&["reconfigure"]).stderr.contains("not valid for");
    root.kdk(&["reconfigure"]).ok();
    for (names, expected) in [
        (&["registry.test", "other.test"][..], false),
        (&["registry.test"], true),
    ] {
        let chain = Chain::of(names, (2020, 2040));
        let pem = chain.file(
            "all.pem",
            &[&chain.own, &chain.middle, &chain.key].map(String::as_str).concat(),
        );
        root.kdk(&["cert", "install", &pem, "--for", "registry"]).ok();
        assert_eq!(complaint(&root), expected, "{names:?}");
    }
}

/// What somebody put there after a kill is not replaced by what was begun.
#[test]
fn what_was_begun_gives_way_to_what_is_newer() {
    let root = up(HTTPS);
    let begun = Output::of(root.command(&["cert", "renew"]).env("KDK_FAILPOINTS", "pair=kill@1"));
    assert_ne!(begun.code, 0);
    let chain = Chain::of(&["127.0.0.1", "localhost"], (2020, 2040));
    root.write("registry_host.crt", &format!("{}{}", chain.own, chain.middle));
    root.write("registry_host.key", &chain.key);
    root.kdk(&["restart", "registry"]).ok();
    assert!(!root.join(".kdk/pair.json").exists());
    assert_eq!(root.read("registry_host.crt"), format!("{}{}", chain.own, chain.middle));
    // Nor does a copy of a root touch the first one's.
    let begun = Output::of(
        root.command(&["cert", "renew", "--for", "tokens"])
            .env("KDK_FAILPOINTS", "pair=kill@1"),
    );
    assert_ne!(begun.code, 0);
    let before = root.read("localhost.crt");
    let copy = temporary();
    Output::of(Command::new("cp").arg("-a").arg(root.path().join(".")).arg(copy.path())).ok();
    let there = copy.path().to_str().expect("UTF-8");
    root.kdk(&["--root", there, "reconfigure", "--no-restart"]).ok();
    assert_eq!(root.read("localhost.crt"), before);
}
