//! The Rails stand-in, through a whole root.

use serde_json::{Value, json};

use crate::support::{Output, TestRoot, wait};
use std::process::Command;

fn get(url: &str, credentials: Option<(&str, &str)>) -> reqwest::blocking::Response {
    let mut request = reqwest::blocking::Client::new().get(url);
    if let Some((user, password)) = credentials {
        request = request.basic_auth(user, Some(password));
    }
    request.send().expect("answered")
}

fn access(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a token");
    let bytes = data_encoding::BASE64URL_NOPAD
        .decode(payload.as_bytes())
        .expect("base64");
    serde_json::from_slice::<Value>(&bytes).expect("JSON")
}

#[test]
fn tokens_grant_what_users_may_do() {
    let root = TestRoot::with_registry("rails:\n  public_repositories: [shared/*]\n");
    root.up();
    // The administrator may see numbers; and what is no name of a repository is refused.
    root.kdk(&["registry", "token", "--scope", "registry:statistics:*"])
        .ok();
    for scope in ["repository:../x:pull", "repository:A/b:pull", "repository:a//b:pull"] {
        let query = format!("?service=container_registry&scope={scope}");
        let refused = get(&root.rails_url(&format!("/jwt/auth{query}")), None);
        assert_eq!(refused.status(), 400, "{scope}");
        assert!(
            refused.text().expect("read").contains("no repository is named"),
            "{scope}"
        );
    }

    let admin = root.token();
    root.kdk(&["user", "add", "anna"]).ok();
    let anna: Value =
        serde_json::from_str(&root.kdk(&["token", "create", "--user", "anna", "--json"]).ok()).expect("JSON");
    let anna = anna["token"].as_str().expect("text").to_owned();
    let ask = |password: &str, scope: &str| -> Value {
        let url = root.rails_url(&format!("/jwt/auth?service=container_registry&scope={scope}"));
        let answer: Value = get(&url, Some(("khulnasoft-token", password))).json().expect("JSON");
        access(answer["token"].as_str().unwrap_or_else(|| panic!("{answer}")))
    };
    let claims = ask(&admin, "registry:catalog:*");
    assert_eq!(
        claims["access"],
        json!([{"type": "registry", "name": "catalog", "actions": ["*"]}])
    );
    assert_eq!(
        (claims["iss"].as_str(), claims["aud"].as_str(), claims["sub"].as_str()),
        (Some("khulnasoft-issuer"), Some("container_registry"), Some("root"))
    );
    assert_eq!(
        claims["exp"].as_u64().expect("a number") - claims["iat"].as_u64().expect("a number"),
        300
    );
    assert_eq!(
        ask(&anna, "repository:anna/app:pull,push")["access"][0]["actions"],
        json!(["pull", "push"])
    );
    assert_eq!(
        ask(&anna, "repository:shared/base:pull,push")["access"][0]["actions"],
        json!(["pull"])
    );
    // What is not hers is dropped beside what is; alone it is refused with the reason.
    let url = |query: &str| root.rails_url(&format!("/jwt/auth?{query}"));
    let both = ask(&anna, "repository:anna/app:pull&scope=repository:root/app:pull");
    assert_eq!(both["access"].as_array().map(Vec::len), Some(1));
    assert_eq!(ask(&anna, "")["access"], json!([]));
    for (scope, reason) in [
        (
            "repository:root/app:pull,push",
            "anna may not push to root/app; images of anna are named anna/…",
        ),
        ("repository:root/app:pull", "anna may not pull from root/app"),
        ("repository:root/app:delete", "anna may not delete from root/app"),
        ("registry:catalog:*", "anna may not use registry catalog"),
    ] {
        let refused = get(
            &url(&format!("service=container_registry&scope={scope}")),
            Some(("x", &anna)),
        );
        let body = crate::support::registry::assert_error(refused, 403, "DENIED");
        let message = body["errors"][0]["message"].as_str().expect("text");
        assert!(message.starts_with(reason), "{message}");
        // podman shows the status alone.
        wait("the reason is logged", || {
            let log = root.kdk(&["tail", "rails", "--no-follow"]).ok();
            log.contains(reason).then_some(())
        });
    }
    assert_eq!(
        get(
            &url("service=container_registry&scope=repository:a/b:pull"),
            Some(("root", "wrong"))
        )
        .status(),
        401
    );
    assert_eq!(
        get(&url("service=container_registry&scope=repository:a/b:pull"), None).status(),
        403
    );
    assert_eq!(
        get(&url("service=container_registry&scope=repository:shared/x:pull"), None).status(),
        200
    );
    assert_eq!(get(&url("service=other"), Some(("root", &admin))).status(), 404);
    assert_eq!(
        get(
            &url("service=container_registry&scope=nonsense"),
            Some(("root", &admin))
        )
        .status(),
        400
    );
    let revoked: Value = serde_json::from_str(&root.kdk(&["token", "list", "--json"]).ok()).expect("JSON");
    assert!(!revoked.to_string().contains(&anna) && revoked[0].get("sha256").is_none());
    root.kdk(&["token", "revoke", &revoked[0]["id"].to_string()]).ok();
    assert_eq!(
        get(&url("service=container_registry"), Some(("root", &admin))).status(),
        401
    );
}

#[test]
fn passwords_come_from_standard_input() {
    let root = TestRoot::with_registry("");
    root.up();
    let add = |password: &str| {
        let script = format!(
            "printf '%s\\n' '{password}' | {} --root {} user add ben --password-stdin",
            crate::support::KDK,
            root.path().display()
        );
        Output::of(Command::new("sh").args(["-c", &script]))
    };
    assert!(add("short").fails(1).contains("at least 8 characters"));
    add("open sesame").ok();
    let url = root.rails_url("/jwt/auth?service=container_registry&scope=repository:ben/x:push");
    assert_eq!(get(&url, Some(("ben", "open sesame"))).status(), 200);
    assert_eq!(get(&url, Some(("root", "open sesame"))).status(), 401);
    let error = root.kdk(&["user", "add", "Ben"]).fails(1);
    assert!(error.contains("lowercase"), "{error}");
}

#[test]
fn pages_list_repositories_and_tags() {
    let root = TestRoot::with_registry("  auth_enabled: true\n");
    root.up();
    assert!(
        get(&root.rails_url("/"), None)
            .text()
            .expect("read")
            .contains("There are no images yet")
    );
    let token = root
        .kdk(&["registry", "token", "--scope", "repository:group/app:pull,push"])
        .ok();
    let client = reqwest::blocking::Client::new();
    let digest = crate::support::registry::digest(b"{}");
    let push = |method: &str, path: &str, body: &str| {
        let request = client
            .request(method.parse().expect("a method"), root.registry_url(path))
            .bearer_auth(token.trim())
            .body(body.to_owned());
        request
            .header("content-type", "application/vnd.oci.image.manifest.v1+json")
            .send()
            .expect("answered")
            .status()
            .as_u16()
    };
    assert_eq!(
        push("POST", &format!("/v2/group/app/blobs/uploads/?digest={digest}"), "{}"),
        201
    );
    let manifest =
        format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{digest}","size":2}},"layers":[]}}"#);
    assert_eq!(push("PUT", "/v2/group/app/manifests/v1", &manifest), 201);
    let front = get(&root.rails_url("/"), None).text().expect("read");
    assert!(
        front.contains("1 repository") && front.contains("/group/app/container_registry"),
        "{front}"
    );
    let project = get(&root.rails_url("/group/container_registry"), None)
        .text()
        .expect("read");
    assert!(
        project.contains("<h2>group/app</h2>") && project.contains("<code>v1</code>"),
        "{project}"
    );
    assert_eq!(get(&root.rails_url("/nothing"), None).status(), 404);
}

#[test]
fn a_push_reaches_rails_as_an_event() {
    let root = TestRoot::with_registry("  notifications_enabled: true\n");
    root.up();
    let url = root.rails_url("/api/v4/container_registry_event/events");
    let client = reqwest::blocking::Client::new();
    let envelope = json!({"events": [{"action": "push", "target": {"repository": "x"}}]}).to_string();
    assert_eq!(
        client
            .post(&url)
            .body(envelope.clone())
            .send()
            .expect("answered")
            .status(),
        401
    );
    assert_eq!(
        client
            .post(&url)
            .header("authorization", "wrong")
            .body(envelope)
            .send()
            .expect("answered")
            .status(),
        401
    );
    let token = root
        .kdk(&["registry", "token", "--scope", "repository:group/app:pull,push"])
        .ok();
    let digest = crate::support::registry::digest(b"{}");
    let pushed = client
        .post(root.registry_url(&format!("/v2/group/app/blobs/uploads/?digest={digest}")))
        .bearer_auth(token.trim())
        .body("{}")
        .send();
    assert_eq!(pushed.expect("answered").status(), 201);
    crate::support::wait("the event is logged", || {
        let log = root.kdk(&["tail", "rails", "--no-follow", "--json", "-n", "100"]).ok();
        log.lines()
            .any(|line| line.contains("registry event") && line.contains(&digest))
            .then_some(())
    });
}

#[test]
fn no_event_blocks_the_queue_of_a_registry() {
    let root = TestRoot::with_registry("  notifications_enabled: true\n");
    root.up();
    let config: serde_yaml::Value = serde_yaml::from_str(&root.read("registry/config.yml")).expect("YAML");
    let secret = config["notifications"]["endpoints"][0]["headers"]["Authorization"][0]
        .as_str()
        .expect("a secret");
    for action in [
        json!("push"),
        json!("mount"),
        json!("rename"),
        json!("from the future"),
        json!(7),
        Value::Null,
    ] {
        let event = json!({"action": action, "target": {"repository": "x", "fromRepository": "y"}});
        let answer = reqwest::blocking::Client::new()
            .post(root.rails_url("/api/v4/container_registry_event/events"))
            .header("authorization", secret)
            .body(json!({"events": [event, {"action": "pull"}]}).to_string())
            .send()
            .expect("answered");
        assert_eq!(answer.status(), 200, "{action}");
    }
}

#[test]
fn tokens_are_had_at_the_registrys_own_address_whatever_rails_speaks() {
    let root = TestRoot::with_registry("https:\n  enabled: true\nrelative_url_root: /khulnasoft\n");
    root.up();
    let challenge = get(&root.registry_url("/v2/"), None);
    let realm = crate::support::registry::header(&challenge, "www-authenticate");
    let own = root.registry_url("/jwt/auth");
    assert!(realm.starts_with(&format!("Bearer realm=\"{own}\"")), "{realm}");
    let token = root.token();
    let query = "?service=container_registry&scope=registry:catalog:*";
    let answer: Value = get(&format!("{own}{query}"), Some(("x", &token))).json().expect("JSON");
    let listed = reqwest::blocking::Client::new()
        .get(root.registry_url("/v2/_catalog"))
        .bearer_auth(answer["token"].as_str().expect("a token"))
        .send();
    assert_eq!(listed.expect("answered").status(), 200);
    // Rails' own address stays, for those who look for it there.
    let certificate = reqwest::Certificate::from_pem(root.read("localhost.crt").as_bytes()).expect("a certificate");
    let client = reqwest::blocking::Client::builder()
        .tls_certs_only([certificate])
        .build()
        .expect("a client");
    let url = format!("https://127.0.0.1:{}/khulnasoft/jwt/auth{query}", root.rails_port);
    let direct = client.get(url).basic_auth("x", Some(&token)).send().expect("trusted");
    assert_eq!(direct.status(), 200);
    let plain = get(&root.rails_url("/khulnasoft/"), None);
    assert_eq!(plain.status(), 400);
    assert!(plain.text().expect("read").contains("https://"));
    assert_eq!(root.service("registry")["health"], "ok");
    // Without the token service the registry says so.
    root.kdk(&["stop", "rails"]).ok();
    let registry = root.service("registry");
    assert_eq!(registry["health"], "no logins");
    let shown = root.kdk(&["status"]);
    let service = format!("https://127.0.0.1:{}/khulnasoft/jwt/auth", root.rails_port);
    assert!(
        shown.stderr.contains(&format!(
            "nobody can log in: the token service {service} does not answer"
        )),
        "{shown:?}"
    );
    assert_eq!(get(&format!("{own}{query}"), Some(("x", &token))).status(), 503);
}

#[test]
fn a_realm_that_is_set_is_where_clients_are_sent() {
    let root = TestRoot::new();
    let settings = |more: &str| {
        format!(
            "port: {}\nregistry:\n  enabled: true\n  port: {}\n  listen_address: 0.0.0.0\n{more}",
            root.rails_port, root.registry_port
        )
    };
    root.write(
        "kdk.yml",
        &settings("  token_realm: http://tokens.test:3000/jwt/auth\n"),
    );
    root.kdk(&["reconfigure"]).ok();
    let file: serde_yaml::Value = serde_yaml::from_str(&root.read("registry/config.yml")).expect("YAML");
    assert_eq!(file["auth"]["token"]["realm"], "http://tokens.test:3000/jwt/auth");
    assert!(file["auth"]["token"].get("forward").is_none());
    // One on the client's own machine would get its password.
    root.write("kdk.yml", &settings("  token_realm: http://127.0.0.1:3000/jwt/auth\n"));
    let refused = root.kdk(&["reconfigure"]).fails(1);
    assert!(
        refused.contains("kdk.yml:6:") && refused.contains("leads to their own machine"),
        "{refused}"
    );
    root.write("kdk.yml", &settings(""));
    let done = root.kdk(&["reconfigure"]);
    assert_eq!(
        done.stderr.matches("cross the network unencrypted").count(),
        1,
        "{done:?}"
    );
    done.ok();
    root.write("kdk.yml", &settings("  self_signed: true\n"));
    let done = root.kdk(&["reconfigure"]);
    assert!(!done.stderr.contains("unencrypted"), "{done:?}");
    done.ok();
    // Encrypted requests do not go on in plain text to another machine.
    root.write(
        "kdk.yml",
        &format!(
            "{}rails:\n  mode: external\n  url: http://198.51.100.77:3000\n",
            settings("  self_signed: true\n")
        ),
    );
    let refused = root.kdk(&["reconfigure"]).fails(1);
    assert!(refused.contains("plain HTTP to another machine"), "{refused}");
}

/// Posts a form to the token service; `from` is the client that the registry names.
fn post(root: &TestRoot, from: &str, form: &[(&str, &str)]) -> reqwest::blocking::Response {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(form);
    reqwest::blocking::Client::new()
        .post(root.rails_url("/jwt/auth"))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-forwarded-for", from)
        .body(text.finish())
        .send()
        .expect("answered")
}

#[test]
fn tokens_are_had_by_form_and_no_lasting_one_is_made() {
    let root = TestRoot::with_registry("");
    root.up();
    let admin = root.token();
    let service = ("service", "container_registry");
    let scope = ("scope", "repository:a/b:pull,push registry:catalog:*");
    let password = [
        ("grant_type", "password"),
        ("username", "root"),
        ("password", &admin),
        service,
        scope,
    ];
    let answer: Value = post(&root, "192.0.2.1", &password).json().expect("JSON");
    let token = answer["access_token"].as_str().expect("a token");
    assert_eq!(access(token)["access"].as_array().map(Vec::len), Some(2));
    assert_eq!(answer["scope"], "repository:a/b:pull,push registry:catalog:*");
    assert_eq!(answer["expires_in"], 300);
    assert!(answer.get("refresh_token").is_none());
    let listed = reqwest::blocking::Client::new()
        .get(root.registry_url("/v2/_catalog"))
        .bearer_auth(token)
        .send();
    assert_eq!(listed.expect("answered").status(), 200);
    let offline = [&password[..], &[("access_type", "offline")]].concat();
    let answer: Value = post(&root, "192.0.2.1", &offline).json().expect("JSON");
    assert_eq!(answer["refresh_token"].as_str(), Some(admin.as_str()));
    let again = [
        ("grant_type", "refresh_token"),
        ("refresh_token", &admin),
        service,
        scope,
    ];
    let answer: Value = post(&root, "192.0.2.1", &again).json().expect("JSON");
    assert_eq!(answer["refresh_token"].as_str(), Some(admin.as_str()));
    assert!(answer["access_token"].is_string());
    let tokens: Value = serde_json::from_str(&root.kdk(&["token", "list", "--json"]).ok()).expect("JSON");
    assert_eq!(tokens.as_array().map(Vec::len), Some(1), "{tokens}");
    for (form, status) in [
        (
            &[
                ("grant_type", "password"),
                ("username", "root"),
                ("password", "khpat-wrong"),
                service,
            ][..],
            401,
        ),
        (
            &[
                ("grant_type", "refresh_token"),
                ("refresh_token", "khpat-wrong"),
                service,
            ],
            401,
        ),
        (&[("grant_type", "refresh_token"), service], 401),
        (&[("grant_type", "magic"), service], 400),
        (&[service], 400),
        (&[("grant_type", "refresh_token"), ("refresh_token", &admin)], 404),
        (
            &[
                ("grant_type", "refresh_token"),
                ("refresh_token", &admin),
                service,
                ("scope", "nonsense"),
            ],
            400,
        ),
    ] {
        assert_eq!(post(&root, "192.0.2.2", form).status(), status, "{form:?}");
    }
    // The password of a user is no token that lasts.
    let script = format!(
        "echo 'open sesame' | {} --root {} user add ben --password-stdin",
        crate::support::KDK,
        root.path().display()
    );
    Output::of(Command::new("sh").args(["-c", &script])).ok();
    let ben = [
        ("grant_type", "password"),
        ("username", "ben"),
        ("password", "open sesame"),
        ("access_type", "offline"),
        service,
    ];
    let answer: Value = post(&root, "192.0.2.1", &ben).json().expect("JSON");
    assert!(
        answer["access_token"].is_string() && answer.get("refresh_token").is_none(),
        "{answer}"
    );
}

#[test]
fn wrong_logins_are_limited_by_address_and_waiting_ones_in_number() {
    let root = TestRoot::with_registry("");
    root.up();
    let admin = root.token();
    let service = ("service", "container_registry");
    let login = |from: &str, password: &str| {
        let form = [
            ("grant_type", "password"),
            ("username", "root"),
            ("password", password),
            service,
        ];
        post(&root, from, &form)
    };
    for _ in 0..10 {
        assert_eq!(login("192.0.2.1", "khpat-wrong").status(), 401);
    }
    let barred = login("192.0.2.1", "khpat-wrong");
    assert_eq!(barred.status(), 429);
    let seconds: u64 = crate::support::registry::header(&barred, "retry-after")
        .parse()
        .expect("a number");
    assert!((1..=60).contains(&seconds), "{seconds}");
    // Others, and who has a token, are let in.
    assert_eq!(login("192.0.2.3", "khpat-wrong").status(), 401);
    assert_eq!(login("192.0.2.1", &admin).status(), 200);
    // A whole network of one client's counts as one.
    for number in 0..10 {
        login(&format!("2001:db8::{number}"), "khpat-wrong");
    }
    assert_eq!(login("2001:db8::ffff", "khpat-wrong").status(), 429);
    // Passwords wait in a short queue, and no token waits behind them.
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let slow: Vec<_> = (0..60)
            .map(|number| {
                let login = &login;
                scope.spawn(move || {
                    login(&format!("198.51.100.{number}"), "a wrong password")
                        .status()
                        .as_u16()
                })
            })
            .collect();
        let began = std::time::Instant::now();
        for _ in 0..5 {
            assert_eq!(login("192.0.2.9", &admin).status(), 200);
        }
        let took = began.elapsed();
        let answers = slow
            .into_iter()
            .map(|thread| thread.join().expect("answered"))
            .collect();
        // Eighteen checks of a password take a core for seconds each in this build.
        let all = began.elapsed();
        assert!(took * 2 < all, "{took:?} of {all:?}");
        answers
    });
    let count = |status: u16| answers.iter().filter(|answer| **answer == status).count();
    assert!(
        count(401) >= 18 && count(429) >= 10 && count(401) + count(429) == 60,
        "{answers:?}"
    );
}
