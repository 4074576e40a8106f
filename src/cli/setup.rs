//! `kdk setup`: how each client is told of the registry; printed, applied,
//! taken back.

use std::io::IsTerminal as _;
use std::process::Command;

use camino::Utf8PathBuf;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use serde_json::{Value, json};

use super::error::{CommandError, USAGE, USER};
use super::tokens;
use super::ui::{Tone, Ui};
use crate::clients::setup::apply::{self, Done, Handled, State};
use crate::clients::setup::plan::{Plan, Reload, SetupError};
use crate::clients::setup::{ALL, Client, NginxOptions, Scene, find};
use crate::clients::shell::word as quote;
use crate::config::Config;
use crate::render::context::Secrets;
use crate::sys::clock::Clock;

const EXAMPLES: &str = "\
Without a name: the clients found on this machine, and how far they are set up.
With one: what it must be told, on standard output; --apply puts it where the client reads it,
and keeps what was there beside it; --remove takes exactly that out again.

Examples:
  kdk setup
  kdk setup docker --apply
  kdk setup containerd --remove
  kdk setup kubernetes | kubectl apply -f -
  kdk setup nginx --redirect-http --certificate web.crt --key web.key";

/// Arguments of `kdk setup`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct SetupArgs {
    /// Client to set up
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(names()), hide_possible_values = true)]
    client: Option<String>,
    /// Print what the client must be told (which is the default)
    #[arg(long, requires = "client", conflicts_with_all = ["apply", "remove"])]
    print: bool,
    /// Put it where the client reads it
    #[arg(long, requires = "client")]
    apply: bool,
    /// Take out what was put there
    #[arg(long, requires = "client", conflicts_with = "apply")]
    remove: bool,
    /// Let running programs take it up without asking
    #[arg(long, short)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nginx: NginxArgs,
    /// Print the secret of notifications in its place
    #[arg(long, help_heading = "For external-registry")]
    with_secret: bool,
}

/// How nginx is to be.
#[derive(Debug, Args)]
struct NginxArgs {
    /// Port that it listens on (default: the external URL's)
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), help_heading = "For nginx")]
    listen: Option<u16>,
    /// Lead HTTP to HTTPS
    #[arg(long, help_heading = "For nginx")]
    redirect_http: bool,
    /// Its certificate
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "For nginx")]
    certificate: Option<Utf8PathBuf>,
    /// The certificate's key
    #[arg(long, value_name = "FILE", requires = "certificate", help_heading = "For nginx")]
    key: Option<Utf8PathBuf>,
}

/// Returns the names that are taken, with the others that lead to each.
fn names() -> Vec<PossibleValue> {
    let value = |client: &&dyn Client| PossibleValue::new(client.name()).help(client.about());
    let mut all: Vec<PossibleValue> = ALL.iter().map(value).collect();
    let others = ALL.iter().flat_map(|client| client.aliases());
    all.extend(others.map(|name| PossibleValue::new(*name).hide(true)));
    all
}

/// Lists the clients, or sets one up.
pub fn run(ui: &Ui, config: &Config, args: &SetupArgs) -> Result<(), CommandError> {
    let Some(asked) = &args.client else {
        return list(ui, config, args.json);
    };
    let client = find(asked).expect("clap takes no other name");
    check(client, args)?;
    if !config.registry_enabled() {
        return Err(
            CommandError::user("the registry is not enabled: there is nothing to set clients up for")
                .hint("enable it with: kdk config set registry.enabled true && kdk reconfigure"),
        );
    }
    let is_printed = !args.apply && !args.remove;
    let token = match client
        .token_purpose()
        .filter(|_| is_printed && config.registry_auth_enabled())
    {
        Some(purpose) => Some(tokens::for_purpose(config, purpose, TOKEN_HOURS)?),
        None => None,
    };
    let secret = if args.with_secret { Some(secret(config)?) } else { None };
    let pair = args.nginx.certificate.clone().zip(args.nginx.key.clone());
    let scene = Scene {
        config,
        asked,
        token: token.as_deref(),
        secret: secret.as_deref(),
        nginx: NginxOptions {
            listen: args.nginx.listen,
            redirect_http: args.nginx.redirect_http,
            pair,
        },
    };
    if args.remove {
        // What is taken out does not depend on what would be put in now.
        let plan = client.plan(&scene).unwrap_or_default();
        let handled = apply::remove(config.root(), client.name(), &plan)?;
        return report(ui, config, client, args, &plan, &handled);
    }
    let plan = client.plan(&scene)?;
    if args.apply {
        if plan.files.is_empty() && plan.text.is_some() {
            let error = CommandError::user(format!(
                "{asked} reads no file of this machine: what it must be told is printed by: kdk setup {asked}"
            ));
            return Err(plan.notes.into_iter().fold(error, CommandError::hint));
        }
        let handled = apply::apply(config.root(), client.name(), &plan, Clock::System.now())?;
        return report(ui, config, client, args, &plan, &handled);
    }
    print(ui, client, &plan, args.json)
}

/// How long a token holds that is printed for somewhere else.
const TOKEN_HOURS: i64 = 30 * 24;

/// Refuses options of other clients.
fn check(client: &dyn Client, args: &SetupArgs) -> Result<(), CommandError> {
    let nginx = &args.nginx;
    let of_nginx = nginx.listen.is_some() || nginx.redirect_http || nginx.certificate.is_some();
    let wrong = if of_nginx && client.name() != "nginx" {
        "--listen, --redirect-http, --certificate and --key are for nginx"
    } else if args.with_secret && client.name() != "external-registry" {
        "--with-secret is for external-registry"
    } else {
        return Ok(());
    };
    Err(CommandError {
        code: USAGE,
        ..CommandError::user(wrong)
    })
}

/// Returns the secret of notifications.
fn secret(config: &Config) -> Result<String, CommandError> {
    if let Some(given) = config.registry_notification_secret() {
        return Ok(given);
    }
    let kept = Secrets::load(&config.root().secrets())?;
    kept.map(|secrets| secrets.notification_secret).ok_or_else(|| {
        CommandError::user("there is no secret yet").hint("make it, and all the rest, with: kdk reconfigure")
    })
}

/// Lists the clients that this machine has.
fn list(ui: &Ui, config: &Config, as_json: bool) -> Result<(), CommandError> {
    let mut rows = Vec::new();
    let mut all = Vec::new();
    let mut others = Vec::new();
    for client in ALL {
        let scene = Scene {
            asked: client.name(),
            ..Scene::of(config)
        };
        let plan = client.plan(&scene);
        let is_here = client.is_here();
        let state = plan.and_then(|plan| match (&plan.text, plan.files.is_empty()) {
            (Some(_), true) => Ok(("printed", None)),
            (None, true) => Ok(("nothing to do", Some(Tone::Good))),
            _ => apply::state(&plan).map(described),
        });
        let (word, tone, reason) = match state {
            Ok((word, tone)) => (word, tone, None),
            Err(SetupError::Missing { what, .. }) => ("needs more", None, Some(what)),
            Err(error) => {
                ui.warn(&error.to_string());
                ("damaged file", Some(Tone::Bad), Some(error.to_string()))
            }
        };
        if as_json {
            all.push(json!({"client": client.name(), "found": is_here, "state": word, "reason": reason, "about": client.about()}));
        } else if is_here {
            rows.push(vec![
                (client.name().to_owned(), Some(Tone::Strong)),
                (word.to_owned(), tone),
                (client.about().to_owned(), Some(Tone::Faint)),
            ]);
        } else {
            others.push(client.name());
        }
    }
    if as_json {
        return ui.json(&json!({"registry": config.registry_url(), "clients": all}));
    }
    ui.narrow_table(&["client", "state", "what"], &rows, &["what"]);
    ui.say(&format!("Also: {}.", others.join(", ")));
    ui.tip("see what one must be told with: kdk setup NAME; put it in its place with: kdk setup NAME --apply");
    Ok(())
}

fn described(state: State) -> (&'static str, Option<Tone>) {
    match state {
        State::Set => ("set up", Some(Tone::Good)),
        State::Partly => ("set up in part", Some(Tone::Odd)),
        State::Unset => ("not set up", Some(Tone::Odd)),
    }
}

/// Returns what a plan puts into a file, without what else is in there.
fn fragment(change: &crate::clients::setup::plan::Change) -> String {
    change.edit.put("").unwrap_or_default()
}

/// Prints a plan: the result on standard output, the rest beside it.
fn print(ui: &Ui, client: &dyn Client, plan: &Plan, as_json: bool) -> Result<(), CommandError> {
    let state = apply::state(plan)?;
    if as_json {
        let mut files = Vec::new();
        for change in &plan.files {
            let is_there = apply::is_there(change)?;
            files.push(
                json!({"path": change.path, "reader": change.reader, "text": fragment(change), "set_up": is_there}),
            );
        }
        let state = if plan.files.is_empty() {
            "printed"
        } else {
            described(state).0
        };
        return ui.json(&json!({
            "client": client.name(),
            "state": state,
            "files": files,
            "text": plan.text,
            "reload": plan.reload.as_ref().map(|reload| &reload.argv),
            "notes": plan.notes,
        }));
    }
    if let Some(text) = &plan.text {
        ui.out(text.trim_end());
    }
    let mut texts: Vec<(String, Vec<&Utf8PathBuf>)> = Vec::new();
    for change in &plan.files {
        let text = fragment(change);
        match texts.iter_mut().find(|(there, _)| *there == text) {
            Some((_, paths)) => paths.push(&change.path),
            None => texts.push((text, vec![&change.path])),
        }
    }
    let is_one = texts.len() == 1;
    for (number, (text, paths)) in texts.iter().enumerate() {
        if !is_one {
            let gap = if number == 0 { "" } else { "\n" };
            ui.out(&format!(
                "{gap}{}",
                paths
                    .iter()
                    .map(|path| format!("# {path}"))
                    .collect::<Vec<_>>()
                    .join("\n")
            ));
        }
        ui.out(text.trim_end());
    }
    if is_one {
        let paths: Vec<&str> = texts[0].1.iter().map(|path| path.as_str()).collect();
        ui.say(&format!("This goes into {}", paths.join("\nand ")));
    }
    if state == State::Set && !plan.files.is_empty() {
        ui.done("It is there already.");
    } else if !plan.files.is_empty() {
        ui.tip(&format!("put it there with: kdk setup {} --apply", client.name()));
    }
    plan.notes.iter().for_each(|note| ui.tip(note));
    Ok(())
}

/// Says what was done with files, and lets running programs take it up.
fn report(
    ui: &Ui,
    config: &Config,
    client: &dyn Client,
    args: &SetupArgs,
    plan: &Plan,
    handled: &[Handled],
) -> Result<(), CommandError> {
    let is_changed = handled
        .iter()
        .any(|item| matches!(item.done, Done::Added | Done::Replaced | Done::Removed));
    let mut reloaded = None;
    if let Some(reload) = plan.reload.as_ref().filter(|_| is_changed) {
        let may = args.yes || (!args.json && std::io::stdin().is_terminal() && ui.asks(&reload.what)?);
        reloaded = Some(may);
        if may {
            take_up(reload)?;
        }
    }
    if args.json {
        let files: Vec<Value> = handled
            .iter()
            .map(|item| json!({"path": item.path, "reader": item.reader, "result": item.done.word(), "by_hand": by_hand(&item.done)}))
            .collect();
        ui.json(&json!({
            "client": client.name(),
            "files": files,
            "reload": plan.reload.as_ref().map(|reload| &reload.argv),
            "reloaded": reloaded,
            "notes": plan.notes,
        }))?;
    } else {
        for item in handled.iter().filter(|item| item.done != Done::Absent) {
            ui.say(&format!("  {:12} {} ({})", item.done.word(), item.path, item.reader));
        }
        if args.remove && handled.iter().all(|item| item.done == Done::Absent) {
            ui.say(&format!("Nothing was set up for {}.", client.name()));
        }
        if let (Some(false), Some(reload)) = (reloaded, &plan.reload) {
            let line: Vec<String> = reload.argv.iter().map(|part| quote(part)).collect();
            ui.tip(&format!("it is taken up after: {}", line.join(" ")));
        }
    }
    let lines: Vec<&str> = handled.iter().filter_map(|item| by_hand(&item.done)).collect();
    if !lines.is_empty() && !args.json {
        ui.tip("no permission to write there; run:");
        lines.iter().for_each(|line| ui.say(&format!("  {line}")));
    }
    let failures: Vec<String> = handled
        .iter()
        .filter_map(|item| match &item.done {
            Done::Failed(reason) => Some(reason.clone()),
            _ => None,
        })
        .collect();
    if !failures.is_empty() {
        return Err(CommandError::user(failures.join("\n")));
    }
    if !lines.is_empty() {
        return Err(CommandError::silent(USER));
    }
    if args.apply && !args.json {
        if !plan.files.is_empty() {
            ui.done(&format!(
                "{} is set up for {}.",
                args.client.as_deref().unwrap_or(client.name()),
                config.registry_address()
            ));
        }
        plan.notes.iter().for_each(|note| ui.tip(note));
    }
    Ok(())
}

/// Runs what lets a program take its files up.
fn take_up(reload: &Reload) -> Result<(), CommandError> {
    let (program, arguments) = reload.argv.split_first().expect("a command has a program");
    let status = Command::new(program).args(arguments).stdout(std::io::stderr()).status();
    let line = reload.argv.join(" ");
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(CommandError::user(format!("{line} failed: {status}"))
                .hint("the files are written; this alone is left"))
        }
        Err(error) => Err(CommandError::user(format!("{line}: {error}"))),
    }
}

fn by_hand(done: &Done) -> Option<&str> {
    match done {
        Done::Denied(line) => Some(line),
        _ => None,
    }
}

impl From<SetupError> for CommandError {
    fn from(error: SetupError) -> Self {
        let plain = Self::user(error.to_string());
        match error {
            SetupError::Missing { remedy, .. } => plain.hint(remedy),
            SetupError::Format { .. } => plain.hint("nothing was changed; mend the file, and run it again"),
            SetupError::Io(_) => plain,
        }
    }
}
