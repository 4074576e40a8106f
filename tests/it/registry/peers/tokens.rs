//! Tokens, passwords and certificates.

use std::path::Path;
use std::process::Command;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

use crate::registry::api::authorization::{claims, pair_of, public_key};
use crate::support::{KDK, Output, TestRegistry, temporary};

/// Makes a certificate of a kind of key; returns that in PEM, and its thumbprint.
fn certificate(directory: &Path, name: &str, kind: &[&str]) -> (Vec<u8>, String) {
    pair_of(directory, name, kind);
    let thumbprint = public_key(directory, name).thumbprint();
    (
        std::fs::read(directory.join(format!("{name}.key"))).expect("read"),
        thumbprint,
    )
}

fn bundle(directory: &Path, names: &[&str]) -> String {
    let all: Vec<String> = names
        .iter()
        .map(|name| std::fs::read_to_string(directory.join(format!("{name}.crt"))).expect("read"))
        .collect();
    let path = directory.join("bundle.crt");
    std::fs::write(&path, all.concat()).expect("written");
    path.display().to_string()
}

fn section(bundle: &str, more: &str) -> String {
    format!(
        "auth:\n  token:\n    realm: http://127.0.0.1:3000/jwt/auth\n    service: container_registry\n    issuer: khulnasoft-issuer\n    rootcertbundle: {bundle}\n{more}"
    )
}

fn signed(algorithm: Algorithm, kid: &str, key: &EncodingKey) -> String {
    let header = Header {
        kid: Some(kid.to_owned()),
        ..Header::new(algorithm)
    };
    encode(&header, &claims(&["pull"]), key).expect("signed")
}

/// 404 when the token lets in, for there is no such repository.
fn ask(registry: &TestRegistry, token: &str) -> u16 {
    let answer = registry.request("GET", "/v2/a/b/tags/list").bearer_auth(token).send();
    answer.expect("answered").status().as_u16()
}

/// Keys of every kind are found by their thumbprints, and each signs in its own way alone.
#[test]
fn keys_of_every_kind_are_known_by_their_thumbprints() {
    let directory = temporary();
    let path = directory.path();
    let curve = |name: &'static str| ["ec", "-pkeyopt", name];
    let (p256, p256_id) = certificate(path, "p256", &curve("ec_paramgen_curve:P-256"));
    let (p384, p384_id) = certificate(path, "p384", &curve("ec_paramgen_curve:P-384"));
    let (rsa, rsa_id) = certificate(path, "rsa", &["rsa:2048"]);
    let (ed, ed_id) = certificate(path, "ed", &["ed25519"]);
    let p256 = EncodingKey::from_ec_pem(&p256).expect("a key");
    let p384 = EncodingKey::from_ec_pem(&p384).expect("a key");
    let rsa = EncodingKey::from_rsa_pem(&rsa).expect("a key");
    let ed = EncodingKey::from_ed_pem(&ed).expect("a key");
    let all = bundle(path, &["p256", "p384", "rsa", "ed"]);
    let registry = TestRegistry::with(temporary(), &section(&all, ""), &[]);
    let tokens = [
        signed(Algorithm::ES256, &p256_id, &p256),
        signed(Algorithm::ES384, &p384_id, &p384),
        signed(Algorithm::RS256, &rsa_id, &rsa),
        signed(Algorithm::RS512, &rsa_id, &rsa),
        signed(Algorithm::EdDSA, &ed_id, &ed),
    ];
    for token in &tokens {
        assert_eq!(ask(&registry, token), 404, "{token}");
    }
    for (algorithm, kid, key) in [
        (Algorithm::ES256, &p384_id, &p256),
        (Algorithm::ES384, &p256_id, &p384),
        (Algorithm::EdDSA, &p256_id, &ed),
        (Algorithm::ES256, &ed_id, &p256),
        (Algorithm::RS256, &ed_id, &rsa),
    ] {
        assert_eq!(ask(&registry, &signed(algorithm, kid, key)), 401, "{algorithm:?}");
    }
    // Only what is named is taken, of several families, too.
    let named = section(&all, "    signingalgorithms: [RS256, ES256]\n");
    let registry = TestRegistry::with(temporary(), &named, &[]);
    let taken: Vec<u16> = tokens.iter().map(|token| ask(&registry, token)).collect();
    assert_eq!(taken, [404, 401, 404, 401, 401]);
    // A key by itself, from a set.
    let jwks = path.join("keys.json");
    let public = std::fs::read(path.join("public.der")).expect("read");
    // Behind twelve bytes of DER (RFC 8410).
    let x = data_encoding::BASE64URL_NOPAD.encode(&public[12..]);
    let set = serde_json::json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "mine"}]});
    std::fs::write(&jwks, set.to_string()).expect("written");
    let by_set = section(&all, "").replace(
        &format!("rootcertbundle: {all}"),
        &format!("jwks: {}\n    signingalgorithms: [EdDSA]", jwks.display()),
    );
    let registry = TestRegistry::with(temporary(), &by_set, &[]);
    assert_eq!(ask(&registry, &signed(Algorithm::EdDSA, "mine", &ed)), 404);
    assert_eq!(ask(&registry, &signed(Algorithm::RS256, "mine", &rsa)), 401);
}

/// What is no algorithm for tokens keeps the server from starting, by its name.
#[test]
fn unknown_algorithms_are_named() {
    let directory = temporary();
    certificate(directory.path(), "rsa", &["rsa:2048"]);
    let config = directory.path().join("config.yml");
    for algorithm in ["HS256", "none", "XYZ"] {
        let auth = section(
            &bundle(directory.path(), &["rsa"]),
            &format!("    signingalgorithms: [RS256, {algorithm}]\n"),
        );
        let text = format!("version: 0.1\nstorage:\n  inmemory: {{}}\nhttp:\n  addr: 127.0.0.1:0\n{auth}");
        std::fs::write(&config, text).expect("written");
        let error = Output::of(Command::new(KDK).args(["registry", "serve"]).arg(&config)).fails(1);
        let expected = format!("auth.token.signingalgorithms: \"{algorithm}\" is not supported");
        assert!(error.contains(&expected), "{error}");
    }
}

fn htpasswd(lines: &str) -> (tempfile::TempDir, String) {
    let directory = temporary();
    let path = directory.path().join("htpasswd");
    std::fs::write(&path, lines).expect("written");
    let section = format!("auth:\n  htpasswd:\n    realm: people\n    path: {}\n", path.display());
    (directory, section)
}

/// Of several lines of a name the last counts, and of hashes only bcrypt.
#[test]
fn the_last_line_of_a_name_counts() {
    let hash = |password: &str| bcrypt::hash(password, 4).expect("hashed");
    let lines = format!(
        "ana:{}\nana:{}\nbob:{}\nbob:{{SHA}}Et6pb+wgWTVmq3VpLJlJWWgzrck=\n",
        hash("one"),
        hash("two"),
        hash("three")
    );
    let (_kept, section) = htpasswd(&lines);
    let registry = TestRegistry::with(temporary(), &section, &[]);
    let ask = |name: &str, password: &str| {
        let answer = registry.request("GET", "/v2/").basic_auth(name, Some(password)).send();
        answer.expect("answered").status().as_u16()
    };
    assert_eq!(ask("ana", "two"), 200);
    assert_eq!(ask("ana", "one"), 401);
    for password in ["three", "{SHA}Et6pb+wgWTVmq3VpLJlJWWgzrck=", "mypassword"] {
        assert_eq!(ask("bob", password), 401, "{password}");
    }
    let (directory, section) = htpasswd("old:plain\nbob:$apr1$x$y\n");
    let config = directory.path().join("config.yml");
    let text = format!("version: 0.1\nstorage:\n  inmemory: {{}}\nhttp:\n  addr: 127.0.0.1:0\n{section}");
    std::fs::write(&config, text).expect("written");
    let error = Output::of(Command::new(KDK).args(["registry", "serve"]).arg(&config)).fails(1);
    assert!(error.contains("holds no bcrypt entry"), "{error}");
}

/// A name that nobody has takes as much work as one that somebody has: the work
/// is what runs out when there are many, and so it shows without a clock.
#[test]
fn a_name_that_nobody_has_costs_as_much_as_another() {
    let hash = bcrypt::hash("secret", 10).expect("hashed");
    let (_kept, section) = htpasswd(&format!("ana:{hash}\n"));
    let registry = TestRegistry::with(temporary(), &section, &[]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..150)
            .map(|number| {
                let registry = &registry;
                scope.spawn(move || {
                    let request = registry.request("GET", "/v2/");
                    let answer = request.basic_auth(format!("nobody{number}"), Some("x")).send();
                    answer.expect("answered").status().as_u16()
                })
            })
            .collect();
        all.into_iter().map(|asked| asked.join().expect("no panic")).collect()
    });
    assert!(
        statuses.iter().all(|status| [401, 429].contains(status)),
        "{statuses:?}"
    );
    let busy = statuses.iter().filter(|status| **status == 429).count();
    assert!(busy >= 20, "{busy} were told to come again");
}

/// Where nobody is asked who they are, nobody is refused for what they say of it.
#[test]
fn without_authorisation_whatever_is_said_of_it_is_ignored() {
    let registry = TestRegistry::start();
    let path = format!(
        "/v2/a/b/blobs/uploads/?digest={}",
        crate::support::registry::digest(b"content")
    );
    for header in ["Bearer nonsense", "Basic !!!", "Basic eDp5", "What"] {
        let with = |method: &str, path: &str| registry.request(method, path).header("authorization", header);
        assert_eq!(with("GET", "/v2/").send().expect("answered").status(), 200, "{header}");
        let pushed = with("POST", &path).body("content").send().expect("answered");
        assert_eq!(pushed.status(), 201, "{header}");
    }
}
