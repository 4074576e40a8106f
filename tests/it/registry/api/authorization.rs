//! Tokens of every kind, good and forged, against the real server.

use std::path::Path;
use std::process::Command;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::registry::{assert_error, header};
use crate::support::{Output, TestRegistry, temporary};
use kdk::registry::token::PublicKey;

pub struct Signed {
    pub registry: TestRegistry,
    key: Vec<u8>,
    kid: String,
    thumbprint: String,
    certificate: String,
}

fn openssl(directory: &Path, arguments: &[&str]) {
    Output::of(Command::new("openssl").args(arguments).current_dir(directory)).ok();
}

fn pair(directory: &Path, name: &str) {
    pair_of(directory, name, &["rsa:2048"]);
}

/// Makes a key of a kind, and a certificate for it.
pub fn pair_of(directory: &Path, name: &str, kind: &[&str]) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let rest = [
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=tokens",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    openssl(directory, &[&["req", "-x509", "-newkey"], kind, &rest].concat());
}

pub fn public_key(directory: &Path, name: &str) -> PublicKey {
    openssl(
        directory,
        &[
            "pkey",
            "-in",
            &format!("{name}.key"),
            "-pubout",
            "-outform",
            "DER",
            "-out",
            "public.der",
        ],
    );
    PublicKey::from_spki(&std::fs::read(directory.join("public.der")).expect("read")).expect("a key")
}

fn signed() -> Signed {
    signed_with("")
}

/// A registry that takes tokens of a key, with more in its configuration.
pub fn signed_with(more: &str) -> Signed {
    let directory = temporary();
    pair(directory.path(), "good");
    let read = |name: &str| std::fs::read(directory.path().join(name)).expect("read");
    let (key, certificate) = (read("good.key"), String::from_utf8(read("good.crt")).expect("PEM"));
    let public = public_key(directory.path(), "good");
    let bundle = directory.path().join("good.crt");
    let more = format!(
        "auth:\n  token:\n    realm: http://127.0.0.1:3000/jwt/auth\n    service: container_registry\n    issuer: khulnasoft-issuer\n    rootcertbundle: {}\n{more}",
        bundle.display()
    );
    Signed {
        registry: TestRegistry::with(directory, &more, &[]),
        key,
        kid: public.libtrust_id(),
        thumbprint: public.thumbprint(),
        certificate,
    }
}

fn now() -> i64 {
    kdk::sys::clock::Clock::System.now().as_second()
}

pub fn claims(actions: &[&str]) -> Value {
    json!({
        "iss": "khulnasoft-issuer", "sub": "root", "aud": "container_registry", "exp": now() + 60, "nbf": now() - 5, "iat": now(),
        "access": [{"type": "repository", "name": "a/b", "actions": actions}],
    })
}

impl Signed {
    pub fn header(&self) -> Header {
        Header {
            kid: Some(self.kid.clone()),
            ..Header::new(Algorithm::RS256)
        }
    }

    pub fn token(&self, header: &Header, claims: &Value) -> String {
        encode(header, claims, &EncodingKey::from_rsa_pem(&self.key).expect("a key")).expect("signed")
    }

    fn status(&self, method: &str, path: &str, token: &str) -> u16 {
        self.registry
            .request(method, path)
            .bearer_auth(token)
            .send()
            .expect("answered")
            .status()
            .as_u16()
    }
}

const TAGS: &str = "/v2/a/b/tags/list";

#[test]
fn without_a_token_there_is_a_challenge() {
    let signed = signed();
    let answer = signed.registry.get("/v2/");
    assert_eq!(
        header(&answer, "www-authenticate"),
        r#"Bearer realm="http://127.0.0.1:3000/jwt/auth",service="container_registry""#
    );
    assert_error(answer, 401, "UNAUTHORIZED");
    let answer = signed.registry.send("POST", "/v2/a/b/blobs/uploads/");
    assert!(header(&answer, "www-authenticate").ends_with(r#",scope="repository:a/b:pull,push""#));
    assert_eq!(signed.registry.get("/").status(), 200);
}

#[test]
fn three_ways_to_name_the_key_are_understood() {
    let signed = signed();
    let der = signed
        .certificate
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect::<String>();
    let thumbprint = Header {
        kid: Some(signed.thumbprint.clone()),
        ..Header::new(Algorithm::RS256)
    };
    let chain = Header {
        x5c: Some(vec![der]),
        ..Header::new(Algorithm::RS256)
    };
    for header in [signed.header(), thumbprint, chain] {
        assert_eq!(
            signed.status("GET", TAGS, &signed.token(&header, &claims(&["pull"]))),
            404,
            "{header:?}"
        );
    }
    let all = signed.token(&signed.header(), &claims(&["*"]));
    assert_eq!(signed.status("DELETE", "/v2/a/b/manifests/t", &all), 404);
    let mut several = claims(&["pull"]);
    several["aud"] = json!(["other", "container_registry"]);
    assert_eq!(
        signed.status("GET", TAGS, &signed.token(&signed.header(), &several)),
        404
    );
}

#[test]
fn rights_must_suffice() {
    let signed = signed();
    let pull = signed.token(&signed.header(), &claims(&["pull"]));
    let answer = signed
        .registry
        .request("PUT", "/v2/a/b/manifests/t")
        .bearer_auth(&pull)
        .body("{}")
        .send()
        .expect("answered");
    assert!(header(&answer, "www-authenticate").ends_with(r#"error="insufficient_scope""#));
    assert_error(answer, 401, "UNAUTHORIZED");
    for (method, path, expected) in [
        ("HEAD", "/v2/a/b/manifests/t", 404),
        ("PATCH", "/v2/a/b/blobs/uploads/x", 401),
        ("DELETE", "/v2/a/b/blobs/uploads/x", 401),
        // A name is another's, however it begins.
        ("GET", "/v2/other/tags/list", 401),
        ("GET", "/v2/a/tags/list", 401),
        ("GET", "/v2/a/b/c/tags/list", 401),
        ("GET", "/v2/a/bc/tags/list", 401),
        ("GET", "/v2/a%2Fb/tags/list", 404),
        ("GET", "/v2/A/b/tags/list", 404),
    ] {
        assert_eq!(signed.status(method, path, &pull), expected, "{method} {path}");
    }
    assert_eq!(signed.status("GET", "/v2/_catalog", &pull), 401);
    let push = signed.token(&signed.header(), &claims(&["pull", "push"]));
    assert_eq!(signed.status("POST", "/v2/a/b/blobs/uploads/?mount=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855&from=x/y", &push), 401);
}

#[test]
fn es512_is_understood_and_nothing_forged_of_it() {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair};
    let directory = temporary();
    let keys = ["good", "evil"].map(|name| {
        pair_of(directory.path(), name, &["ec", "-pkeyopt", "ec_paramgen_curve:P-521"]);
        let key = format!("{name}.key");
        openssl(
            directory.path(),
            &[
                "pkcs8", "-topk8", "-nocrypt", "-in", &key, "-outform", "DER", "-out", "key.der",
            ],
        );
        let der = std::fs::read(directory.path().join("key.der")).expect("read");
        EcdsaKeyPair::from_pkcs8(&ECDSA_P521_SHA512_FIXED_SIGNING, &der).expect("a key")
    });
    let id = public_key(directory.path(), "good").libtrust_id();
    let more = |algorithms: &str| {
        format!(
            "auth:\n  token:\n    realm: http://127.0.0.1:3000/jwt/auth\n    service: container_registry\n    issuer: khulnasoft-issuer\n    rootcertbundle: {}\n{algorithms}",
            directory.path().join("good.crt").display()
        )
    };
    let sign = |head: Value, claims: &Value, key: &EcdsaKeyPair| {
        let encode = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
        let message = format!(
            "{}.{}",
            encode(head.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let signature = key.sign(&SystemRandom::new(), message.as_bytes()).expect("signed");
        format!("{message}.{}", encode(signature.as_ref()))
    };
    let registry = TestRegistry::with(temporary(), &more(""), &[]);
    let ask = |registry: &TestRegistry, token: &str| {
        let answer = registry.request(
            "GET",
            "/v2/a/b/referrers/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        );
        answer.bearer_auth(token).send().expect("answered").status().as_u16()
    };
    let head = json!({"alg": "ES512", "typ": "JWT", "kid": id});
    let pull = claims(&["pull"]);
    let good = sign(head.clone(), &pull, &keys[0]);
    assert_eq!(ask(&registry, &good), 200);
    assert_eq!(ask(&registry, &sign(head.clone(), &pull, &keys[1])), 401, "another key");
    let other = json!({"alg": "ES512", "kid": "AAAA:BBBB"});
    assert_eq!(ask(&registry, &sign(other, &pull, &keys[0])), 401, "an unknown id");
    let other = json!({"alg": "ES256", "kid": id});
    assert_eq!(ask(&registry, &sign(other, &pull, &keys[0])), 401, "another algorithm");
    assert_eq!(
        ask(&registry, &sign(head.clone(), &claims(&["push"]), &keys[0])),
        401,
        "another right"
    );
    for (claim, value) in [
        ("exp", json!(now() - 100)),
        ("nbf", json!(now() + 100)),
        ("iss", json!("another")),
        ("aud", json!("another")),
    ] {
        let mut wrong = pull.clone();
        wrong[claim] = value;
        assert_eq!(ask(&registry, &sign(head.clone(), &wrong, &keys[0])), 401, "{claim}");
    }
    let cut = good.rsplit_once('.').expect("a signature").0;
    for forged in [format!("{cut}."), format!("{cut}.AAAA"), cut.to_owned()] {
        assert_eq!(ask(&registry, &forged), 401, "{forged}");
    }
    let registry = TestRegistry::with(temporary(), &more("    signingalgorithms: [ES256]\n"), &[]);
    assert_eq!(ask(&registry, &good), 401, "not accepted here");
}

#[test]
fn a_minute_of_clock_difference_is_tolerated() {
    let signed = signed();
    let expired = |seconds: i64| {
        let mut claims = claims(&["pull"]);
        claims["exp"] = (now() - seconds).into();
        signed.status("GET", "/v2/", &signed.token(&signed.header(), &claims))
    };
    assert_eq!((expired(55), expired(65)), (200, 401));
}

#[test]
fn tags_that_a_token_protects_stay() {
    let signed = signed();
    let registry = &signed.registry;
    let all = signed.token(&signed.header(), &claims(&["*"]));
    let manifest = |note: &str| format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"note":"{note}"}}}}"#);
    let put = |tag: &str, note: &str, token: &str| {
        let request = registry.request("PUT", &format!("/v2/a/b/manifests/{tag}"));
        let request = request.header("content-type", crate::support::registry::OCI_INDEX);
        request
            .bearer_auth(token)
            .body(manifest(note))
            .send()
            .expect("answered")
    };
    let delete = |reference: &str, token: &str| {
        let request = registry.request("DELETE", &format!("/v2/a/b/manifests/{reference}"));
        request.bearer_auth(token).send().expect("answered")
    };
    for tag in ["stable", "release-1", "free"] {
        assert_eq!(put(tag, tag, &all).status(), 201);
    }
    let mut limited = claims(&["*"]);
    limited["access"][0]["meta"] = json!({
        "project_path": "a/b",
        "tag_deny_access_patterns": {"push": ["^stable$"], "delete": ["^stable$"]},
        "tag_immutable_patterns": ["^release-"],
    });
    let limited = signed.token(&signed.header(), &limited);
    assert_error(put("stable", "new", &limited), 401, "PROTECTED_TAG");
    assert_error(put("release-1", "new", &limited), 401, "IMMUTABLE_TAG");
    // The same again, or what is not there yet, changes nothing that is protected.
    assert_eq!(put("release-1", "release-1", &limited).status(), 201);
    assert_eq!(put("release-2", "new", &limited).status(), 201);
    assert_error(delete("stable", &limited), 401, "PROTECTED_TAG");
    assert_error(delete("release-1", &limited), 401, "IMMUTABLE_TAG");
    // Nor is a protected tag set beside another.
    let beside = registry.request(
        "PUT",
        &format!(
            "/v2/a/b/manifests/{}?tag=beside&tag=stable",
            crate::support::registry::digest(manifest("new").as_bytes())
        ),
    );
    let beside = beside
        .header("content-type", crate::support::registry::OCI_INDEX)
        .bearer_auth(&limited)
        .body(manifest("new"));
    assert_error(beside.send().expect("answered"), 401, "PROTECTED_TAG");
    assert_eq!(signed.status("GET", "/v2/a/b/manifests/beside", &all), 404);
    let stable = crate::support::registry::digest(manifest("stable").as_bytes());
    assert_error(delete(&stable, &limited), 401, "PROTECTED_MANIFEST");
    assert_eq!(delete("free", &limited).status(), 202);
    assert_eq!(delete(&stable, &all).status(), 202);
    assert_eq!(put("free", "free", &all).status(), 201);
    // What a pattern that is none means is not known: nothing is changed, and
    // everything read.
    let long = "a".repeat(101);
    let with = |push: &[&str], delete: &[&str], immutable: &[&str]| {
        let mut odd = claims(&["*"]);
        odd["access"][0]["meta"] = json!({
            "tag_deny_access_patterns": {"push": push, "delete": delete},
            "tag_immutable_patterns": immutable,
        });
        signed.token(&signed.header(), &odd)
    };
    let (protection, immutability) = ("TAG_PROTECTION_PATTERN_INVALID", "TAG_IMMUTABILITY_PATTERN_INVALID");
    let too_many = "TAG_PATTERN_COUNT_LIMIT_EXCEEDED";
    for (push, delete_, immutable, on_push, on_delete) in [
        (&["("][..], &[][..], &[][..], Some(protection), None),
        (&[], &["("], &[], None, Some(protection)),
        (&[&*long], &[], &[], Some(protection), None),
        (&[], &[], &["["], Some(immutability), Some(immutability)),
        (&["a", "b", "c"], &["d"], &["x", "y", "z"], Some(too_many), None),
        (&["a"], &["b", "c", "d", "e", "f", "g"], &[], None, Some(too_many)),
        // RE2 knows the letters of all languages.
        (&["^\\p{Greek}"], &["^\\p{Lu}"], &[], None, None),
    ] {
        let token = with(push, delete_, immutable);
        assert_eq!(signed.status("GET", "/v2/a/b/manifests/free", &token), 200);
        let pushed = put("free", "free", &token);
        match on_push {
            Some(code) => drop(assert_error(pushed, 400, code)),
            None => assert_eq!(pushed.status(), 201, "{push:?}"),
        }
        let deleted = delete("free", &token);
        if let Some(code) = on_delete {
            assert_error(deleted, 400, code);
        } else {
            assert_eq!(deleted.status(), 202, "{delete_:?}");
            assert_eq!(put("free", "free", &all).status(), 201);
        }
    }
}

#[test]
fn of_two_who_set_an_immutable_tag_at_once_one_does() {
    one_of_two_does(&signed());
}

#[test]
fn of_two_who_set_an_immutable_tag_at_once_one_does_in_a_database() {
    let postgres = crate::support::postgres::TestPostgres::shared();
    postgres.database("immutable");
    one_of_two_does(&signed_with(&postgres.section("immutable", true)));
    postgres.forget("immutable");
}

fn one_of_two_does(signed: &Signed) {
    let registry = &signed.registry;
    let mut limited = claims(&["*"]);
    limited["access"][0]["meta"] = json!({
        "project_path": "a/b",
        "tag_deny_access_patterns": {"push": [], "delete": ["^stable"]},
        "tag_immutable_patterns": ["^release-"],
    });
    let limited = signed.token(&signed.header(), &limited);
    let manifest = |note: &str| format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"note":"{note}"}}}}"#);
    let put = |tag: &str, note: &str| {
        let request = registry.request("PUT", &format!("/v2/a/b/manifests/{tag}"));
        let request = request.header("content-type", crate::support::registry::OCI_INDEX);
        let answer = request.bearer_auth(&limited).body(manifest(note)).send();
        answer.expect("answered").status().as_u16()
    };
    let send = |method: &str, reference: &str| {
        let request = registry.request(method, &format!("/v2/a/b/manifests/{reference}"));
        let answer = request.bearer_auth(&limited).send();
        answer.expect("answered").status().as_u16()
    };
    for round in 0..40 {
        let tag = format!("release-{round}");
        let answers = std::thread::scope(|scope| {
            let both = ["one", "two"].map(|note| {
                let (put, tag) = (&put, &tag);
                scope.spawn(move || put(tag, &format!("{note} {tag}")))
            });
            let mut answers = both.map(|one| one.join().expect("no panic"));
            answers.sort_unstable();
            answers
        });
        assert_eq!(answers, [201, 401], "{tag}");
        // Nor is a manifest deleted that a protected tag comes to stand for.
        let (tag, note) = (format!("stable-{round}"), format!("kept {round}"));
        let own = crate::support::registry::digest(manifest(&note).as_bytes());
        assert_eq!(put("free", &note), 201);
        let (set, deleted) = std::thread::scope(|scope| {
            let setting = scope.spawn(|| put(&tag, &note));
            let deleted = send("DELETE", &own);
            (setting.join().expect("no panic"), deleted)
        });
        assert_eq!(set, 201, "{tag}");
        assert!([202, 401].contains(&deleted), "{tag}: {deleted}");
        assert_eq!(send("GET", &tag), 200, "{tag}: the deletion was answered {deleted}");
    }
}

#[test]
fn keys_come_from_a_set_and_change_with_their_files() {
    let directory = temporary();
    pair(directory.path(), "good");
    pair(directory.path(), "next");
    let jwks = directory.path().join("keys.json");
    let set = |name: &str, id: &str| {
        openssl(
            directory.path(),
            &[
                "rsa",
                "-in",
                &format!("{name}.key"),
                "-noout",
                "-modulus",
                "-out",
                "modulus",
            ],
        );
        let text = std::fs::read_to_string(directory.path().join("modulus")).expect("read");
        let hex = text.trim().trim_start_matches("Modulus=").to_lowercase();
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex");
        let n = data_encoding::BASE64URL_NOPAD.encode(&bytes);
        let keys = json!({"keys": [{"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "kid": id, "n": n, "e": "AQAB", "use": "sig"}]});
        std::fs::write(&jwks, keys.to_string()).expect("written");
    };
    set("good", "first");
    let more = format!(
        "auth:\n  token:\n    autoredirect: true\n    service: container_registry\n    issuer: khulnasoft-issuer\n    jwks: {}\n    signingalgorithms: [RS256]\n",
        jwks.display()
    );
    let serving = temporary();
    let registry = TestRegistry::with(serving, &more, &[]);
    let challenge = header(&registry.get("/v2/"), "www-authenticate");
    assert!(
        challenge.starts_with(&format!("Bearer realm=\"https://{}/auth/token\",", registry.address)),
        "{challenge}"
    );
    let ask = |name: &str, id: &str, algorithm: Algorithm| {
        let key = std::fs::read(directory.path().join(format!("{name}.key"))).expect("read");
        let head = Header {
            kid: Some(id.to_owned()),
            ..Header::new(algorithm)
        };
        let token = encode(
            &head,
            &claims(&["pull"]),
            &EncodingKey::from_rsa_pem(&key).expect("a key"),
        )
        .expect("signed");
        registry
            .request("GET", "/v2/")
            .bearer_auth(token)
            .send()
            .expect("answered")
            .status()
            .as_u16()
    };
    assert_eq!(ask("good", "first", Algorithm::RS256), 200);
    assert_eq!(ask("good", "first", Algorithm::RS512), 401);
    assert_eq!(ask("next", "first", Algorithm::RS256), 401);
    set("next", "second");
    crate::support::wait("the new key counts", || {
        (ask("next", "second", Algorithm::RS256) == 200).then_some(())
    });
    assert_eq!(ask("good", "first", Algorithm::RS256), 401);
    // A set that cannot be used lets nobody in.
    std::fs::write(&jwks, "{").expect("written");
    crate::support::wait("nobody is let in", || {
        (ask("next", "second", Algorithm::RS256) == 401).then_some(())
    });
    registry.wait_for_line(|line| {
        (line["msg"] == "token keys cannot be used any more: everybody is refused").then_some(())
    });
}

#[test]
fn keys_that_become_unusable_let_nobody_in() {
    let signed = signed();
    let bundle = signed.registry.directory.path().join("good.crt");
    let good = std::fs::read(&bundle).expect("read");
    let token = signed.token(&signed.header(), &claims(&["pull"]));
    let ask = || {
        let request = signed.registry.request("GET", "/v2/a/b/tags/list").bearer_auth(&token);
        request.send().expect("answered").status().as_u16()
    };
    assert_eq!(ask(), 404);
    for garbled in [Some(&b""[..]), Some(&b"no certificate"[..]), None] {
        match garbled {
            Some(text) => std::fs::write(&bundle, text).expect("written"),
            None => std::fs::remove_file(&bundle).expect("removed"),
        }
        crate::support::wait("nobody is let in", || (ask() == 401).then_some(()));
        std::fs::write(&bundle, &good).expect("written");
        crate::support::wait("the mended file counts", || (ask() == 404).then_some(()));
    }
}

#[test]
fn forged_tokens_are_refused() {
    let signed = signed();
    let directory = temporary();
    pair(directory.path(), "evil");
    let evil = std::fs::read(directory.path().join("evil.key")).expect("read");
    let evil_der: String = std::fs::read_to_string(directory.path().join("evil.crt"))
        .expect("read")
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let evil_key = EncodingKey::from_rsa_pem(&evil).expect("a key");
    let good = claims(&["*"]);
    let mut forged: Vec<(&str, String)> = Vec::new();
    forged.push((
        "another key under the good id",
        encode(&signed.header(), &good, &evil_key).expect("signed"),
    ));
    let header = Header {
        x5c: Some(vec![evil_der]),
        ..Header::new(Algorithm::RS256)
    };
    forged.push(("a chain of its own", encode(&header, &good, &evil_key).expect("signed")));
    let shared = EncodingKey::from_secret(signed.certificate.as_bytes());
    let header = Header {
        kid: Some(signed.kid.clone()),
        ..Header::new(Algorithm::HS256)
    };
    forged.push((
        "HS256 with the certificate",
        encode(&header, &good, &shared).expect("signed"),
    ));
    let part = |value: &Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    forged.push((
        "no algorithm",
        format!("{}.{}.", part(&json!({"alg": "none", "kid": signed.kid})), part(&good)),
    ));
    forged.push(("nonsense", "a.b.c".to_owned()));
    forged.push(("dots", ".".repeat(6000)));
    // Nobody here understands what it demands (RFC 7515, section 4.1.11).
    let header = Header {
        crit: Some(vec!["exp".to_owned()]),
        ..signed.header()
    };
    forged.push(("a critical extension", signed.token(&header, &good)));
    for (key, value) in [
        ("iss", json!("other")),
        ("aud", json!("other")),
        ("exp", json!(now() - 120)),
        ("nbf", json!(now() + 300)),
        ("exp", Value::Null),
        ("aud", Value::Null),
    ] {
        let mut claims = good.clone();
        claims[key] = value;
        forged.push((key, signed.token(&signed.header(), &claims)));
    }
    for (what, token) in &forged {
        let answer = signed
            .registry
            .request("GET", TAGS)
            .bearer_auth(token)
            .send()
            .expect("answered");
        assert!(header_has_invalid_token(&answer), "{what}: {answer:?}");
        assert_eq!(answer.status(), 401, "{what}");
    }
    let mut late = good.clone();
    late["exp"] = json!(now() - 30);
    assert_eq!(
        signed.status("GET", TAGS, &signed.token(&signed.header(), &late)),
        404,
        "clocks may differ by a minute"
    );
}

fn header_has_invalid_token(answer: &reqwest::blocking::Response) -> bool {
    header(answer, "www-authenticate").contains(r#"error="invalid_token""#)
}

#[test]
fn an_unknown_key_is_named_in_the_log() {
    let signed = signed();
    let header = Header {
        kid: Some("ABCD:EFGH".to_owned()),
        ..Header::new(Algorithm::RS256)
    };
    assert_eq!(
        signed.status("GET", TAGS, &signed.token(&header, &claims(&["pull"]))),
        401
    );
    signed
        .registry
        .wait_for_line(|line| (line["msg"] == r#"token signed by untrusted key with ID: "ABCD:EFGH""#).then_some(()));
    signed
        .registry
        .wait_for_line(|line| (line["msg"] == "error authorizing context: invalid token").then_some(()));
}

/// A chain is followed as far as its certificates allow.
#[test]
fn chains_of_certificates_are_followed_as_far_as_they_allow() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
    let key = || KeyPair::generate().expect("a key");
    let named = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let authority = |name: &str, constraint: BasicConstraints| {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(constraint);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    };
    let free = BasicConstraints::Unconstrained;
    let mut no_signer = authority("between", free);
    no_signer.key_usages = vec![KeyUsagePurpose::CrlSign];
    let mut expired_root = authority("root", free);
    expired_root.not_after = date_time_ymd(2024, 1, 1);
    let mut expired_leaf = named("tokens");
    expired_leaf.not_after = date_time_ymd(2024, 1, 1);
    for (what, root, between, leaf, is_good) in [
        (
            "a good chain",
            authority("root", free),
            authority("between", free),
            named("tokens"),
            true,
        ),
        (
            "short enough",
            authority("root", BasicConstraints::Constrained(1)),
            authority("between", free),
            named("tokens"),
            true,
        ),
        (
            "longer than the root allows",
            authority("root", BasicConstraints::Constrained(0)),
            authority("between", free),
            named("tokens"),
            false,
        ),
        (
            "one between that may not sign",
            authority("root", free),
            no_signer,
            named("tokens"),
            false,
        ),
        (
            "one between that is no authority",
            authority("root", free),
            named("between"),
            named("tokens"),
            false,
        ),
        (
            "a root that expired",
            expired_root,
            authority("between", free),
            named("tokens"),
            false,
        ),
        (
            "a leaf that expired",
            authority("root", free),
            authority("between", free),
            expired_leaf,
            false,
        ),
    ] {
        let (root_key, between_key, leaf_key) = (key(), key(), key());
        let root_certificate = root.self_signed(&root_key).expect("signed");
        let root = Issuer::from_params(&root, &root_key);
        let between_certificate = between.signed_by(&between_key, &root).expect("signed");
        let between = Issuer::from_params(&between, &between_key);
        let leaf = leaf.signed_by(&leaf_key, &between).expect("signed");
        let directory = temporary();
        // Besides, there is a key by its id: a bundle without any is refused.
        pair(directory.path(), "other");
        let bundle = directory.path().join("bundle.crt");
        let other = std::fs::read_to_string(directory.path().join("other.crt")).expect("read");
        std::fs::write(&bundle, format!("{}{other}", root_certificate.pem())).expect("written");
        let more = format!(
            "auth:\n  token:\n    realm: http://127.0.0.1:3000/jwt/auth\n    service: container_registry\n    issuer: khulnasoft-issuer\n    rootcertbundle: {}\n",
            bundle.display()
        );
        let registry = TestRegistry::with(directory, &more, &[]);
        let chain = [&leaf, &between_certificate].map(|one| data_encoding::BASE64.encode(one.der()));
        let header = Header {
            x5c: Some(chain.to_vec()),
            ..Header::new(Algorithm::ES256)
        };
        let key = EncodingKey::from_ec_der(&leaf_key.serialize_der());
        let token = encode(&header, &claims(&["pull"]), &key).expect("signed");
        let answer = registry
            .request("GET", TAGS)
            .bearer_auth(token)
            .send()
            .expect("answered");
        assert_eq!(answer.status().as_u16(), if is_good { 404 } else { 401 }, "{what}");
    }
}
