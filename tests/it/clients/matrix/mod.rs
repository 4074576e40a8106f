//! Every client against every setup. It needs `support/bootstrap --peers`, and
//! is run by `make test-clients`.

mod page;
mod registries;
mod table;

use std::collections::BTreeMap;

use crate::support::namespace::{ADDRESS, Namespace};
use crate::support::{Output, image, peers};
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

    /// Says whether clients speak TLS.
    fn is_https(self) -> bool {
        matches!(self, Self::Https | Self::HttpsOption)
    }

    /// Says whether the large images are pushed here: once for each transport
    /// and each place of the metadata.
    fn is_heavy(self) -> bool {
        matches!(self, Self::Https | Self::Database)
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
    /// Clients are sent to another origin for tokens.
    Realm,
    /// The registry checks tokens with another key.
    Key,
    /// The bundle of authorities lacks the registry's certificate.
    Bundle,
    /// A layer of the image that is there before is not what its digest says.
    Blob,
}

type Cells = BTreeMap<(&'static str, Operation), Vec<String>>;

/// What a run of the matrix found.
struct Outcome {
    cells: Cells,
    /// What `kdk registry verify` said afterwards.
    verify: Output,
}

/// Runs every client against a setup, or those that `KDK_CLIENTS` names; prints
/// the table, and fails where a cell does.
fn run(setup: Setup) {
    let only = std::env::var("KDK_CLIENTS").unwrap_or_default();
    let names: Vec<&str> = only.split_whitespace().collect();
    let wanted = |client: &str, _| client.is_empty() || names.is_empty() || names.contains(&client);
    let outcome = outcome(setup, &wanted, None, EMBEDDED);
    assert!(!outcome.cells.is_empty(), "KDK_CLIENTS names no client: {only}");
    let mut failures = Vec::new();
    show(setup, &outcome.cells, &mut failures);
    assert!(failures.is_empty(), "{setup:?}:\n{}", failures.join("\n"));
    // Whatever clients did, what is stored is what its digest says. The kills
    // may have left temporary files.
    let verified = &outcome.verify.stdout;
    assert!(verified.contains(" repositories"), "{:?}", outcome.verify);
    let wrong = |line: &&str| !line.starts_with("leftover ") && !line.contains(" repositories");
    let wrong: Vec<&str> = verified.lines().filter(wrong).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Settings for the registry that is built in, and for Debian's behind the front.
const EMBEDDED: &str = "";
const DOCKER_REGISTRY: &str = "  bin: /usr/bin/docker-registry\n";

/// Runs the steps that are wanted against a setup.
fn outcome(setup: Setup, wanted: &dyn Fn(&str, Operation) -> bool, fault: Option<Fault>, registry: &str) -> Outcome {
    let namespace = Namespace::new(ADDRESS).expect("the matrix needs root");
    let root = namespace.join("root");
    namespace.sh("", "kdk init root").ok();
    std::fs::write(root.join("kdk.yml"), format!("{}{registry}", setup.settings())).expect("written");
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
    for address in setup.addresses() {
        let script = format!(
            "export PATH={}:$PATH DOCKER_CONFIG=$PWD/docker; crane auth login {address} -u x -p {token}; \
             skopeo copy -q --dest-tls-verify=false --dest-creds x:{token} oci:../layout:image docker://{address}/base:v1; \
             crane --insecure mutate --set-platform linux/arm64 -t {address}/base:arm64 {address}/base:v1; \
             crane --insecure index append -m {address}/base:v1 -m {address}/base:arm64 -t {address}/multi:v1",
            peers().display()
        );
        namespace.sh("before", &script).ok();
    }
    if let Some(fault) = fault {
        inject(&namespace, setup, fault, &token);
    }
    // The name is nobody's: whether large images are pushed at all.
    if setup.is_heavy() && wanted("", Operation::Large) {
        for name in ["large", "struck"] {
            image::large(&namespace.join(name), 300_000_000);
        }
    }
    let mut cells = Cells::new();
    for client in CLIENTS {
        if setup == Setup::HttpsOption && client.certificate.is_none() {
            continue;
        }
        for (number, address) in setup.addresses().iter().enumerate() {
            let steps: Vec<(Operation, &str)> = client
                .steps
                .iter()
                .filter(|(operation, _)| wanted(client.name, *operation))
                .filter(|(operation, _)| !operation.is_heavy() || setup.is_heavy() && number == 0)
                .copied()
                .collect();
            if steps.is_empty() {
                continue;
            }
            for (operation, outcome) in cells_of(&namespace, setup, client, &steps, address, &token, fault) {
                cells.entry((client.name, operation)).or_default().push(outcome);
            }
        }
        // Large images would fill the disk, client by client.
        namespace.sh("", &format!("rm -rf work-{} || true", client.name)).ok();
    }
    let verify = namespace.sh("root", "kdk registry verify");
    namespace.sh("root", "kdk kill --yes").ok();
    Outcome { cells, verify }
}

/// Puts a fault into what runs.
fn inject(namespace: &Namespace, setup: Setup, fault: Fault, token: &str) {
    let root = namespace.join("root");
    let settings = |more: &str| {
        std::fs::write(root.join("kdk.yml"), format!("{}{more}", setup.settings())).expect("written");
        namespace.sh("root", "kdk up").ok();
    };
    match fault {
        Fault::Realm => settings("  token_realm: http://kdk.test:3000/jwt/auth\n"),
        Fault::Key => {
            namespace
                .sh("root", "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout other.key -out other.crt 2>/dev/null")
                .ok();
            // As a setting it is refused, since the keys do not match.
            namespace
                .sh("root", "sed -i \"s|rootcertbundle:.*|rootcertbundle: $PWD/other.crt|\" registry/config.yml && kdk restart registry")
                .ok();
        }
        Fault::Blob => {
            let damage = format!(
                "layer=$(skopeo inspect --raw --tls-verify=false --creds x:{token} docker://127.0.0.1:5000/base:v1 | jq -r '.layers[0].digest' | cut -d: -f2); \
                 data=$(find registry -path \"*/$layer/data\"); test -f $data; printf xxxx | dd of=$data bs=1 seek=20 conv=notrunc status=none"
            );
            namespace.sh("root", &damage).ok();
        }
        Fault::Bundle => {}
    }
}

fn show(setup: Setup, cells: &Cells, failures: &mut Vec<String>) {
    for client in CLIENTS {
        let mut line = format!("{setup:?} {}:", client.name);
        let flag = client.plain_flag(setup);
        for ((_, operation), outcomes) in cells.iter().filter(|((name, _), _)| *name == client.name) {
            let says = client.fault(*operation, setup);
            let is_good = |outcome: &&String| says.map_or(*outcome == "ok", |says| outcome.contains(says));
            let bad: Vec<&String> = outcomes.iter().filter(|outcome| !is_good(outcome)).collect();
            let word = match (says, flag) {
                (Some(_), _) => "client's fault",
                (None, "") => "ok",
                (None, _) => "awkward",
            };
            let word = if bad.is_empty() { word } else { "FAILED" };
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
    steps: &[(Operation, &str)],
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
    let environment = match (setup, fault) {
        (Setup::Https, Some(Fault::Bundle)) => "export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt; ".to_owned(),
        (Setup::Https, _) => format!("eval \"$(kdk --root {top}/root env)\"; "),
        _ => String::new(),
    };
    let insecure = if setup.is_https() { "" } else { "--tls-verify=false" };
    let mut script = format!(
        "export PATH={}:/usr/local/go/bin:$PATH HOME=$PWD/home GOFLAGS=-mod=mod GOCACHE={top}/go GOPATH={top}/gopath; \
         export DOCKER_CONFIG=$HOME/.docker REGISTRY_AUTH_FILE=$HOME/auth.json; {environment}\
         TOP={top}; A={address}; T={token}; N={}; P='{}'; CERT={top}/root/registry_host.crt; CERTS=$PWD/certs; \
         mkdir -p $HOME/.config/containers $CERTS; cp $CERT $CERTS/ca.crt 2>/dev/null || true; \
         if [ -d {top}/home/.config/containers/certs.d ]; then cp -r {top}/home/.config/containers/certs.d $HOME/.config/containers/; fi; \
         C=\"{certificate}\"; INSECURE={insecure}; STORAGE='--root {top}/cr --runroot {top}/cx --storage-driver vfs'; \
         echo hello > hello.txt; [ -f layer.tar ] || tar cf layer.tar hello.txt\n\
         {}\n{{ {}; }} || true\n",
        peers().display(),
        client.name,
        client.plain_flag(setup),
        include_str!("prelude.sh"),
        if client.prepare.is_empty() { ":" } else { client.prepare },
    );
    for (operation, line) in steps {
        // Each in a shell of its own, which ends with the first command that fails.
        script.push_str(&format!(
            "if out=$( (set -eo pipefail\n{line}\n) 2>&1 ); then echo '@{operation:?} ok'; else echo \"@{operation:?} $(echo \"$out\" | grep -v TUF | tail -n 2 | tr '\\n' ' ' | cut -c1-900)\"; fi\n"
        ));
    }
    script.push_str("echo \"@seconds $SECONDS\"\n");
    let output = namespace.sh(&directory, &script.replacen("set -e; ", "", 1));
    let seconds = output.stdout.lines().find_map(|line| line.strip_prefix("@seconds "));
    eprintln!("{setup:?} {} at {address}: {} s", client.name, seconds.unwrap_or("?"));
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
    steps
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

/// Returns the clients whose push is red with a fault, at each address.
fn red(fault: Fault) -> Vec<&'static str> {
    // Pull, since some push what they have pulled.
    let wanted = |_: &str, operation| matches!(operation, Operation::Login | Operation::Pull | Operation::Push);
    let cells = outcome(Setup::Https, &wanted, Some(fault), EMBEDDED).cells;
    for ((client, operation), outcomes) in &cells {
        eprintln!("{fault:?} {client} {operation:?}: {outcomes:?}");
    }
    let all = |client: &Client| {
        cells[&(client.name, Operation::Push)]
            .iter()
            .all(|outcome| outcome != "ok")
    };
    CLIENTS
        .iter()
        .filter(|client| all(client))
        .map(|client| client.name)
        .collect()
}

/// A table that is green whatever happens would prove nothing.
#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn a_realm_elsewhere_turns_cautious_clients_red() {
    let cautious = ["crane", "regctl", "oras", "helm", "cosign", "ko"];
    assert_eq!(red(Fault::Realm), cautious);
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn another_key_turns_every_client_red() {
    let all: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
    assert_eq!(red(Fault::Key), all);
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn a_bundle_without_the_registry_turns_its_readers_red() {
    // The others read what `trust-docker-registry` put into docker's directories.
    let readers = [
        "crane", "oras", "helm", "cosign", "cosign2", "ko", "ctr", "buildctl", "buildx",
    ];
    assert_eq!(red(Fault::Bundle), readers);
}

#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn a_damaged_layer_turns_pulls_and_the_last_look_red() {
    let wanted = |client: &str, operation| client == "podman" && operation == Operation::Pull;
    let outcome = outcome(Setup::Loopback, &wanted, Some(Fault::Blob), EMBEDDED);
    let pull = &outcome.cells[&("podman", Operation::Pull)];
    assert!(pull.iter().all(|outcome| outcome != "ok"), "{pull:?}");
    assert_ne!(outcome.verify.code, 0, "{:?}", outcome.verify);
}

/// What is called a client's fault it does beside another registry, too.
#[test]
#[ignore = "needs support/bootstrap --peers: make test-clients"]
fn faults_of_clients_are_the_same_beside_docker_registry() {
    let mut cells = 0;
    for client in CLIENTS {
        for (operation, setup, says) in client.faults {
            let wanted = |name: &str, step: Operation| {
                // What comes before: it needs what that leaves.
                name == client.name && step <= *operation && !step.is_heavy() && step != Operation::Parallel
            };
            let found = outcome(*setup, &wanted, None, DOCKER_REGISTRY).cells;
            let found = &found[&(client.name, *operation)];
            assert!(
                found.iter().all(|outcome| outcome.contains(says)),
                "{} {operation:?}: {found:?}",
                client.name
            );
            cells += 1;
        }
    }
    assert!(cells <= 5, "{cells} cells are called the clients' faults");
}

/// No cell is empty: a client does a thing, or has nothing for it.
#[test]
fn every_client_accounts_for_every_operation() {
    for client in CLIENTS {
        for operation in Operation::ALL {
            let does = client.steps.iter().filter(|(step, _)| *step == operation).count();
            let lacks = client.lacks.iter().filter(|lack| **lack == operation).count();
            assert_eq!(does + lacks, 1, "{} {operation:?}", client.name);
        }
    }
}
