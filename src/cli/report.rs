//! `kdk report`: all that somebody needs who is asked for help, without
//! secrets; shown before it is written.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::{Command, Stdio};

use camino::Utf8PathBuf;
use clap::Args;
use regex::{Captures, Regex};
use serde_json::Value;

use super::error::CommandError;
use super::ui::Ui;
use crate::config::Config;
use crate::config::redact::{REDACTED, secrets};
use crate::root::Root;
use crate::services;
use crate::supervisor::tail::Source;
use crate::sys;
use crate::sys::clock::{Clock, backup_stamp};
use crate::sys::fs::{PRIVATE, read_optional, write_atomic};

/// Lines of each log that are taken.
const LINES: usize = 200;
/// Variable that says yes beforehand.
const CONFIRM: &str = "KDK_REPORT_CONFIRM";
/// What keys of secrets have in them, in settings, logs and addresses.
const SENSITIVE: &str =
    "secret|passw|passphrase|token|api_?key|access_?key|account_?key|credential|cookie|authorization|_pat|session";
/// Shorter texts are not replaced wherever they are: that would garble everything.
const SHORTEST: usize = 6;

/// Arguments of `kdk report`.
#[derive(Debug, Args)]
#[command(
    after_help = "Versions, settings, what runs, what doctor finds, certificates (no keys), and the last lines of each\nlog; tokens, passwords and keys are taken out. It is shown first, and written after a yes.\n\nExamples:\n  kdk report\n  kdk report --print | less\n  kdk report --yes --output report.txt"
)]
pub struct ReportArgs {
    /// Show it, and write nothing
    #[arg(long, conflicts_with = "output")]
    print: bool,
    /// File to write (default: kdk-report-TIME.txt here)
    #[arg(long, short, value_name = "FILE")]
    output: Option<Utf8PathBuf>,
    /// Do not show it, and do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Gathers, shows, asks, writes.
pub fn run(ui: &Ui, root: &Root, args: &ReportArgs) -> Result<(), CommandError> {
    let text = {
        let _progress = ui.progress("gathering what is known of this root");
        without_secrets(root, &gather(root)?)
    };
    if args.print || !args.yes {
        ui.out(text.trim_end());
    }
    if args.print {
        return Ok(());
    }
    let stamp = backup_stamp(Clock::System.now());
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| format!("kdk-report-{stamp}.txt").into());
    let path = sys::env::current_dir()?.join(path);
    if path.exists() {
        return Err(CommandError::user(format!(
            "{path} is there already; name another with --output FILE"
        )));
    }
    ui.consent(&format!("Write this to {path}?"), args.yes, CONFIRM)?;
    write_atomic(&path, text.as_bytes(), PRIVATE)?;
    ui.done(&format!("{path}: look through it once more before you hand it on."));
    Ok(())
}

/// Returns the report, secrets included.
fn gather(root: &Root) -> Result<String, CommandError> {
    let mut text = String::new();
    let mut section = |title: &str, body: &str| {
        let _ = writeln!(text, "## {title}\n\n{}\n", body.trim_end());
    };
    let system = format!(
        "kdk {} on {} ({}), user {}\nroot {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        sys::process::user_id(),
        root.path()
    );
    section("System", &system);
    for (title, arguments) in [
        ("What runs", &["status"][..]),
        ("What doctor finds", &["doctor"]),
        ("Certificates", &["cert", "show"]),
        ("Clients", &["setup"]),
        ("What reconfigure would do", &["reconfigure", "--dry-run"]),
        ("Roots of this user", &["roots"]),
    ] {
        section(title, &said(root, arguments)?);
    }
    for path in [root.kdk_yml(), root.registry_config(), khulnasoft_yml(root)] {
        let body = read_optional(&path).map_or_else(|error| error.to_string(), Option::unwrap_or_default);
        // Of what cannot be read nobody can tell what in it is secret.
        let body = match serde_yaml::from_str::<Value>(&body) {
            Ok(_) => body,
            Err(error) => format!("left out: it is no YAML: {error}"),
        };
        section(root.relative(&path).as_str(), &body);
    }
    let paths = services::paths(root);
    for (name, _) in services::logged(root) {
        let lines = Source::new(&name, paths.log(&name)).last(LINES, None)?;
        let lines: Vec<String> = lines
            .iter()
            .map(|line| format!("{} {}", line.stamp, line.text))
            .collect();
        section(&format!("Log of {name}, last {LINES} lines"), &lines.join("\n"));
    }
    Ok(text)
}

/// Returns Rails' file, where the settings say that it is.
fn khulnasoft_yml(root: &Root) -> Utf8PathBuf {
    Config::load(root).map_or_else(|_| root.khulnasoft_yml(), |config| config.khulnasoft_yml())
}

/// Returns all that a command of ours says.
fn said(root: &Root, arguments: &[&str]) -> Result<String, CommandError> {
    let mut command = Command::new(sys::env::current_exe()?);
    command.arg("--root").arg(root.path()).args(arguments);
    let output = command.stdin(Stdio::null()).env("NO_COLOR", "1").output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(format!(
        "$ kdk {}\n{}{}(exit code {})",
        arguments.join(" "),
        text(&output.stdout),
        text(&output.stderr),
        output.status.code().unwrap_or(-1)
    ))
}

/// Takes out what this root keeps secret, and what looks like a secret.
fn without_secrets(root: &Root, text: &str) -> String {
    let mut known = BTreeSet::new();
    for path in [
        root.secrets(),
        root.kdk_yml(),
        root.registry_config(),
        khulnasoft_yml(root),
        root.stand_in(),
        root.front(),
    ] {
        let tree = read_optional(&path).ok().flatten().unwrap_or_default();
        let tree: Value = serde_yaml::from_str(&tree).unwrap_or_default();
        let mut found = Vec::new();
        secrets(&tree, &mut found);
        always_secret(&tree, &mut found);
        if path == root.secrets() {
            let all = tree.as_object().into_iter().flat_map(serde_json::Map::values);
            found.extend(all.filter_map(Value::as_str).map(str::to_owned));
        }
        known.extend(found.into_iter().filter(|secret| secret.len() >= SHORTEST));
    }
    let mut text = text.to_owned();
    for secret in known.iter().rev() {
        text = text.replace(secret.as_str(), REDACTED);
    }
    // Personal access tokens, JWTs, keys, passwords in addresses, headers.
    for (pattern, instead) in [
        (r"kh[a-z]*pat-[A-Za-z0-9_-]{8,}", REDACTED),
        (r"glrt-[A-Za-z0-9_-]{4,}", REDACTED),
        (r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", REDACTED),
        (
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)-----END [A-Z ]*PRIVATE KEY-----",
            REDACTED,
        ),
        (r"(?i)\b(bearer|basic) [A-Za-z0-9+/=._-]{8,}", REDACTED),
    ] {
        let pattern = Regex::new(pattern).expect("a valid expression");
        text = pattern.replace_all(&text, instead).into_owned();
    }
    let login = Regex::new(r"://[^/\s@]+@").expect("a valid expression");
    text = login.replace_all(&text, format!("://{REDACTED}@")).into_owned();
    // What stands under a key that says so, however short and however written.
    let named = Regex::new(&format!(
        r#"(?i)("?[\w.-]*(?:{SENSITIVE})[\w.-]*"?[ \t]*[:=][ \t]*)(\[?[ \t]*)("[^"\n]*"|'[^'\n]*'|[^\s"'{{\[|,&}}\]]+)"#
    ))
    .expect("a valid expression");
    let text = named.replace_all(&text, |found: &Captures<'_>| {
        if ["true", "false", "null"].contains(&&found[3]) {
            found[0].to_owned()
        } else {
            format!("{}{}{REDACTED}", &found[1], &found[2])
        }
    });
    let remark = Regex::new(r"(?im)(#.*?(?:passw|secret|token)\w*).*$").expect("a valid expression");
    remark.replace_all(&text, format!("$1 {REDACTED}")).into_owned()
}

/// Adds what is secret whatever its key: the environment of a registry, and headers.
fn always_secret(tree: &Value, found: &mut Vec<String>) {
    fn strings(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) => found.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
            Value::Object(map) => map.values().for_each(|value| strings(value, found)),
            _ => {}
        }
    }
    let Value::Object(map) = tree else {
        if let Value::Array(items) = tree {
            items.iter().for_each(|item| always_secret(item, found));
        }
        return;
    };
    for (key, value) in map {
        if ["env", "headers"].contains(&key.as_str()) {
            strings(value, found);
        } else {
            always_secret(value, found);
        }
    }
}
