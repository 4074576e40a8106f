//! How much of the database a request touches: no more for a large repository
//! than for a small one, also as long as PostgreSQL has no statistics.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use crate::support::postgres::TestPostgres;
use crate::support::registry::{OCI_MANIFEST, TestRegistry, digest};
use crate::support::temporary;

/// Makes a repository's manifests and tags as many as wanted, half of the
/// manifests attached to the one that was pushed first.
fn grow(postgres: &TestPostgres, repository: &str, count: usize) {
    let sql = format!(
        "INSERT INTO manifests (top_level_namespace_id, repository_id, digest, payload, schema_version,
            media_type_id, configuration_media_type_id, configuration_blob_digest, configuration_payload,
            total_size, subject_id)
        SELECT m.top_level_namespace_id, m.repository_id, '\\x01'::bytea || sha256((r.path || n)::bytea),
            CASE WHEN n % 2 = 0 THEN convert_to(replace(convert_from(m.payload, 'UTF8'), '\"config\"', format(
                '\"subject\":{{\"mediaType\":\"{OCI_MANIFEST}\",\"digest\":\"sha256:%s\",\"size\":1}},\"config\"',
                encode(substr(m.digest, 2), 'hex'))), 'UTF8') ELSE m.payload END, 2,
            m.media_type_id, m.configuration_media_type_id, m.configuration_blob_digest, m.configuration_payload,
            m.total_size, CASE WHEN n % 2 = 0 THEN m.id END
        FROM repositories AS r JOIN manifests AS m ON m.repository_id = r.id
            JOIN tags AS t ON t.manifest_id = m.id AND t.name = 'first', generate_series(1, {count}) AS n
        WHERE r.path = '{repository}';
        INSERT INTO tags (top_level_namespace_id, repository_id, name, manifest_id)
        SELECT m.top_level_namespace_id, m.repository_id, 'v' || row_number() OVER (), m.id
        FROM manifests AS m JOIN repositories AS r ON r.id = m.repository_id WHERE r.path = '{repository}';
        INSERT INTO blobs (digest, media_type_id, size)
        SELECT '\\x01'::bytea || sha256(('{repository} blob' || n)::bytea), b.media_type_id, 1
        FROM generate_series(1, {count}) AS n, (SELECT media_type_id FROM blobs LIMIT 1) AS b;
        INSERT INTO repository_blobs (top_level_namespace_id, repository_id, blob_digest)
        SELECT r.top_level_namespace_id, r.id, '\\x01'::bytea || sha256((r.path || ' blob' || n)::bytea)
        FROM repositories AS r, generate_series(1, {count}) AS n WHERE r.path = '{repository}'"
    );
    postgres.sql("registry_dev", &sql);
}

/// What the server's log says of the plans of statements.
struct Plans {
    log: PathBuf,
    at: usize,
}

impl Plans {
    /// Returns the blocks that each statement touched since the last look, in
    /// the order of their ends.
    fn read(&mut self) -> Vec<(String, u64)> {
        let text = std::fs::read_to_string(&self.log).expect("read");
        let new = text[self.at..].to_owned();
        self.at = text.len();
        let mut found = Vec::new();
        for plan in new.split("  plan:\n").skip(1) {
            let query = plan.split_once("Query Text: ").expect("it has one").1;
            let (query, rest) = query.split_once("(cost=").expect("it has a plan");
            let query = query.rsplit_once('\n').map_or(query, |(query, _)| query);
            let query = query.split_whitespace().collect::<Vec<_>>().join(" ");
            // Of the whole tree: the first.
            let buffers = rest
                .lines()
                .find_map(|line| line.trim().strip_prefix("Buffers: shared "));
            let blocks = buffers.map_or(0, |counts| {
                let counts = counts.split(", ").next().unwrap_or_default().split(' ');
                let touched = counts.filter(|count| count.starts_with("hit=") || count.starts_with("read="));
                touched
                    .map(|count| {
                        count
                            .split_once('=')
                            .expect("a pair")
                            .1
                            .parse::<u64>()
                            .expect("a number")
                    })
                    .sum()
            });
            found.push((query, blocks));
        }
        found
    }
}

/// A request to a repository, which returns its status.
type Request<'a> = Box<dyn Fn(&str) -> u16 + 'a>;

#[test]
fn a_request_touches_as_much_of_a_large_repository_as_of_a_small_one() {
    let postgres = TestPostgres::start();
    postgres.make_template();
    postgres.database_of_kdk("registry_dev");
    postgres.sql(
        "registry_dev",
        "ALTER DATABASE registry_dev SET session_preload_libraries = 'auto_explain';
        ALTER DATABASE registry_dev SET auto_explain.log_min_duration = 0;
        ALTER DATABASE registry_dev SET auto_explain.log_analyze = on;
        ALTER DATABASE registry_dev SET auto_explain.log_buffers = on",
    );
    let section = postgres.section("registry_dev", true);
    let mut registry = TestRegistry::with(temporary(), &section, &[]);
    let (small, large) = ("t/small", "t/large");
    let mut first = BTreeMap::new();
    for (repository, count) in [(small, 50), (large, 5000)] {
        let (content, own) = registry.push_image(repository, "first", repository);
        registry.push_image(repository, "passing", &format!("{repository} passing"));
        first.insert(repository, (content, own));
        grow(&postgres, repository, count);
    }
    // What was pushed is in memory.
    registry.stop();
    let registry = registry.again(&section, &[]);
    let mut plans = Plans {
        log: postgres.socket.join("log"),
        at: 0,
    };
    let get = |path: &'static str| -> Request<'_> {
        let registry = &registry;
        Box::new(move |repository| registry.get(&path.replace("{name}", repository)).status().as_u16())
    };
    let with_digest = |method: &'static str, path: &'static str| -> Request<'_> {
        let (registry, first) = (&registry, &first);
        Box::new(move |repository| {
            let path = path
                .replace("{name}", repository)
                .replace("{digest}", &first[repository].1);
            registry.send(method, &path).status().as_u16()
        })
    };
    let requests: Vec<(&str, u16, Request<'_>)> = vec![
        ("GET by tag", 200, get("/v2/{name}/manifests/first")),
        ("GET by another tag", 200, get("/v2/{name}/manifests/passing")),
        (
            "GET by digest",
            200,
            with_digest("GET", "/v2/{name}/manifests/{digest}"),
        ),
        ("HEAD of a tag", 200, get("/v2/{name}/manifests/v7")),
        ("GET of what is not there", 404, get("/v2/{name}/manifests/none")),
        ("tags", 200, get("/v2/{name}/tags/list?n=10")),
        ("tags, further on", 200, get("/v2/{name}/tags/list?n=10&last=v3")),
        (
            "referrers",
            200,
            with_digest("GET", "/v2/{name}/referrers/{digest}?n=10"),
        ),
        (
            "blob",
            200,
            Box::new(|repository| {
                let layer = digest(format!("layer {repository}").as_bytes());
                registry
                    .send("HEAD", &format!("/v2/{repository}/blobs/{layer}"))
                    .status()
                    .as_u16()
            }),
        ),
        (
            "tags of GitLab's",
            200,
            get("/gitlab/v1/repositories/{name}/tags/list/?n=10"),
        ),
        (
            "tags of GitLab's, back",
            200,
            get("/gitlab/v1/repositories/{name}/tags/list/?n=10&sort=-name"),
        ),
        (
            "a tag of GitLab's",
            200,
            get("/gitlab/v1/repositories/{name}/tags/detail/first/"),
        ),
        ("a repository of GitLab's", 200, get("/gitlab/v1/repositories/{name}/")),
        (
            "PUT of a tag",
            201,
            Box::new(|repository| {
                let content = &first[repository].0;
                registry
                    .put_manifest(repository, "new", OCI_MANIFEST, content)
                    .status()
                    .as_u16()
            }),
        ),
        (
            "PUT of a manifest",
            201,
            Box::new(|repository| {
                let content = String::from_utf8(first[repository].0.clone()).expect("text");
                let other = content.replace("{ \"schemaVersion\"", "{  \"schemaVersion\"");
                registry
                    .put_manifest(repository, "other", OCI_MANIFEST, other.as_bytes())
                    .status()
                    .as_u16()
            }),
        ),
        (
            "blob pushed",
            201,
            Box::new(|repository| {
                registry.push_blob(repository, format!("new in {repository}").as_bytes());
                201
            }),
        ),
        (
            "attached",
            201,
            Box::new(|repository| {
                let config = registry.push_blob(repository, b"{}");
                let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
                    "config": {"mediaType": "a/b", "digest": config, "size": 2},
                    "subject": {"mediaType": OCI_MANIFEST, "digest": first[repository].1, "size": 1}});
                let manifest = manifest.to_string();
                let own = digest(manifest.as_bytes());
                registry
                    .put_manifest(repository, &own, OCI_MANIFEST, manifest.as_bytes())
                    .status()
                    .as_u16()
            }),
        ),
        (
            "DELETE of a tag",
            202,
            Box::new(|repository| {
                registry
                    .send("DELETE", &format!("/v2/{repository}/manifests/new"))
                    .status()
                    .as_u16()
            }),
        ),
        (
            "DELETE of a manifest",
            202,
            Box::new(|repository| {
                let passing = registry.get(&format!("/v2/{repository}/manifests/passing"));
                let own = crate::support::registry::header(&passing, "docker-content-digest");
                registry
                    .send("DELETE", &format!("/v2/{repository}/manifests/{own}"))
                    .status()
                    .as_u16()
            }),
        ),
    ];
    let mut wrong = Vec::new();
    let mut seen: usize = 0;
    for (what, status, request) in requests {
        let [few, many] = [small, large].map(|repository| {
            plans.read();
            assert_eq!(request(repository), status, "{what} of {repository}");
            plans.read()
        });
        // What else the server asks meanwhile is not about a repository.
        let mut common = 0;
        for (query, few) in &few {
            // A DELETE cannot ask for an order, and so for an index, before there are statistics.
            if query.starts_with("DELETE ") {
                continue;
            }
            let Some((_, many)) = many.iter().find(|(other, _)| other == query) else {
                continue;
            };
            common += 1;
            if *many > few * 2 {
                wrong.push(format!("{what}: {few} blocks, and {many}: {query}"));
            }
        }
        assert!(common > 0, "{what}: nothing was asked");
        seen += common;
    }
    // A page of the catalog touches its repositories, however many there are.
    postgres.sql(
        "registry_dev",
        "WITH n AS (INSERT INTO top_level_namespaces (name) VALUES ('many') RETURNING id)
        INSERT INTO repositories (top_level_namespace_id, name, path)
        SELECT n.id, 'r' || lpad(x::text, 6, '0'), 'many/r' || lpad(x::text, 6, '0') FROM n, generate_series(1, 20000) AS x;
        INSERT INTO manifests (top_level_namespace_id, repository_id, digest, payload, schema_version, media_type_id,
            total_size)
        SELECT r.top_level_namespace_id, r.id, '\\x01'::bytea || sha256(r.path::bytea), '{}', 2, m.media_type_id, 2
        FROM repositories AS r, (SELECT media_type_id FROM manifests LIMIT 1) AS m WHERE r.path LIKE 'many/%'",
    );
    for statistics in [false, true] {
        if statistics {
            postgres.sql("registry_dev", "ANALYZE");
        }
        // After a few of them, the plan is one for any value.
        for page in 0..8 {
            plans.read();
            let path = format!("/v2/_catalog?n=10&last=many/r0{}", 10000 + page);
            assert_eq!(registry.get(&path).status(), 200);
        }
        let pages = plans.read();
        let of_it = ["SELECT r.path, r.top_level", "SELECT x.r FROM unnest"];
        let asked = pages
            .iter()
            .filter(|(query, _)| of_it.iter().any(|begin| query.starts_with(begin)));
        let blocks: u64 = asked.map(|(_, blocks)| blocks).sum();
        assert!(blocks > 10, "it was asked for");
        if blocks > 500 {
            wrong.push(format!("catalog, with statistics {statistics}: {blocks} blocks"));
        }
    }
    assert!(seen > 40, "{seen} statements were seen");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A review costs as much in a repository with thousands of artifacts as in one with few. It is
/// never due before PostgreSQL has had time for its statistics.
#[test]
fn a_review_touches_as_much_of_a_large_repository_as_of_a_small_one() {
    let postgres = TestPostgres::start();
    postgres.make_template();
    postgres.database_of_kdk("registry_dev");
    let section = format!(
        "{}{}",
        postgres.section("registry_dev", true),
        super::database::QUICK_GC
    );
    let registry = TestRegistry::with(temporary(), &section, &[]);
    for (repository, count) in [("t/small", 50), ("t/large", 5000)] {
        registry.push_image(repository, "first", repository);
        grow(&postgres, repository, count);
        registry.push_image(repository, "loose", &format!("{repository} loose"));
    }
    postgres.sql(
        "registry_dev",
        "ALTER DATABASE registry_dev SET session_preload_libraries = 'auto_explain';
        ALTER DATABASE registry_dev SET auto_explain.log_min_duration = 0;
        ALTER DATABASE registry_dev SET auto_explain.log_analyze = on;
        ALTER DATABASE registry_dev SET auto_explain.log_buffers = on;
        ANALYZE",
    );
    // New connections explain what they do.
    postgres.sql(
        "registry_dev",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kdk registry'",
    );
    let mut plans = Plans {
        log: postgres.socket.join("log"),
        at: 0,
    };
    let [few, many] = ["t/small", "t/large"].map(|repository| {
        let loose = registry.get(&format!("/v2/{repository}/manifests/loose"));
        let digest = crate::support::registry::header(&loose, "docker-content-digest");
        let deleted = registry.send("DELETE", &format!("/v2/{repository}/manifests/loose"));
        assert_eq!(deleted.status(), 202);
        plans.read();
        let hex = &digest[7..];
        postgres.sql(
            "registry_dev",
            &format!(
                "UPDATE gc_manifest_review_queue AS q SET review_after = now() - interval '1 second' FROM manifests AS m
                WHERE m.id = q.manifest_id AND m.repository_id = q.repository_id AND m.digest = '\\x01{hex}'::bytea"
            ),
        );
        crate::support::wait("it is collected", || {
            let there = format!("SELECT count(*) FROM manifests WHERE digest = '\\x01{hex}'::bytea");
            (postgres.sql("registry_dev", &there) == "0\n").then_some(())
        });
        let mut most: BTreeMap<String, u64> = BTreeMap::new();
        for (query, blocks) in plans.read() {
            let known = most.entry(query).or_default();
            *known = (*known).max(blocks);
        }
        most
    });
    let mut wrong = Vec::new();
    let mut common = 0;
    for (query, few) in &few {
        // What the test itself asks is not the server's; a DELETE cannot ask for an index.
        if query.starts_with("DELETE ") || query.contains("\\x01") || query.starts_with("UPDATE gc_manifest") {
            continue;
        }
        if let Some(many) = many.get(query) {
            common += 1;
            if *many > few * 2 {
                wrong.push(format!("{few} blocks, and {many}: {query}"));
            }
        }
    }
    assert!(common >= 4, "{common} statements were seen: {few:#?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
