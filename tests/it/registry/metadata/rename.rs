//! `PATCH /gitlab/v1/repositories/…`: projects that get another path.

use reqwest::blocking::Response;
use serde_json::{Value, json};

use crate::registry::api::authorization::{claims, signed_with};
use crate::registry::settings::receiver;
use crate::support::postgres::TestPostgres;
use crate::support::registry::{TestRegistry, assert_error};
use crate::support::temporary;

fn registry(name: &str, more: &str) -> TestRegistry {
    let postgres = TestPostgres::shared();
    postgres.database(name);
    TestRegistry::with(temporary(), &format!("{}{more}", postgres.section(name, true)), &[])
}

fn rename(registry: &TestRegistry, path: &str, body: &Value) -> Response {
    registry
        .request("PATCH", &format!("/gitlab/v1/repositories/{path}"))
        .body(body.to_string())
        .send()
        .expect("answered")
}

fn catalog(registry: &TestRegistry) -> Vec<String> {
    let answer: Value = registry.get("/v2/_catalog").json().expect("JSON");
    serde_json::from_value(answer["repositories"].clone()).expect("names")
}

#[test]
fn a_project_is_renamed_and_moved_with_all_below_it() {
    let (port, events) = receiver(vec![200; 20]);
    let endpoint = format!(
        "notifications:\n  endpoints:\n    - name: listener\n      url: http://127.0.0.1:{port}/\n      timeout: 2s\n      ignore:\n        actions: [push, pull]\n"
    );
    let registry = registry("rename_project", &endpoint);
    let (bytes, image) = registry.push_image("group/project", "t", "one");
    registry.push_image("group/project/sub/deep", "t", "two");
    registry.push_image("group/projected", "t", "three");
    let tree = |registry: &TestRegistry, path: &str| {
        let answer = registry.get(&format!("/v2/{path}/manifests/t"));
        (answer.status().as_u16(), answer.bytes().expect("a body").to_vec())
    };
    assert_eq!(
        rename(&registry, "group/project/", &json!({"name": "new-name"})).status(),
        204
    );
    assert_eq!(
        catalog(&registry),
        ["group/new-name", "group/new-name/sub/deep", "group/projected"]
    );
    assert_eq!(tree(&registry, "group/new-name"), (200, bytes));
    assert_eq!(tree(&registry, "group/project").0, 404);
    let details: Value = registry
        .get("/gitlab/v1/repositories/group/new-name/")
        .json()
        .expect("JSON");
    assert_eq!(details["name"], "new-name");
    // Into a namespace, with and without a slash at the address's end.
    assert_eq!(
        rename(&registry, "group/new-name", &json!({"namespace": "group/other/far"})).status(),
        204
    );
    assert_eq!(
        catalog(&registry),
        [
            "group/other/far/new-name",
            "group/other/far/new-name/sub/deep",
            "group/projected"
        ]
    );
    // What is pushed afterwards is one with it; the old path is free.
    registry.push_image("group/other/far/new-name", "u", "four");
    registry.push_image("group/project", "t", "five");
    let deleted = registry.send("DELETE", &format!("/v2/group/other/far/new-name/manifests/{image}"));
    assert_eq!(deleted.status(), 202);
    for (kind, from, to) in [
        ("name", "group/project", "group/new-name"),
        ("namespace", "group/new-name", "group/other/far/new-name"),
    ] {
        let (_, event) = events
            .recv_timeout(std::time::Duration::from_secs(10))
            .expect("an event");
        let event: Value = serde_json::from_str(&event).expect("JSON");
        let event = &event["events"][0];
        assert_eq!(
            (&event["action"], &event["target"]["repository"]),
            (&json!("rename"), &json!(from))
        );
        assert_eq!(event["target"]["rename"], json!({"type": kind, "from": from, "to": to}));
    }
    TestPostgres::shared().forget("rename_project");
}

#[test]
fn a_rehearsal_that_is_asked_for_oddly_renames_nothing() {
    let registry = registry("rename_rehearsal", "");
    registry.push_image("group/one", "t", "one");
    for query in [
        "dry_run",
        "dry_run=",
        "dry_run=1",
        "dry_run=TRUE",
        "dry_run=yes",
        "dry_run=&dry_run=true",
    ] {
        let answer = rename(&registry, &format!("group/one/?{query}"), &json!({"name": "two"}));
        assert_error(answer, 400, "INVALID_QUERY_PARAMETER_TYPE");
    }
    assert_eq!(catalog(&registry), ["group/one"]);
    TestPostgres::shared().forget("rename_rehearsal");
}

#[test]
fn a_path_is_kept_for_who_asked_first() {
    let postgres = TestPostgres::shared();
    let registry = registry("rename_lease", "");
    // Another server on the same database.
    let other = TestRegistry::with(temporary(), &postgres.section("rename_lease", true), &[]);
    registry.push_image("group/one", "t", "one");
    registry.push_image("group/two", "t", "two");
    let dry = |registry: &TestRegistry, path: &str| {
        rename(registry, &format!("{path}/?dry_run=true"), &json!({"name": "wanted"}))
    };
    let answer = dry(&registry, "group/one");
    assert_eq!(answer.status(), 202);
    let ttl: Value = answer.json().expect("JSON");
    let ttl: jiff::Timestamp = ttl["ttl"].as_str().expect("text").parse().expect("a time");
    let left = ttl.as_second() - kdk::sys::clock::Clock::System.now().as_second();
    assert!((50..=61).contains(&left), "{left} seconds");
    assert_eq!(
        catalog(&registry),
        ["group/one", "group/two"],
        "a dry run changes nothing"
    );
    assert_error(dry(&other, "group/two"), 409, "RENAME_CONFLICT");
    let kept = rename(&other, "group/two/", &json!({"name": "wanted"}));
    let kept = assert_error(kept, 409, "RENAME_CONFLICT").to_string();
    assert!(kept.contains("is reserved by another rename until 2"), "{kept}");
    // Its holder may ask again, and go on, wherever.
    assert_eq!(dry(&other, "group/one").status(), 202);
    // A lease ends by itself,
    postgres.sql("rename_lease", "UPDATE kdk.repository_leases SET expires_at = now()");
    assert_eq!(dry(&other, "group/two").status(), 202);
    postgres.sql("rename_lease", "UPDATE kdk.repository_leases SET expires_at = now()");
    assert_eq!(rename(&other, "group/one/", &json!({"name": "wanted"})).status(), 204);
    assert_eq!(catalog(&registry), ["group/two", "group/wanted"]);
    // and with the renaming; then what is there is in the way.
    let leases = "SELECT count(*) FROM kdk.repository_leases";
    assert_eq!(postgres.sql("rename_lease", leases).trim(), "0");
    assert_error(dry(&registry, "group/two"), 409, "RENAME_CONFLICT");
    assert_error(
        rename(&registry, "group/two/", &json!({"name": "two"})),
        409,
        "RENAME_CONFLICT",
    );
    postgres.forget("rename_lease");
}

/// Renames all of these at once; returns the statuses.
fn at_once(registry: &TestRegistry, renames: &[(String, String)]) -> Vec<u16> {
    std::thread::scope(|scope| {
        let all: Vec<_> = renames
            .iter()
            .map(|(from, name)| {
                scope.spawn(move || {
                    rename(registry, &format!("{from}/"), &json!({"name": name}))
                        .status()
                        .as_u16()
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("answered")).collect()
    })
}

#[test]
fn many_at_once_leave_each_path_to_one() {
    let registry = registry("rename_race", "");
    let count = |statuses: &[u16], wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    for round in 0..10 {
        // Projects that have no repository of their own, only some below them.
        let group = format!("g{round}");
        for number in 0..4 {
            registry.push_image(&format!("{group}/p{number}/img{number}"), "t", "x");
        }
        let many: Vec<_> = (0..4)
            .map(|number| (format!("{group}/p{number}"), "wanted".to_owned()))
            .collect();
        let statuses = at_once(&registry, &many);
        assert_eq!((count(&statuses, 204), count(&statuses, 409)), (1, 3), "{statuses:?}");
        let there = catalog(&registry);
        let below = |prefix: String| there.iter().filter(|name| name.starts_with(&prefix)).count();
        assert_eq!((below(format!("{group}/wanted/")), below(format!("{group}/"))), (1, 4));
        // One project, to several paths: it has one of them afterwards.
        let one: Vec<_> = (0..4)
            .map(|number| (format!("{group}/wanted"), format!("n{number}")))
            .collect();
        let statuses = at_once(&registry, &one);
        assert_eq!((count(&statuses, 204), count(&statuses, 404)), (1, 3), "{statuses:?}");
    }
    TestPostgres::shared().forget("rename_race");
}

#[test]
fn what_cannot_be_renamed_is_refused() {
    let postgres = TestPostgres::shared();
    let registry = registry("rename_refused", "");
    registry.push_image("group/project", "t", "one");
    registry.push_image("group/taken/below", "t", "two");
    registry.push_image("single", "t", "three");
    for (path, body, code) in [
        ("group/project/", json!({}), "INVALID_BODY_PARAMETER"),
        (
            "group/project/",
            json!({"name": "a", "namespace": "group"}),
            "INVALID_BODY_PARAMETER",
        ),
        (
            "group/project/",
            json!({"namespace": "elsewhere"}),
            "INVALID_BODY_PARAMETER",
        ),
        (
            "group/project/",
            json!({"namespace": "group/project"}),
            "INVALID_BODY_PARAMETER",
        ),
        ("single/", json!({"name": "other"}), "INVALID_BODY_PARAMETER"),
        (
            "group/project/",
            json!({"name": "UPPER"}),
            "INVALID_BODY_PARAMETER_TYPE",
        ),
        ("group/project/", json!({"name": "a/b"}), "INVALID_BODY_PARAMETER_TYPE"),
        (
            "group/project/",
            json!({"name": "a".repeat(300)}),
            "INVALID_BODY_PARAMETER_TYPE",
        ),
        (
            "group/project/",
            json!({"namespace": "group//x"}),
            "INVALID_BODY_PARAMETER_TYPE",
        ),
        ("group/project/", json!({"name": 5}), "INVALID_JSON_BODY"),
        (
            "group/project/",
            json!({"name": null, "namespace": null}),
            "INVALID_BODY_PARAMETER",
        ),
        (
            "group/project/",
            json!({"name": "a".repeat(20_000)}),
            "INVALID_JSON_BODY",
        ),
        (
            "group/project/?dry_run=maybe",
            json!({"name": "a"}),
            "INVALID_QUERY_PARAMETER_TYPE",
        ),
    ] {
        assert_error(rename(&registry, path, &body), 400, code);
    }
    assert_error(
        rename(&registry, "group/none/", &json!({"name": "a"})),
        404,
        "NAME_UNKNOWN",
    );
    assert_error(
        rename(&registry, "none/at/", &json!({"name": "a"})),
        404,
        "NAME_UNKNOWN",
    );
    // Something below the new path is in the way, too.
    let taken = rename(&registry, "group/project/", &json!({"name": "taken"}));
    assert_error(taken, 409, "RENAME_CONFLICT");
    let many = |count: u32, path: &str| {
        postgres.sql(
            "rename_refused",
            &format!(
                "INSERT INTO repositories (top_level_namespace_id, name, path)
                    SELECT id, 'n' || i, {path} || i FROM top_level_namespaces, generate_series(1, {count}) AS i
                    WHERE top_level_namespaces.name = 'group'"
            ),
        )
    };
    many(1000, "'group/many/n'");
    assert_eq!(rename(&registry, "group/many/", &json!({"name": "more"})).status(), 204);
    many(1, "'group/more/x'");
    assert_error(
        rename(&registry, "group/more/", &json!({"name": "many"})),
        422,
        "EXCEEDS_LIMITS",
    );
    many(1, "'group/long/' || repeat('x', 243)");
    assert_error(
        rename(&registry, "group/long/", &json!({"name": "longer"})),
        400,
        "INVALID_BODY_PARAMETER",
    );
    // Who may not make the schema of leases is told so.
    postgres.sql("postgres", "CREATE DATABASE rename_poor TEMPLATE template_kdk");
    postgres.sql(
        "rename_poor",
        "CREATE ROLE poor LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO poor;
            GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO poor",
    );
    let section = postgres
        .section("rename_poor", true)
        .replace("user: postgres", "user: poor");
    let poor = TestRegistry::with(temporary(), &section, &[]);
    poor.push_image("a/b", "t", "x");
    assert_error(rename(&poor, "a/b/", &json!({"name": "c"})), 404, "NOT_IMPLEMENTED");
    // Nor may it use what another made.
    postgres.sql(
        "rename_poor",
        "CREATE TABLE kdk.repository_leases (path text PRIMARY KEY, granted_to text, expires_at timestamptz)",
    );
    assert_error(rename(&poor, "a/b/", &json!({"name": "c"})), 404, "NOT_IMPLEMENTED");
    drop(poor);
    postgres.forget("rename_poor");
    postgres.forget("rename_refused");
}

#[test]
fn a_token_names_the_project_and_where_it_may_go() {
    let postgres = TestPostgres::shared();
    postgres.database("rename_token");
    let signed = signed_with(&postgres.section("rename_token", true));
    let access = |list: Value| {
        let mut claims = claims(&[]);
        claims["access"] = list;
        signed.token(&signed.header(), &claims)
    };
    let all = |project: &str| {
        json!([
            {"type": "repository", "name": "g/p", "actions": ["pull", "push"], "meta": {"project_path": project}},
            {"type": "repository", "name": "g/p/*", "actions": ["pull"], "meta": {"project_path": project}},
        ])
    };
    let push = access(json!([{"type": "repository", "name": "g/p", "actions": ["*"]}]));
    let config = signed
        .registry
        .request(
            "POST",
            &format!(
                "/v2/g/p/blobs/uploads/?digest={}",
                crate::support::registry::digest(b"{}")
            ),
        )
        .bearer_auth(&push)
        .body("{}")
        .send()
        .expect("answered");
    assert_eq!(config.status(), 201);
    let patch = |token: &str, body: Value| {
        let request = signed.registry.request("PATCH", "/gitlab/v1/repositories/g/p/");
        request
            .bearer_auth(token)
            .body(body.to_string())
            .send()
            .expect("answered")
    };
    let name = || json!({"name": "q"});
    assert_error(patch(&push, name()), 401, "UNAUTHORIZED");
    let mut nameless = all("g/p");
    nameless[0].as_object_mut().expect("an object").remove("meta");
    assert_error(patch(&access(nameless), name()), 400, "UNKNOWN_PROJECT_PATH_CLAIM");
    assert_error(patch(&access(all("g")), name()), 400, "MISMATCH_PROJECT_PATH_CLAIM");
    // To go somewhere else takes the right to push there.
    let namespace = || json!({"namespace": "g/sub"});
    let answer = patch(&access(all("g/p")), namespace());
    assert!(
        crate::support::registry::header(&answer, "www-authenticate").contains("repository:g/sub/*:push"),
        "{answer:?}"
    );
    assert_error(answer, 401, "UNAUTHORIZED");
    let mut moving = all("g/p");
    let more = json!({"type": "repository", "name": "g/sub/*", "actions": ["push"]});
    moving.as_array_mut().expect("a list").push(more);
    assert_eq!(patch(&access(moving), namespace()).status(), 204);
    assert_eq!(
        postgres.sql("rename_token", "SELECT path FROM repositories").trim(),
        "g/sub/p"
    );
    assert_error(patch(&access(all("g/p")), name()), 404, "NAME_UNKNOWN");
    postgres.forget("rename_token");
}
