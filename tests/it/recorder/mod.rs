//! What registries answer, recorded: a hundred requests, and what clients can
//! tell of the answers. Ours are held against those of docker-registry and of
//! distribution v3; where they differ, they differ on purpose.
//!
//! `make record` records these two anew;
//! `make record URL=… NAME=… VERSION=… CONFIGURATION=…` records any registry
//! that is empty, asks for no login and allows deletion.

mod answer;
mod differences;
mod session;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::support::postgres::TestPostgres;
use crate::support::registry::TestRegistry;
use crate::support::{Output, may_skip, port, temporary};
use answer::{Answer, record};

/// How the recorded registries of the field are configured.
const CONFIGURATION: &str = "filesystem storage, deletion enabled, no login";

/// What a registry answered.
#[derive(Debug, Serialize, Deserialize)]
struct Fixture {
    name: String,
    version: String,
    configuration: String,
    /// Day of the recording.
    recorded: String,
    answers: BTreeMap<String, Answer>,
}

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/recorder/{name}.json"))
}

impl Fixture {
    fn load(name: &str) -> Self {
        let text = std::fs::read_to_string(place(name)).expect("recorded");
        serde_json::from_str(&text).expect("JSON")
    }

    fn save(self) {
        let text = serde_json::to_string_pretty(&self).expect("JSON");
        std::fs::write(place(&self.name), text + "\n").expect("written");
    }
}

/// A registry of the field that runs.
struct Rival {
    _registry: TestRegistry,
    base: String,
}

fn rival(program: &Path) -> Rival {
    let directory = temporary();
    let config = directory.path().join("config.yml");
    let own = port();
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{own}\n",
        directory.path().join("storage").display()
    );
    std::fs::write(&config, text).expect("written");
    Rival {
        _registry: TestRegistry::rival(program, directory, &config),
        base: format!("http://127.0.0.1:{own}"),
    }
}

fn version_of(program: &Path) -> String {
    let said = Output::of(Command::new(program).arg("--version").stdin(Stdio::null())).ok();
    said.split_whitespace().last().expect("a version").to_owned()
}

/// Holds a registry of the field against its fixture; with `KDK_GENERATE`
/// makes that anew.
fn hold_against_fixture(name: &str, program: &Path) {
    let rival = rival(program);
    let answers = record(&rival.base);
    if std::env::var_os("KDK_GENERATE").is_some() {
        let fixture = Fixture {
            name: name.to_owned(),
            version: version_of(program),
            configuration: CONFIGURATION.to_owned(),
            recorded: jiff::Zoned::now().date().to_string(),
            answers,
        };
        fixture.save();
        return;
    }
    let fixture = Fixture::load(name);
    let found = differences::between(&fixture.answers, &answers);
    assert!(
        found.is_empty(),
        "{name} {} does not answer as {} did; record it with: make record\n{}",
        version_of(program),
        fixture.version,
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn docker_registry_answers_as_recorded() {
    match which::which("docker-registry") {
        Ok(program) => hold_against_fixture("docker-registry", &program),
        Err(_) => assert!(may_skip(), "docker-registry is not installed"),
    }
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn distribution_answers_as_recorded() {
    hold_against_fixture("distribution", &crate::support::peers().join("registry-v3"));
}

#[test]
fn our_answers_differ_from_theirs_on_purpose_alone() {
    let registry = TestRegistry::start();
    let ours = record(&registry.url(""));
    assert!(ours.len() >= 100, "{} requests", ours.len());
    for name in ["distribution", "docker-registry"] {
        differences::hold(name, &Fixture::load(name).answers, &ours);
    }
}

#[test]
fn answers_beside_a_database_differ_on_purpose_alone() {
    TestPostgres::shared().database("recorder");
    let section = TestPostgres::shared().section("recorder", true);
    let beside = TestRegistry::with(temporary(), &section, &[]);
    differences::hold(
        "link files",
        &record(&TestRegistry::start().url("")),
        &record(&beside.url("")),
    );
}

/// Records the registry at `KDK_RECORD_URL`; without one, ours twice, which
/// must answer the same.
#[test]
#[ignore = "make record, make test-clients"]
fn a_registry_is_recorded() {
    let given = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let Some(url) = given("KDK_RECORD_URL") else {
        let (first, second) = (TestRegistry::start(), TestRegistry::start());
        assert_eq!(record(&first.url("")), record(&second.url("")));
        return;
    };
    let told = |name: &str| given(name).unwrap_or_else(|| panic!("{name} says what is recorded"));
    let fixture = Fixture {
        name: told("KDK_RECORD_NAME"),
        version: told("KDK_RECORD_VERSION"),
        configuration: told("KDK_RECORD_CONFIGURATION"),
        recorded: jiff::Zoned::now().date().to_string(),
        answers: record(url.trim_end_matches('/')),
    };
    fixture.save();
}
