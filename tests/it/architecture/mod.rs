//! The rules of the house, read off the syntax of every file.
//!
//! What still breaks a rule stands in `known.txt`, which only gets shorter:
//! a breach that is not there fails, and so does a line there that is none any
//! more (`make generate` takes those out, and adds nothing).

mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use graph::{Edge, Graph, circles};

/// What each part of the crate may use of the others.
const MAY_USE: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("serve", &["sys"]),
    ("registry", &["sys", "serve"]),
    ("front", &["sys", "serve"]),
    ("rails", &["sys", "serve", "registry::oci", "registry::token"]),
    ("root", &["sys"]),
    ("config", &["root", "sys"]),
    ("supervisor", &["sys"]),
    ("certs", &["sys"]),
    ("roots", &["config", "root", "sys"]),
    ("render", &["config", "root", "sys"]),
    ("services", &["config", "root", "sys", "supervisor"]),
    ("clients", &["config", "root", "sys"]),
    (
        "reconfigure",
        &[
            "certs",
            "clients",
            "config",
            "rails::identity",
            "registry::config",
            "render",
            "root",
            "services",
            "supervisor",
            "sys",
        ],
    ),
    (
        "doctor",
        &[
            "certs",
            "clients",
            "config",
            // To ask a registry elsewhere whether it takes a token.
            "rails",
            "reconfigure",
            "registry::admin",
            "registry::config",
            "registry::oci",
            "registry::server",
            "registry::storage",
            "root",
            "roots",
            "services",
            "supervisor",
            "sys",
        ],
    ),
];

/// Those that may use all.
const ABOVE_ALL: &[&str] = &["cli", "lib", "main"];

/// The ranks inside the registry: a module uses lower ranks only.
const RANKS: &[(&str, u8)] = &[
    ("oci", 0),
    ("token", 0),
    ("version", 0),
    ("config", 1),
    ("metrics", 1),
    ("storage", 2),
    ("state", 2),
    ("auth", 2),
    ("health", 2),
    ("metadata", 3),
    ("notify", 4),
    ("maintenance", 5),
    ("http", 6),
    ("server", 7),
    ("admin", 7),
    ("mod", 7),
];

/// Modules that must be pure: no file, socket, process or clock.
const PURE: &[&str] = &[
    "registry/oci/",
    "registry/token/",
    "supervisor/protocol.rs",
    "supervisor/state.rs",
];

/// What makes a module impure.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "tokio",
    "crate::sys::fs",
    "crate::sys::net",
    "crate::sys::clock",
];

/// What only some rooms of the registry may name.
const ROOMS: &[(&[&str], &[&str])] = &[
    (
        &["std::fs", "std::os::unix", "crate::sys::fs", "tokio::fs"],
        &[
            "registry/storage/drivers/filesystem/",
            "registry/state/",
            // Files that are configured.
            "registry/config/source.rs",
            "registry/auth/keys.rs",
            "registry/auth/htpasswd.rs",
        ],
    ),
    (
        &["tokio_postgres", "deadpool_postgres"],
        &["registry/metadata/postgres/"],
    ),
    (&["object_store"], &["registry/storage/drivers/"]),
    (
        &["crate::registry::storage::layout"],
        &["registry/storage/", "registry/metadata/files"],
    ),
];

/// Rooms that must not name a thing.
const NOT_IN: &[(&str, &[&str])] = &[
    (
        "hyper",
        &["registry/storage/", "registry/metadata/", "registry/maintenance/"],
    ),
    // SQL only: what the storage has a say in is decided above.
    ("crate::registry::storage", &["registry/metadata/postgres/"]),
];

const SQL: &[&str] = &[
    "SELECT ",
    "INSERT ",
    "UPDATE ",
    "DELETE FROM",
    "CREATE ",
    "ALTER ",
    "WITH ",
    "DROP ",
    "TRUNCATE ",
];

/// Lines of a file, of a function, and of the median file of a part of the crate.
const FILE: usize = 450;
const FUNCTION: usize = 80;
const MEDIAN: usize = 150;

fn begins(path: &[String], with: &str) -> bool {
    let mut parts = path.iter();
    with.split("::").all(|part| parts.next().is_some_and(|own| own == part))
}

fn top(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or(path)
}

/// Returns what breaks a rule, a line each.
fn breaches(sources: &[(String, String)]) -> BTreeSet<String> {
    let graph = Graph::new(sources);
    let edges = graph.edges();
    let mut found = BTreeSet::new();
    layers(&graph, &mut found);
    ranks(&edges, &mut found);
    let circles = circles(&edges);
    let inside = |edge: &&Edge| {
        circles
            .iter()
            .any(|circle| circle.contains(&edge.from) && circle.contains(&edge.to))
    };
    for edge in edges.iter().filter(inside) {
        found.insert(format!("circle: {} -> {} ({})", edge.from, edge.to, edge.name));
    }
    rooms(&graph, &mut found);
    sizes(&graph, &mut found);
    found
}

fn layers(graph: &Graph, found: &mut BTreeSet<String>) {
    for file in &graph.files {
        let part = top(&file.path);
        if ABOVE_ALL.contains(&part) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == part) else {
            found.insert(format!(
                "layer: {} has no place: add it to the test and to lib.rs",
                file.path
            ));
            continue;
        };
        for path in file.named.iter().filter(|path| path[0] == "crate" && path[1] != part) {
            if !allowed.iter().any(|other| begins(&path[1..], other)) {
                found.insert(format!("layer: {} uses {}", file.path, path.join("::")));
            }
        }
    }
}

fn ranks(edges: &BTreeSet<Edge>, found: &mut BTreeSet<String>) {
    let rank = |path: &str| {
        let room = top(path.strip_prefix("registry/")?);
        RANKS
            .iter()
            .find(|(name, _)| *name == room)
            .map(|(_, rank)| (room.to_owned(), *rank))
    };
    for edge in edges {
        if let (Some((own, from)), Some((other, to))) = (rank(&edge.from), rank(&edge.to))
            && own != other
            && from <= to
        {
            found.insert(format!("rank: {} uses {} of {}", edge.from, edge.name, edge.to));
        }
    }
}

fn rooms(graph: &Graph, found: &mut BTreeSet<String>) {
    for file in &graph.files {
        let names = |what: &str| file.named.iter().any(|path| begins(path, what));
        for what in IMPURE.iter().filter(|what| names(what)) {
            if PURE.iter().any(|pure| file.path.starts_with(pure)) {
                found.insert(format!("pure: {} names {what}", file.path));
            }
        }
        for (what, not_in) in NOT_IN {
            if names(what) && not_in.iter().any(|room| file.path.starts_with(room)) {
                found.insert(format!("room: {} names {what}", file.path));
            }
        }
        if !file.path.starts_with("registry/") {
            continue;
        }
        for (words, rooms) in ROOMS {
            for what in words.iter().filter(|what| names(what)) {
                if !rooms.iter().any(|room| file.path.starts_with(room)) {
                    found.insert(format!("room: {} names {what}", file.path));
                }
            }
        }
        let is_sql = |text: &String| SQL.iter().any(|verb| text.trim_start().starts_with(verb));
        if !file.path.starts_with("registry/metadata/postgres/") && file.texts.iter().any(is_sql) {
            found.insert(format!("room: {} has SQL", file.path));
        }
    }
}

fn sizes(graph: &Graph, found: &mut BTreeSet<String>) {
    let mut parts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for file in &graph.files {
        parts.entry(top(&file.path)).or_default().push(file.lines);
        if file.lines > FILE {
            let over = step(file.lines, FILE, 50);
            found.insert(format!("size: {} has over {over} lines", file.path));
        }
        for (name, lines) in file.functions.iter().filter(|(_, lines)| *lines > FUNCTION) {
            let over = step(*lines, FUNCTION, 20);
            found.insert(format!("size: {name} of {} has over {over} lines", file.path));
        }
    }
    for (part, mut lines) in parts {
        lines.sort_unstable();
        if lines.len() > 2 && lines[lines.len() / 2] > MEDIAN {
            found.insert(format!("size: half of the files of {part} have over {MEDIAN} lines"));
        }
    }
}

/// Returns by how much a limit is passed, in steps: what is too long must not grow on.
fn step(lines: usize, limit: usize, step: usize) -> usize {
    limit + (lines - limit - 1) / step * step
}

/// Says whether a line is about the same as a known one, and has a smaller number.
fn is_less(line: &str, known: &str) -> bool {
    let parts = |line: &str| -> Option<(String, usize)> {
        let (what, rest) = line.split_once(" has over ")?;
        Some((what.to_owned(), rest.split(' ').next()?.parse().ok()?))
    };
    match (parts(line), parts(known)) {
        (Some((what, less)), Some((other, more))) => what == other && less < more,
        _ => false,
    }
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&top, &mut found);
    found.sort();
    let relative = |path: &Path| {
        path.strip_prefix(&top)
            .expect("below")
            .to_str()
            .expect("UTF-8")
            .to_owned()
    };
    found
        .iter()
        .map(|path| (relative(path), fs::read_to_string(path).expect("read")))
        .collect()
}

#[test]
fn no_rule_is_broken_that_was_not_before() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/architecture/known.txt");
    let text = fs::read_to_string(&list).unwrap_or_default();
    let known: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let found = breaches(&all());
    let new: Vec<&str> = found
        .difference(&known)
        .map(String::as_str)
        .filter(|line| !known.iter().any(|known| is_less(line, known)))
        .collect();
    assert!(new.is_empty(), "rules of the house are broken:\n{}", new.join("\n"));
    if std::env::var_os("KDK_GENERATE").is_some() {
        let lines: String = found.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&list, lines).expect("written");
        return;
    }
    let gone: Vec<&str> = known.difference(&found).map(String::as_str).collect();
    assert!(
        gone.is_empty(),
        "no breaches any more: take them out of known.txt (make generate)\n{}",
        gone.join("\n")
    );
}

#[test]
fn what_became_shorter_is_no_new_breach() {
    let known = "size: a.rs has over 550 lines";
    assert!(is_less("size: a.rs has over 500 lines", known));
    assert!(!is_less("size: a.rs has over 600 lines", known));
    assert!(!is_less("size: b.rs has over 500 lines", known));
    assert!(!is_less("room: a.rs names std::fs", known));
}

#[test]
fn unsafe_code_is_in_sys_only() {
    for (file, text) in all() {
        assert!(
            file.starts_with("sys/") || !text.contains("unsafe {"),
            "src/{file} has unsafe code"
        );
    }
}

/// Returns what is found in files of a few lines.
fn injected(files: &[(&str, &str)]) -> Vec<String> {
    let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    breaches(&files.iter().map(own).collect::<Vec<_>>())
        .into_iter()
        .collect()
}

#[test]
fn a_circle_is_found_also_by_way_of_a_name_passed_on() {
    let files = [
        ("registry/mod.rs", "pub mod metadata; pub mod storage;"),
        (
            "registry/metadata/mod.rs",
            "mod a; mod b; pub use a::A; pub struct Own;",
        ),
        ("registry/metadata/a.rs", "pub struct A; fn a(_: super::b::B) {}"),
        ("registry/metadata/b.rs", "use super::A; pub struct B(A);"),
    ];
    assert_eq!(
        injected(&files),
        [
            "circle: registry/metadata/a.rs -> registry/metadata/b.rs (B)",
            "circle: registry/metadata/b.rs -> registry/metadata/a.rs (A)",
        ]
    );
    // What a parent's own file defines counts, too.
    let files = [
        ("registry/metadata/mod.rs", "mod a; pub use a::A; pub struct Own;"),
        ("registry/metadata/a.rs", "use super::Own; pub struct A(Own);"),
    ];
    assert_eq!(
        injected(&files),
        [
            "circle: registry/metadata/a.rs -> registry/metadata/mod.rs (Own)",
            "circle: registry/metadata/mod.rs -> registry/metadata/a.rs (A)",
        ]
    );
}

#[test]
fn upward_uses_are_found_in_use_lines_paths_and_macros() {
    let http = ("registry/http/mod.rs", "pub struct Shared; pub fn f() {}");
    let storage = |text| ("registry/storage/mod.rs", text);
    for text in [
        "use crate::registry::http::f;",
        "use super::http::f;",
        "fn a() { crate::registry::http::f() }",
        "use super::http; fn a() { http::f() }",
        "fn a() { assert!(crate::registry::http::f() == ()) }",
    ] {
        let found = injected(&[http, storage(text)]);
        assert_eq!(
            found,
            ["rank: registry/storage/mod.rs uses f of registry/http/mod.rs"],
            "{text}"
        );
    }
    let found = injected(&[
        ("sys/fs.rs", "use crate::config::Config;"),
        ("config.rs", "pub struct Config;"),
    ]);
    assert_eq!(found, ["layer: sys/fs.rs uses crate::config::Config"]);
    // Unit tests may look where they like.
    let tests = "#[cfg(test)] mod tests { use crate::registry::http::f; }";
    assert_eq!(injected(&[http, storage(tests)]), Vec::<String>::new());
}

#[test]
fn what_does_not_belong_in_a_room_is_found() {
    let found = |path, text| injected(&[(path, text)]);
    let handler = "registry/http/handlers/blob.rs";
    assert_eq!(
        found(handler, "use std::fs::File; fn a(_: File) {}"),
        [format!("room: {handler} names std::fs")]
    );
    assert_eq!(
        found(handler, "fn a() { let _ = std::fs::read(\"x\"); }"),
        [format!("room: {handler} names std::fs")]
    );
    assert_eq!(
        found("registry/maintenance/run.rs", "const Q: &str = \"SELECT 1\";"),
        ["room: registry/maintenance/run.rs has SQL"]
    );
    assert_eq!(
        found("registry/maintenance/run.rs", "fn a() { query!(\"SELECT 1\") }"),
        ["room: registry/maintenance/run.rs has SQL"]
    );
    assert_eq!(
        found("registry/oci/name.rs", "use tokio::time::sleep;"),
        ["pure: registry/oci/name.rs names tokio"]
    );
    assert_eq!(
        found("nowhere.rs", ""),
        ["layer: nowhere.rs has no place: add it to the test and to lib.rs"]
    );
    let long = format!("fn long() {{\n{}}}\n", "    let _ = 1;\n".repeat(500));
    assert_eq!(
        found("sys/long.rs", &long),
        [
            "size: long of sys/long.rs has over 500 lines",
            "size: sys/long.rs has over 500 lines"
        ]
    );
}
