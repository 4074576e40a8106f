//! The Rails stand-in, through a whole root.

use serde_json::{Value, json};

use crate::support::{Output, TestRoot};
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
    assert_eq!(ask(&anna, "repository:root/app:pull")["access"], json!([]));
    assert_eq!(ask(&anna, "registry:catalog:*")["access"], json!([]));
    let url = |query: &str| root.rails_url(&format!("/jwt/auth?{query}"));
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
fn the_realm_follows_https_and_the_relative_root() {
    let root = TestRoot::with_registry("https:\n  enabled: true\nrelative_url_root: /khulnasoft\n");
    root.up();
    let challenge = get(&root.registry_url("/v2/"), None);
    let realm = crate::support::registry::header(&challenge, "www-authenticate");
    assert!(
        realm.contains(&format!("https://127.0.0.1:{}/khulnasoft/jwt/auth", root.rails_port)),
        "{realm}"
    );
    let certificate = reqwest::Certificate::from_pem(root.read("localhost.crt").as_bytes()).expect("a certificate");
    let client = reqwest::blocking::Client::builder()
        .tls_certs_only([certificate])
        .build()
        .expect("a client");
    let token = root.token();
    let url = format!(
        "https://127.0.0.1:{}/khulnasoft/jwt/auth?service=container_registry",
        root.rails_port
    );
    assert_eq!(
        client
            .get(url)
            .basic_auth("x", Some(token))
            .send()
            .expect("trusted")
            .status(),
        200
    );
    let plain = get(&root.rails_url("/khulnasoft/"), None);
    assert_eq!(plain.status(), 400);
    assert!(plain.text().expect("read").contains("https://"));
}
