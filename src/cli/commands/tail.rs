//! `kdk tail`: logs of services, the last lines and those that follow.

use std::io::IsTerminal as _;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::log_filter::{Filter, FilterArgs};
use crate::cli::log_line;
use crate::cli::ui::{Tone, paint};
use crate::services;
use crate::supervisor::tail::{Line, Source, follow};
use crate::sys::clock::{Clock, log_stamp};

/// Lines that are shown of each log unless told otherwise.
const LINES: usize = 20;

/// Arguments of `kdk logs`: as docker's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kdk logs registry\n  kdk logs -f -n 100")]
pub struct LogsArgs {
    /// Services whose logs to show (default: all)
    services: Vec<String>,
    /// Follow what comes
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines to show of each service (default: all)
    #[arg(long, short = 'n', alias = "tail")]
    lines: Option<usize>,
    /// Only lines since a time (2024-09-26T21:36:00Z) or for a while (10m, 2h)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
    /// Print the lines as they are stored, on a terminal, too
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl From<LogsArgs> for TailArgs {
    fn from(args: LogsArgs) -> Self {
        Self {
            services: args.services,
            lines: Some(args.lines.unwrap_or(usize::MAX)),
            no_follow: !args.follow,
            since: args.since,
            json: args.json,
            raw: args.raw,
            filter: args.filter,
        }
    }
}

/// Arguments of `kdk tail`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kdk tail registry\n  kdk tail registry rails --lines 100\n  kdk tail --no-follow --since 10m\n  kdk tail registry --status 4xx,5xx --repo group/app\n  kdk tail registry --json | jq .message"
)]
pub struct TailArgs {
    /// Services whose logs to show (default: all)
    services: Vec<String>,
    /// How many of the last lines to show of each service (default: 20, or all with --since)
    #[arg(long, short = 'n')]
    lines: Option<usize>,
    /// Show what is there and end
    #[arg(long)]
    no_follow: bool,
    /// Only lines since a time (2024-09-26T21:36:00Z) or for a while (10m, 2h)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
    /// Print the lines as they are stored, on a terminal, too
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Shows logs. Works with a broken `kdk.yml` too.
pub fn run(session: &Session, args: &TailArgs) -> Result<(), CommandError> {
    let root = session.root()?;
    let since = args.since.as_deref().map(parse_since).transpose()?;
    let logged = services::logged(&root);
    let mut names: Vec<String> = Vec::new();
    for name in &args.services {
        let own = services::canonical(name);
        if !logged.iter().any(|(known, _)| known == own) {
            services::pick(&session.config()?, std::slice::from_ref(name))?;
            if args.no_follow {
                session.ui.tip(&format!("{own} has no log yet"));
            }
        }
        names.push(own.to_owned());
    }
    if names.is_empty() {
        names.extend(logged.into_iter().map(|(name, _)| name).filter(|name| name != "kdk"));
        names.extend(
            session
                .config()
                .map(|config| services::catalogue(&config))
                .unwrap_or_default()
                .into_iter()
                .map(|spec| spec.name),
        );
    }
    names.sort();
    names.dedup();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let paths = services::paths(&root);
    let mut sources: Vec<Source> = names.iter().map(|name| Source::new(name, paths.log(name))).collect();
    let filter = Filter::of(&args.filter)?;
    let is_for_people = !args.raw && std::io::stdout().is_terminal();
    let show = |line: &Line| {
        if args.json {
            session
                .ui
                .out(&json!({"time": line.stamp, "service": line.service, "message": line.text}).to_string());
        } else if is_for_people {
            session.ui.out(&log_line::human(line, width));
        } else {
            let name = format!("{:width$} :", line.service);
            session.ui.out(&format!(
                "{} {} {}",
                paint(Tone::Faint, &line.stamp),
                paint(Tone::Name, &name),
                line.text
            ));
        }
    };
    let mut last = Vec::new();
    for source in &mut sources {
        // With only a time given, that alone limits what is shown.
        let count = args.lines.unwrap_or(if since.is_some() { usize::MAX } else { LINES });
        last.extend(source.last_of(count, since.as_deref(), |line| filter.lets(line))?);
    }
    last.sort_by(|a, b| a.stamp.cmp(&b.stamp));
    last.iter().for_each(show);
    if args.no_follow {
        return Ok(());
    }
    Ok(follow(&mut sources, |line| {
        if filter.lets(line) {
            show(line);
        }
        true
    })?)
}

/// Reads a time or a length of time; returns the stamp from which lines count.
fn parse_since(text: &str) -> Result<String, CommandError> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(log_stamp(at));
    }
    let ago = text.parse::<SignedDuration>().map_err(|_| {
        CommandError::user(format!(
            "--since {text:?} is neither a time such as 2024-09-26T21:36:00Z nor a length of time such as 10m"
        ))
    })?;
    let at = Clock::System
        .now()
        .checked_sub(ago)
        .map_err(|error| CommandError::user(error.to_string()))?;
    Ok(log_stamp(at))
}
