//! The users' documents, executed.
//!
//! `table.yml` names every shell block of them (of the administration guide
//! also each block of settings), what is run for it here, and the verdict.
//! The documents themselves are no part of the project; where they lie beside
//! it, the table is checked against them.

mod blocks;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use crate::support::namespace::{ADDRESS, Namespace};

const TABLE: &str = include_str!("table.yml");
const HTTP: &str = "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  self_signed: false\n  auth_enabled: true\n  listen_address: 0.0.0.0\n";
const INSECURE: &str = r#"{"insecure-registries": ["registry.test:5000", "kdk.test:5000"]}"#;

/// A block of a document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    document: String,
    heading: String,
    number: usize,
    sha256: String,
    scene: String,
    run: Option<String>,
    expect: Option<String>,
    verdict: String,
}

fn table() -> Vec<Entry> {
    serde_yaml::from_str(TABLE).expect("the table is YAML")
}

/// Runs what the table has for a scene, in order; what fails is told of at the end.
fn play(scene: &str, settings: Option<&str>, daemon: &str) {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    let top = namespace.path().display().to_string();
    namespace.start_docker(daemon);
    namespace
        .sh("project", "head -c 100000 /dev/urandom > file; printf 'FROM scratch\\nCOPY file /file\\n' > Dockerfile; mkdir -p ../root")
        .ok();
    let mut token = String::new();
    if let Some(settings) = settings {
        namespace.sh("", "kdk init root").ok();
        std::fs::write(namespace.join("root/kdk.yml"), settings).expect("written");
        namespace.sh("root", "kdk reconfigure && kdk start").ok();
        if scene == "https" {
            namespace.sh("root", "kdk trust-docker-registry").ok();
        }
        if scene != "ui" {
            token = namespace.sh("root", "kdk token create").ok().trim().to_owned();
        }
    }
    let mut failures = String::new();
    let mut count = 0;
    for entry in table().iter().filter(|entry| entry.scene == scene) {
        let Some(run) = &entry.run else { continue };
        count += 1;
        let script = format!("export TOP='{top}' KHULNASOFT_TOKEN='{token}'; exec 2>&1; {run}");
        let said = namespace.sh("root", &script);
        let is_said = entry.expect.as_ref().is_none_or(|text| said.stdout.contains(text));
        if said.code != 0 || !is_said {
            let _ = writeln!(
                failures,
                "{} {} ({}): exit code {}, expected {:?}\n{run}\n---\n{}",
                entry.document, entry.number, entry.heading, said.code, entry.expect, said.stdout
            );
        }
    }
    assert!(count > 0, "nothing is run for {scene}");
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn what_is_run_where_no_root_is_yet() {
    play("none", None, "{}");
}

#[test]
fn what_is_run_in_the_interface_only() {
    play("ui", Some("registry:\n  enabled: true\n"), "{}");
}

#[test]
fn what_is_run_over_http() {
    play("http", Some(HTTP), INSECURE);
}

#[test]
fn what_is_run_over_https() {
    play(
        "https",
        Some(&HTTP.replace("self_signed: false", "self_signed: true")),
        "{}",
    );
}

#[test]
fn what_is_run_with_a_database() {
    play("database", Some(HTTP), INSECURE);
}

/// Where the documents lie beside the project, the table has every block of them, as it is.
#[test]
fn the_table_is_that_of_the_documents() {
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/docs");
    if !documents.is_dir() {
        eprintln!("the documents are not here: the table was not compared");
        return;
    }
    let found: Vec<_> = blocks::of(&documents);
    let table = table();
    let named: Vec<_> = table
        .iter()
        .map(|entry| {
            (
                entry.document.clone(),
                entry.heading.clone(),
                entry.number,
                entry.sha256.clone(),
            )
        })
        .collect();
    assert_eq!(named.len(), found.len());
    for (named, found) in named.iter().zip(&found) {
        assert_eq!(named, found);
    }
}

/// "Cannot" is for what no machine of the tests can have, and half of all is run at least.
#[test]
fn most_of_the_documents_is_run() {
    const REASONS: [&str; 10] = [
        "network",
        "macOS",
        "Docker Desktop",
        "Colima",
        "minikube",
        "microk8s",
        "MicroK8s",
        "Rails console",
        "Kubernetes",
        "foreign product",
    ];
    let table = table();
    let run = table.iter().filter(|entry| entry.run.is_some()).count();
    assert!(run * 2 >= table.len(), "{run} of {}", table.len());
    for entry in &table {
        let name = format!("{} {}", entry.document, entry.number);
        match entry.verdict.split_once(": ") {
            Some(("cannot", why)) => {
                assert!(entry.run.is_none(), "{name}");
                let why = why.to_lowercase();
                let is_known = REASONS.iter().any(|reason| why.contains(&reason.to_lowercase()));
                assert!(is_known, "{name}: {why}");
            }
            Some(("changed", _)) => assert!(entry.run.is_some(), "{name}"),
            _ => assert!(entry.verdict == "as printed" && entry.run.is_some(), "{name}"),
        }
        assert!(entry.run.is_none() || entry.expect.is_some(), "{name} proves nothing");
    }
}

/// Returns the page that counts.
fn page() -> String {
    let mut page = String::from(
        "# The documents, executed\n\nEvery shell block of the users' documents, and each block of settings of the administration guide, with what the tests run \
         for it (`tests/it/documents/table.yml`): as it is printed, with a change, or not at all, and why. The page is written by `make generate`.\n\n\
         | Document | Blocks | As printed | Changed | Cannot run |\n|---|---:|---:|---:|---:|\n",
    );
    let table = table();
    let kind = |entry: &Entry| entry.verdict.split(':').next().unwrap_or_default().to_owned();
    let mut documents: Vec<&str> = Vec::new();
    for entry in &table {
        if !documents.contains(&entry.document.as_str()) {
            documents.push(&entry.document);
        }
    }
    let row = |name: &str, entries: &[&Entry]| {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        entries
            .iter()
            .for_each(|entry| *count.entry(kind(entry)).or_default() += 1);
        let of = |kind: &str| count.get(kind).copied().unwrap_or_default();
        format!(
            "| {name} | {} | {} | {} | {} |\n",
            entries.len(),
            of("as printed"),
            of("changed"),
            of("cannot")
        )
    };
    for document in &documents {
        let entries: Vec<&Entry> = table.iter().filter(|entry| entry.document == *document).collect();
        page.push_str(&row(document, &entries));
    }
    page.push_str(&row("all", &table.iter().collect::<Vec<_>>()));
    for document in documents {
        let _ = write!(page, "\n## {document}\n\n| | Under | Verdict |\n|---:|---|---|\n");
        for entry in table.iter().filter(|entry| entry.document == document) {
            let cell = |text: &str| text.replace('|', "\\|");
            let _ = writeln!(
                page,
                "| {} | {} | {} |",
                entry.number,
                cell(&entry.heading),
                cell(&entry.verdict)
            );
        }
    }
    page
}

#[test]
fn the_page_about_the_documents_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/documents.md");
    let page = page();
    if std::env::var_os("KDK_GENERATE").is_some() {
        std::fs::write(&path, &page).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/documents.md is not current; write it with: make generate"
    );
}

/// Each page of a symptom ends in commands that are there.
#[test]
fn pages_of_symptoms_end_in_commands() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/symptoms");
    let index = std::fs::read_to_string(directory.join("README.md")).expect("read");
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).expect("listed").flatten() {
        let name = entry.file_name().into_string().expect("UTF-8");
        if name == "README.md" {
            continue;
        }
        count += 1;
        assert!(index.contains(&format!("({name})")), "{name} is not in the index");
        let text = std::fs::read_to_string(entry.path()).expect("read");
        let (_, block) = text
            .trim_end()
            .rsplit_once("```shell\n")
            .unwrap_or_else(|| panic!("{name} has no commands"));
        let block = block
            .strip_suffix("```")
            .unwrap_or_else(|| panic!("{name} does not end in commands"));
        for line in block.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words[0], "kdk", "{name}: {line}");
            // Help is given only for commands and options that are there.
            let is_word = |word: &&&str| !word.starts_with('-') && !word.contains(['.', '/', '_']);
            let arguments = words[1..].iter().take_while(is_word).copied();
            let options = words[1..].iter().filter(|word| word.starts_with("--"));
            let mut help = std::process::Command::new(crate::support::KDK);
            let said = crate::support::Output::of(help.args(arguments).arg("--help"));
            assert_eq!(said.code, 0, "{name}: {line}: {}", said.stderr);
            for option in options {
                assert!(said.stdout.contains(option), "{name}: {line}: {}", said.stdout);
            }
        }
    }
    assert!(count >= 10, "{count} pages");
}
