//! `kdk setup`: how each client is told of the registry; printed, applied,
//! taken back.

use camino::Utf8PathBuf;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use serde_json::json;

use super::error::{CommandError, USAGE};
use super::setup_report::{self, How, line};
use super::tokens;
use super::ui::{Tone, Ui};
use crate::clients::setup::apply::{self, State};
use crate::clients::setup::plan::{Plan, SetupError};
use crate::clients::setup::{ALL, Client, NginxOptions, Scene, find};
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
    // nginx would look for them below its own directory.
    let here = crate::sys::env::current_dir()?;
    let absolute = |path: &Option<Utf8PathBuf>| path.as_ref().map(|path| here.join(path));
    let pair = absolute(&args.nginx.certificate).zip(absolute(&args.nginx.key));
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
    let key = client.key(&scene);
    let how = How {
        client: client.name(),
        asked,
        is_apply: args.apply,
        yes: args.yes,
        json: args.json,
    };
    if args.remove {
        // What is taken out does not depend on what would be put in now.
        let plan = client.plan(&scene).unwrap_or_default();
        let handled = apply::remove(config.root(), &key, &plan)?;
        if handled.is_empty() && plan.files.is_empty() && plan.text.is_some() {
            return Err(CommandError::user(format!(
                "kdk put nothing anywhere for {asked}: what its printed lines did is undone where they did it"
            )));
        }
        return setup_report::show(ui, config, &how, &plan, &handled);
    }
    let plan = client.plan(&scene)?;
    if args.apply {
        if let Some((what, remedy)) = plan.blocked {
            return Err(CommandError::user(what).hint(remedy));
        }
        if plan.files.is_empty() && plan.text.is_some() {
            let error = CommandError::user(format!(
                "{asked} reads no file of this machine: what it must be told is printed by: kdk setup {asked}"
            ));
            return Err(plan.notes.into_iter().fold(error, CommandError::hint));
        }
        let handled = apply::apply(config.root(), &key, &plan, Clock::System.now())?;
        return setup_report::show(ui, config, &how, &plan, &handled);
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
    } else if let Some((what, remedy)) = &plan.blocked {
        ui.warn(what);
        ui.tip(remedy);
    } else if !plan.files.is_empty() {
        let options = if client.name() == "nginx" {
            ", with the same options"
        } else {
            ""
        };
        ui.tip(&format!(
            "put it there with: kdk setup {} --apply{options}",
            client.name()
        ));
        if let Some(reload) = &plan.reload {
            ui.tip(&format!("it is taken up after: {}", line(reload)));
        }
    }
    plan.notes.iter().for_each(|note| ui.tip(note));
    Ok(())
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
