//! `kdk setup`: what each client is told, put in, and taken out again.

use std::process::Command;

use kdk::clients::setup::edit::Edit;
use kdk::clients::setup::toml::Toml;
use serde_json::Value;

use crate::support::namespace::{ADDRESS, Namespace};
use crate::support::{Output, TestRoot};

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// A change, a file as people have it, what others write into it afterwards,
/// and how the file looks then without what was put in.
struct Case {
    edit: Edit,
    before: &'static str,
    holds: &'static [&'static str],
    later: (&'static str, &'static str),
}

fn cases() -> Vec<Case> {
    let list = |key: &str| Edit::JsonList {
        key: key.to_owned(),
        values: texts(&["registry.test:5000", "kdk.test:5000"]),
    };
    vec![
        Case {
            edit: list("insecure-registries"),
            before: "{\n\t\"data-root\": \"/srv/docker\",\n\t\"insecure-registries\": [\n\t\t\"kdk.test:5000\",\n\t\t\"old.test\"\n\t]\n}\n",
            holds: &[
                "\t\"data-root\": \"/srv/docker\"",
                "\"registry.test:5000\"",
                "\"old.test\"",
            ],
            later: ("/srv/docker", "/mnt/docker"),
        },
        Case {
            edit: Edit::YamlList {
                key: "docker.insecure-registries".to_owned(),
                values: texts(&["registry.test:5000"]),
            },
            before: "# Colima's own.\ncpu: 2\ndocker:\n  # Ours.\n  features:\n    buildkit: true\n  insecure-registries:\n    - \"old.test\"\n",
            holds: &["# Colima's own.", "# Ours.", "old.test", "registry.test:5000"],
            later: ("cpu: 2", "cpu: 4"),
        },
        Case {
            edit: Edit::Toml(
                Toml {
                    each: Some("runners".to_owned()),
                    ..Toml::default()
                }
                .add(
                    &["docker", "volumes"],
                    texts(&["/root/.docker/certs.d:/etc/docker/certs.d", "/cache"]),
                )
                .default_to(&["docker", "pull_policy"], "if-not-present"),
            ),
            before: "concurrent = 4 # as many as cores\n\n[[runners]]\n  name = \"one\"\n  token = \"t\"\n  [runners.docker]\n    image = \"ruby:3.2\"\n    # Mine.\n    volumes = [\"/cache\", \"/src:/src\"]\n\n[[runners]]\n  name = \"two\"\n  [runners.docker]\n    pull_policy = \"always\"\n",
            holds: &[
                "# as many as cores",
                "# Mine.",
                "\"/src:/src\"",
                "/root/.docker/certs.d:/etc/docker/certs.d",
                "pull_policy = \"always\"",
                "pull_policy = \"if-not-present\"",
            ],
            later: ("name = \"two\"", "name = \"three\""),
        },
        Case {
            edit: Edit::Toml(
                Toml::default()
                    .set(&["registry", "registry.test:5000", "http"], true)
                    .set(&["registry", "registry.test:5000", "insecure"], true),
            ),
            before: "debug = true\n# Another registry.\n[registry.\"mirror.test\"]\n  mirrors = [\"a.test\"]\n",
            holds: &[
                "# Another registry.",
                "[registry.\"registry.test:5000\"]",
                "http = true",
            ],
            later: ("debug = true", "debug = false"),
        },
        Case {
            edit: Edit::Lines {
                root: "/home/git/kdk".into(),
                lines: texts(&["198.51.100.10 registry.test kdk.test"]),
            },
            before: "127.0.0.1 localhost\n# By hand.\n192.0.2.1 other\n",
            holds: &["# By hand.", "198.51.100.10 registry.test kdk.test"],
            later: ("192.0.2.1 other", "192.0.2.2 other"),
        },
    ]
}

#[test]
fn what_is_put_into_files_of_people_comes_out_again() {
    for case in cases() {
        let put = case
            .edit
            .put(case.before)
            .unwrap_or_else(|error| panic!("{error}: {}", case.before));
        for text in case.holds {
            assert!(put.contains(text), "{text}: {put}");
        }
        assert_eq!(case.edit.put(&put).as_ref(), Ok(&put), "a second time changes nothing");
        let (from, to) = case.later;
        let edited = put.replace(from, to);
        assert_ne!(edited, put);
        let rest = case.edit.take(&edited, case.before).expect("taken").expect("known");
        assert_eq!(
            rest.trim_end(),
            case.before.replace(from, to).trim_end(),
            "from {edited}"
        );
        // Into nothing, and out of it.
        let alone = case.edit.put("").expect("put");
        assert_eq!(case.edit.put(&alone).as_ref(), Ok(&alone));
        let nothing = case.edit.take(&alone, "").expect("taken").expect("known");
        assert!(
            ["", "{}", "[[runners]]"].contains(&nothing.trim()),
            "{nothing:?} of {alone}"
        );
    }
}

#[test]
fn a_file_that_does_not_parse_is_named_with_its_line() {
    let said = |edit: &Edit, text: &str| edit.put(text).expect_err("refused");
    let cases = cases();
    let json = said(&cases[0].edit, "{\n  \"a\": 1,\n}\n");
    assert!(json.contains("line 3"), "{json}");
    assert!(said(&cases[0].edit, "[]").contains("no JSON object"));
    assert!(said(&cases[0].edit, "{\"insecure-registries\": \"x\"}").contains("insecure-registries is no list"));
    let yaml = said(&cases[1].edit, "docker:\n  features: [\n");
    assert!(yaml.contains("line "), "{yaml}");
    let toml = said(&cases[3].edit, "debug = true\nregistry = [\n");
    assert!(toml.contains("line "), "{toml}");
    let table = said(&cases[3].edit, "registry = 1\n");
    assert!(table.contains("registry is no table"), "{table}");
}

const MODES: [(&str, &str); 3] = [
    (
        "http",
        "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  auth_enabled: true\n  listen_address: 0.0.0.0\n",
    ),
    (
        "https",
        "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  self_signed: true\n  auth_enabled: true\n  listen_address: 0.0.0.0\n",
    ),
    (
        "proxy",
        "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  external_url: https://registry.example.com\n",
    ),
];

/// Says of what format a client's text is, and parses it.
fn parse(client: &str, text: &str) {
    match client {
        "dind" | "ci" | "scanning" | "autodevops" | "external-registry" | "kubernetes" => {
            for document in text.split("---\n") {
                let value: Value =
                    serde_yaml::from_str(document).unwrap_or_else(|error| panic!("{client}: {error}: {text}"));
                assert!(value.is_object(), "{client}: {text}");
            }
        }
        "minikube" | "kind" | "k3d" | "microk8s" | "lima" | "generic" => {
            let mut shell = Command::new("bash");
            shell.args(["-n", "-c", text]);
            Output::of(&mut shell).ok();
        }
        _ => panic!("{client} is of no known format: {text}"),
    }
}

/// Every client says something in every mode, of its own format, and nothing of it is secret.
#[test]
fn every_client_is_printed_in_its_format() {
    for (mode, settings) in MODES {
        let Some(namespace) = Namespace::new(ADDRESS) else {
            return;
        };
        namespace.sh("", "kdk init root").ok();
        std::fs::write(namespace.join("root/kdk.yml"), settings).expect("written");
        namespace.sh("root", "kdk reconfigure").ok();
        let list: Value = serde_json::from_str(&namespace.sh("root", "kdk setup --json").ok()).expect("JSON");
        let clients = list["clients"].as_array().expect("a list");
        assert_eq!(clients.len(), 19);
        let names: Vec<&str> = clients.iter().filter_map(|client| client["name"].as_str()).collect();
        for name in names.iter().chain(&["lima", "crane", "skopeo", "buildx", "pipeline"]) {
            let said = namespace.sh("root", &format!("kdk setup {name} --json"));
            if *name == "nginx" && mode != "proxy" {
                assert!(said.fails(1).contains("kdk config set registry.external_url"));
                continue;
            }
            let said: Value = serde_json::from_str(&said.ok()).expect("JSON");
            let text = said["text"].as_str();
            let files = said["files"].as_array().expect("a list");
            let notes = said["notes"].as_array().expect("a list");
            assert!(
                text.is_some() || !files.is_empty() || !notes.is_empty(),
                "{mode}: {name}: {said}"
            );
            if let Some(text) = text {
                parse(
                    if *name == "pipeline" {
                        "ci"
                    } else if *name == "crane" {
                        "generic"
                    } else {
                        name
                    },
                    text,
                );
            }
            for file in files {
                let path = file["path"].as_str().expect("text");
                let text = file["text"].as_str().expect("text");
                let is_read = match path.rsplit('.').next() {
                    Some("json") => serde_json::from_str::<Value>(text).is_ok(),
                    Some("toml") => text.parse::<toml_edit::DocumentMut>().is_ok(),
                    Some("crt" | "pem") => text.starts_with("-----BEGIN CERTIFICATE-----"),
                    _ => !text.is_empty(),
                };
                assert!(is_read, "{path}: {text}");
            }
            let all = said.to_string();
            assert!(!all.contains("PRIVATE KEY"), "{name}: {all}");
            let secrets = std::fs::read_to_string(namespace.join("root/.kdk/secrets.json")).expect("read");
            let secrets: Value = serde_json::from_str(&secrets).expect("JSON");
            for secret in secrets.as_object().expect("a map").values().filter_map(Value::as_str) {
                assert!(secret.len() < 8 || !all.contains(secret), "{name}: {all}");
            }
        }
    }
}

#[test]
fn names_and_options_that_do_not_fit_are_refused() {
    let root = TestRoot::with(MODES[0].1);
    let unknown = root.kdk(&["setup", "dokcer"]).fails(2);
    assert!(unknown.contains("'docker'"), "{unknown}");
    let other = root.kdk(&["setup", "docker", "--listen", "443"]).fails(2);
    assert!(other.contains("are for nginx"), "{other}");
    root.kdk(&["setup", "--apply"]).fails(2);
    let elsewhere = root.kdk(&["setup", "kind", "--apply"]).fails(1);
    assert!(
        elsewhere.contains("reads no file of this machine") && elsewhere.contains("| sh"),
        "{elsewhere}"
    );
    let off = TestRoot::with("registry:\n  enabled: false\n")
        .kdk(&["setup", "docker"])
        .fails(1);
    assert!(off.contains("registry.enabled true"), "{off}");
}

/// A token in what is printed has a name, expires, and replaces the one before.
#[test]
fn a_pull_secret_holds_a_token_of_its_own() {
    let root = TestRoot::with(MODES[0].1);
    root.kdk(&["reconfigure"]).ok();
    let secret = || {
        let text = root.kdk(&["setup", "kubernetes"]).ok();
        let document: Value = serde_yaml::from_str(text.split("---\n").next().expect("one")).expect("YAML");
        let login = document["data"][".dockerconfigjson"].as_str().expect("text").to_owned();
        let login = data_encoding::BASE64.decode(login.as_bytes()).expect("base64");
        let login: Value = serde_json::from_slice(&login).expect("JSON");
        login["auths"]["registry.test:5000"]["password"]
            .as_str()
            .expect("text")
            .to_owned()
    };
    assert_ne!(secret(), secret());
    let tokens: Value = serde_json::from_str(&root.kdk(&["token", "list", "--json"]).ok()).expect("JSON");
    let ours: Vec<&Value> = tokens
        .as_array()
        .expect("a list")
        .iter()
        .filter(|token| token["name"] == "kdk setup kubernetes")
        .collect();
    assert_eq!(ours.len(), 1, "{tokens}");
    assert!(ours[0]["expires_at"].is_string(), "{tokens}");
    let deployment = root.kdk(&["setup", "kubernetes"]).ok();
    assert!(
        deployment.contains("image: registry.test:5000/my-image:latest"),
        "{deployment}"
    );
    // Without a login there is none.
    root.kdk(&["config", "set", "registry.auth_enabled", "false"]).ok();
    assert!(!root.kdk(&["setup", "kubernetes"]).ok().contains("kind: Secret"));
}
