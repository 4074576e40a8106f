//! Every client against every setup. It needs `support/bootstrap --peers`, and
//! is run by `make test-clients`.

mod registries;
mod table;

use std::collections::BTreeMap;

use crate::support::namespace::{ADDRESS, Namespace};
use crate::support::{image, peers};
use table::{CLIENTS, Client, Operation};

/// How clients find the registry, and how it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// HTTP at 127.0.0.1.
    Loopback,
    /// HTTP at another address, by two names.
    Http,
    /// HTTPS, with all that `trust-docker-registry` and `kdk env` give.
    Https,
    /// HTTPS, with the client's own option for the certificate alone.
    HttpsOption,
    /// HTTP at 127.0.0.1, with metadata in PostgreSQL.
    Database,
}

impl Setup {
    fn settings(self) -> &'static str {
        match self {
            Self::Loopback => "registry:\n  enabled: true\n",
            Self::Http => {
                "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  listen_address: 0.0.0.0\n"
            }
            Self::Https | Self::HttpsOption => {
                "hostname: kdk.test\nregistry:\n  enabled: true\n  host: registry.test\n  self_signed: true\n  listen_address: 0.0.0.0\n"
            }
            Self::Database => "registry:\n  enabled: true\n  database:\n    enabled: true\n",
        }
    }

    fn addresses(self) -> &'static [&'static str] {
        match self {
            Self::Loopback | Self::Database => &["127.0.0.1:5000"],
            Self::Http | Self::Https => &["registry.test:5000", "kdk.test:5000"],
            Self::HttpsOption => &["registry.test:5000"],
        }
    }
}

/// What is wrong on purpose, so that cells turn red.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Clients are sent elsewhere for tokens.
    Realm,
    /// The registry checks tokens with another key.
    Key,
    /// The bundle of authorities lacks the registry's certificate.
    Bundle,
}

type Cells = BTreeMap<(&'static str, Operation), Vec<String>>;

/// Runs every client against a setup; prints the table, and fails where a cell does.
fn run(setup: Setup) {
    let cells = cells(setup, CLIENTS, None);
    let mut failures = Vec::new();
    show(setup, &cells, &mut failures);
    assert!(failures.is_empty(), "{setup:?}:\n{}", failures.join("\n"));
}

/// Runs clients against a setup.
fn cells(setup: Setup, clients: &'static [Client], fault: Option<Fault>) -> Cells {
    let namespace = Namespace::new(ADDRESS).expect("the matrix needs root");
    let root = namespace.join("root");
    namespace.sh("", "kdk init root").ok();
    let mut settings = setup.settings().to_owned();
    match fault {
        Some(Fault::Realm) => settings.push_str("  token_realm: http://kdk.test:3000/jwt/auth\n"),
        Some(Fault::Key) => {
            settings.push_str("  rootcertbundle: other.crt\n");
            namespace
                .sh("root", "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout other.key -out other.crt 2>/dev/null")
                .ok();
        }
        Some(Fault::Bundle) | None => {}
    }
    std::fs::write(root.join("kdk.yml"), settings).expect("written");
    let insecure = if setup == Setup::Http {
        r#"{"insecure-registries": ["registry.test:5000", "kdk.test:5000"]}"#
    } else {
        "{}"
    };
    namespace.start_docker(insecure);
    namespace.sh("root", "kdk up").ok();
    match setup {
        Setup::Https => drop(namespace.sh("root", "kdk trust-docker-registry").ok()),
        // docker has no option: the certificate is put where it looks by hand.
        Setup::HttpsOption => drop(
            namespace
                .sh("root", "for name in registry.test kdk.test; do install -D registry_host.crt /etc/docker/certs.d/$name:5000/ca.crt; done")
                .ok(),
        ),
        _ => {}
    }
    let token = namespace.sh("root", "kdk token create").ok().trim().to_owned();
    image::layout(&namespace.join("layout"), "base");
    for address in setup.addresses().iter().filter(|_| fault.is_none()) {
        let script = format!(
            "skopeo copy -q --dest-tls-verify=false --dest-creds x:{token} oci:../layout:image docker://{address}/base:v1"
        );
        namespace.sh("root", &script).ok();
    }
    let mut cells = Cells::new();
    for client in clients {
        if setup == Setup::HttpsOption && client.certificate.is_none() {
            continue;
        }
        for address in setup.addresses() {
            for (operation, outcome) in cells_of(&namespace, setup, client, address, &token, fault) {
                cells.entry((client.name, operation)).or_default().push(outcome);
            }
        }
    }
    if fault.is_none() {
        // Whatever clients did, what is stored is what its digest says.
        namespace.sh("root", "kdk registry verify").ok();
    }
    namespace.sh("root", "kdk kill --yes").ok();
    cells
}

fn show(setup: Setup, cells: &Cells, failures: &mut Vec<String>) {
    for client in CLIENTS {
        let mut line = format!("{setup:?} {}:", client.name);
        let flag = client.plain_flag(setup);
        for ((_, operation), outcomes) in cells.iter().filter(|((name, _), _)| *name == client.name) {
            let bad: Vec<&String> = outcomes.iter().filter(|outcome| *outcome != "ok").collect();
            let word = match (bad.is_empty(), flag) {
                (false, _) => "FAILED",
                (true, "") => "ok",
                (true, _) => "awkward",
            };
            line.push_str(&format!(" {operation:?}={word}"));
            failures.extend(
                bad.iter()
                    .map(|reason| format!("{} {operation:?}: {reason}", client.name)),
            );
        }
        if !flag.is_empty() {
            line.push_str(&format!(" ({flag})"));
        }
        eprintln!("{line}");
    }
}

/// Runs a client's steps; returns how each went.
fn cells_of(
    namespace: &Namespace,
    setup: Setup,
    client: &Client,
    address: &str,
    token: &str,
    fault: Option<Fault>,
) -> Vec<(Operation, String)> {
    let top = namespace.path().display();
    let directory = format!("work-{}", client.name);
    let here = namespace.join(&directory);
    let _ = std::fs::create_dir_all(here.join("home"));
    image::context(&here.join("context"), 1);
    image::layout(&here.join("layout"), client.name);
    let certificate = match (setup, client.certificate) {
        (Setup::HttpsOption, Some(option)) => option,
        _ => "",
    };
    let environment = if setup == Setup::Https && fault != Some(Fault::Bundle) {
        format!("eval \"$(kdk --root {top}/root env)\"; ")
    } else {
        String::new()
    };
    let insecure = if matches!(setup, Setup::Https | Setup::HttpsOption) {
        ""
    } else {
        "--tls-verify=false"
    };
    let mut script = format!(
        "export PATH={}:/usr/local/go/bin:$PATH HOME=$PWD/home GOFLAGS=-mod=mod GOCACHE={top}/go GOPATH={top}/gopath; \
         export DOCKER_CONFIG=$HOME/.docker REGISTRY_AUTH_FILE=$HOME/auth.json; {environment}\
         A={address}; T={token}; N={}; P='{}'; CERT={top}/root/registry_host.crt; CERTS=$PWD/certs; \
         mkdir -p $HOME/.config/containers $CERTS; cp $CERT $CERTS/ca.crt 2>/dev/null || true; \
         if [ -d {top}/home/.config/containers/certs.d ]; then cp -r {top}/home/.config/containers/certs.d $HOME/.config/containers/; fi; \
         C=\"{certificate}\"; INSECURE={insecure}; STORAGE='--root {top}/cr --runroot {top}/cx --storage-driver vfs'; \
         echo hello > hello.txt; [ -f layer.tar ] || tar cf layer.tar hello.txt; \
         if [ {} = 1 ] && [ ! -f large.tar ]; then head -c 300000000 /dev/urandom > noise; tar cf large.tar noise; oras push --oci-layout large:v1 large.tar >/dev/null; fi; \
         struck() {{ \"$@\" & push=$!; sleep 0.2; kdk --root {top}/root -q restart registry; wait $push; }}; \
         {{ {}; }} || true\n",
        peers().display(),
        client.name,
        client.plain_flag(setup),
        u8::from(client.steps.iter().any(|(operation, _)| *operation == Operation::Large)),
        if client.prepare.is_empty() { ":" } else { client.prepare },
    );
    for (operation, line) in client.steps {
        // Each in a shell of its own, which ends with the first command that fails.
        script.push_str(&format!(
            "if out=$( (set -eo pipefail\n{line}\n) 2>&1 ); then echo '@{operation:?} ok'; else echo \"@{operation:?} $(echo \"$out\" | grep -v TUF | tail -n 2 | tr '\\n' ' ' | cut -c1-400)\"; fi\n"
        ));
    }
    let output = namespace.sh(&directory, &script.replacen("set -e; ", "", 1));
    let outcome = |operation: Operation| {
        let mark = format!("@{operation:?} ");
        let found = output.stdout.lines().find_map(|line| line.strip_prefix(&mark));
        found.map_or_else(
            || {
                format!(
                    "it did not come so far: {}",
                    output.stderr.lines().last().unwrap_or_default()
                )
            },
            str::to_owned,
        )
    };
    client
        .steps
        .iter()
        .map(|(operation, _)| (*operation, outcome(*operation)))
        .collect()
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn matrix_http_on_loopback() {
    run(Setup::Loopback);
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn matrix_http_by_two_names() {
    run(Setup::Http);
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn matrix_https_trusted() {
    run(Setup::Https);
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn matrix_https_by_option() {
    run(Setup::HttpsOption);
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn matrix_with_a_metadata_database() {
    run(Setup::Database);
}

/// A table that is green whatever happens would prove nothing.
#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn faults_turn_the_cells_red_that_they_should() {
    let at = |name: &str| CLIENTS.iter().position(|client| client.name == name).expect("a client");
    let crane = std::slice::from_ref(&CLIENTS[at("crane")]);
    let red = |fault| {
        let cells = cells(Setup::Https, crane, Some(fault));
        let red = |operation| cells[&("crane", operation)].iter().all(|outcome| outcome != "ok");
        eprintln!("{fault:?}: {:?}", cells[&("crane", Operation::Push)]);
        (red(Operation::Login), red(Operation::Push))
    };
    // Login stores what it is given without asking the registry; a push does.
    assert!(red(Fault::Realm).1, "a password was sent to another origin");
    assert!(red(Fault::Key).1, "a token of another key was taken");
    assert!(red(Fault::Bundle).1, "a certificate that nobody vouches for was taken");
}

/// Returns what a person types of a line that the matrix runs: without the
/// flags that the page names apart, and without what only compares.
fn typed(line: &str) -> String {
    let mut text = line.replace(",push=true${P:+,$P}", ",push=true");
    // `${P:+…}` and the like.
    while let Some(start) = text.find(" ${") {
        let end = text[start..].find('}').map_or(text.len(), |at| start + at + 1);
        text.replace_range(start..end, "");
    }
    for variable in [" $SC", " $DC", " $P", " $C", " $S", " $D"] {
        text = text.replace(&format!("{variable} "), " ");
        text = text.strip_suffix(variable).map_or(text.clone(), str::to_owned);
    }
    let text = text
        .replace("$A", "registry.test:5000")
        .replace("$N", "group")
        .replace("$DIGEST", "sha256:…")
        .replace("list$$", "list");
    let compares = |part: &&str| {
        let checks = ["test ", "cmp ", "! ", "skopeo inspect", "rm -rf", "mkdir"];
        !checks.iter().any(|check| part.starts_with(check))
    };
    let parts: Vec<&str> = text.split(" && ").filter(compares).collect();
    let only: Vec<&str> = parts
        .iter()
        .map(|part| part.split(" | grep").next().unwrap_or(part))
        .map(|part| part.split(" | jq").next().unwrap_or(part))
        .map(|part| part.split(" | tar").next().unwrap_or(part))
        .collect();
    only.join(" && ")
}

/// Returns the page about clients, made of the lines that the matrix runs.
fn page() -> String {
    let mut page = String::from(
        "# Clients\n\nWhat to type with each client, taken from the lines that the tests run \
         (`make test-clients`): over HTTP on this machine's loopback, over HTTP and HTTPS by two other names, and with the \
         metadata database. `kdk login` and `kdk trust-docker-registry` say what the clients found on a machine need.\n\n\
         `$T` is a personal access token (`kdk token create`). Over HTTPS, run `kdk trust-docker-registry` and \
         `eval \"$(kdk env)\"` first; then no client needs an option.\n",
    );
    for client in CLIENTS {
        page.push_str(&format!("\n## {}\n\n", client.name));
        if !client.note.is_empty() {
            page.push_str(&format!("{}\n\n", client.note));
        }
        page.push_str(&match client.plain {
            ("", _) => String::new(),
            (flag, true) => format!("Over plain HTTP it needs `{flag}` on another address than loopback.\n\n"),
            (flag, false) => format!("Over plain HTTP it needs `{flag}`.\n\n"),
        });
        page.push_str(&match client.certificate {
            Some(option) if !option.is_empty() => {
                let option = option
                    .replace("$CERTS", "DIRECTORY")
                    .replace("$CERT", "registry_host.crt");
                format!("Its own option for the certificate: `{option}`.\n\n")
            }
            _ => String::new(),
        });
        page.push_str("| | line |\n|---|---|\n");
        for (operation, line) in client.steps {
            if !matches!(
                operation,
                Operation::Large | Operation::Interrupted | Operation::Parallel
            ) {
                let line = typed(line).replace('|', "\\|");
                page.push_str(&format!("| {} | `{line}` |\n", operation.word()));
            }
        }
    }
    page
}

#[test]
fn the_page_about_clients_is_what_the_matrix_runs() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md");
    let page = page();
    if std::env::var_os("KDK_GENERATE").is_some() {
        std::fs::write(&path, &page).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/clients.md is not current; write it with: make generate"
    );
}
