//! `docs/clients.md`, made of the lines that the matrix runs.

use super::Setup;
use super::table::{CLIENTS, Client, Operation};

/// Returns what a person types of a line that the matrix runs, with the flags
/// that plain HTTP or nothing needs, and without what only compares.
fn typed(client: &Client, line: &str, plain: bool) -> String {
    let flag = if plain { client.plain.0 } else { "" };
    let mut text = line.to_owned();
    // `${P:+WORDS}` are words where P is something.
    while let Some(start) = text.find("${") {
        let end = start + text[start..].find('}').expect("it ends");
        let (name, words) = text[start + 2..end].split_once(":+").expect("words for a variable");
        let is_set = plain && matches!(name, "P" | "INSECURE");
        let words = if is_set { words.to_owned() } else { String::new() };
        text.replace_range(start..=end, &words);
    }
    let with = |prefix: &str| flag.replacen("--", &format!("--{prefix}"), 1);
    let set = [
        ("$SC", String::new()),
        ("$DC", String::new()),
        ("$C ", String::new()),
        ("$S ", with("src-") + " "),
        ("$D ", with("dest-") + " "),
        ("$P", flag.to_owned()),
        ("$A", "registry.test:5000".to_owned()),
        ("$N", "group".to_owned()),
        ("$DIGEST", "sha256:…".to_owned()),
        ("list$$", "list".to_owned()),
        ("\\\"", "\"".to_owned()),
    ];
    for (name, value) in set {
        text = text.replace(name, &value);
    }
    let compares = |part: &&str| {
        let checks = [
            "test ",
            "cmp ",
            "! ",
            "skopeo inspect",
            "rm -rf",
            "mkdir",
            "whole ",
            "same ",
            "pushed ",
        ];
        // `regctl registry set` without an option changes nothing.
        let is_empty = part.trim() == "regctl registry set registry.test:5000 --skip-check";
        !is_empty && !checks.iter().any(|check| part.starts_with(check))
    };
    let parts: Vec<String> = text
        .split(" && ")
        .filter(compares)
        .map(|part| {
            let part = [
                " | grep",
                " | jq",
                " | tar",
                " > ../pushed.txt",
                "--digestfile pushed.txt ",
            ]
            .iter()
            .fold(part.to_owned(), |part, end| {
                if let Some(option) = end.strip_prefix("--digestfile") {
                    return part.replace(&format!("--digestfile{option}"), "");
                }
                part.split(end).next().unwrap_or_default().to_owned()
            });
            part.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect();
    parts.join(" && ")
}

/// Returns the lines of a client, as one block for a shell.
fn block(client: &Client, plain: bool) -> String {
    let mut block = String::from("```sh\n");
    let shown = |operation: Operation| !operation.is_heavy() && operation != Operation::Parallel;
    for operation in Operation::ALL.into_iter().filter(|operation| shown(*operation)) {
        if let Some((_, line)) = client.steps.iter().find(|(step, _)| *step == operation) {
            block.push_str(&format!("# {}\n{}\n", operation.word(), typed(client, line, plain)));
        }
    }
    block + "```\n"
}

/// Returns the page about clients, made of the lines that the matrix runs.
fn page() -> String {
    let mut page = String::from(
        "# Clients\n\nWhat to type with each client, taken from the lines that the tests run \
         (`make test-clients`): over HTTP at 127.0.0.1, over HTTP and HTTPS at another address by two names, \
         and with the metadata database. `kdk setup` lists the clients found on a machine, and how far \
         each is set up; `kdk login` logs one in.\n\n`$T` is a personal access token (`kdk token create`). Over HTTPS, run \
         `kdk trust-docker-registry` and `eval \"$(kdk env)\"` first; then no client needs an option.\n\n\
         ## What was seen to work\n\n\
         ✔ works; ↻ may give up, and works when the line is run again \
         (the registry is killed in the middle of a push and started again; the others go on by themselves); \
         (✔) not everywhere, see the client's section; – the client has nothing for it.\n\n",
    );
    page.push_str(&format!(
        "| |{}\n|---|{}\n",
        CLIENTS
            .iter()
            .map(|client| format!(" {} |", client.name))
            .collect::<String>(),
        "---|".repeat(CLIENTS.len())
    ));
    for operation in Operation::ALL {
        page.push_str(&format!("| {} |", operation.word()));
        for client in CLIENTS {
            let line = client.steps.iter().find(|(step, _)| *step == operation);
            page.push_str(match line {
                None => " – |",
                Some(_) if client.faults.iter().any(|(failing, ..)| *failing == operation) => " (✔) |",
                Some((_, line)) if line.contains("struck_again ") => " ↻ |",
                Some(_) => " ✔ |",
            });
        }
        page.push('\n');
    }
    for client in CLIENTS {
        page.push_str(&format!("\n## {}\n\n", client.name));
        let name = client.name.split(' ').next().unwrap_or_default();
        if let Some(setup) = kdk::clients::setup::find(name) {
            page.push_str(&if setup.name() == "generic" {
                format!("`kdk setup {name}` prints how it logs in, and what it needs beside.\n\n")
            } else {
                format!("`kdk setup {name} --apply` puts what it must know where it reads it; `--remove` takes it out again.\n\n")
            });
        }
        if !client.note.is_empty() {
            page.push_str(&format!("{}\n\n", client.note));
        }
        let (http, https) = (block(client, true), block(client, false));
        if http == https {
            page.push_str(&format!("### Over HTTP and HTTPS\n\n{http}"));
        } else {
            page.push_str("### Over HTTP\n\n");
            if client.plain.1 && !client.plain.0.is_empty() {
                page.push_str(&format!("At 127.0.0.1 leave `{}` out.\n\n", client.plain.0));
            }
            page.push_str(&format!("{http}\n### Over HTTPS\n\n{https}"));
        }
        for (operation, setup, says) in client.faults {
            let place = match setup {
                Setup::Http => "over plain HTTP at another address than loopback",
                Setup::HttpsOption => "with its own option for the certificate",
                Setup::Loopback | Setup::Https | Setup::Database => unreachable!("it works with all that kdk gives"),
            };
            page.push_str(&format!(
                "\nIt does not manage `{}` {place}, with any registry: \"{says}\".\n",
                operation.word()
            ));
        }
        if let Some(option) = client.certificate.filter(|option| option.starts_with('-')) {
            let option = option
                .replace("$CERTS", "DIRECTORY")
                .replace("$CERT", "registry_host.crt");
            page.push_str(&format!(
                "\nWithout `kdk trust-docker-registry` it takes the certificate by `{option}`.\n"
            ));
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
