//! `kdk diff-config`: what reconfigure would change.

use clap::Args;
use serde_json::json;

use super::reconfigure::show_certificates;
use crate::cli::Session;
use crate::cli::error::{CommandError, WOULD_CHANGE};
use crate::cli::ui::{Tone, paint};
use crate::reconfigure::{Action, plan};
use crate::render::diff::{Line, lines};
use crate::sys::clock::Clock;

/// Arguments of `kdk diff-config`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 no difference, 3 something would change. Protected files are shown too.")]
pub struct DiffConfigArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows the differences; secrets are replaced.
pub fn run(session: &Session, args: &DiffConfigArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    let plan = plan(&config, Clock::System.now())?;
    let changed: Vec<_> = plan.files.iter().filter(|file| file.action != Action::Keep).collect();
    if args.json {
        let files: Vec<_> = changed
            .iter()
            .map(|file| {
                let mut diff = Vec::new();
                if !file.is_key {
                    show_plain(&file.old, &file.new, |line| diff.push(line));
                }
                json!({"file": config.root().relative(&file.path), "new": file.action == Action::Create, "protected": file.action == Action::Protected, "diff": diff})
            })
            .collect();
        session
            .ui
            .json(&json!({"would_change": plan.changes_anything(), "files": files}))?;
    } else {
        show_certificates(session, &config, &plan, &|line| session.ui.out(line));
        for file in &changed {
            session
                .ui
                .out(&paint(Tone::Strong, config.root().relative(&file.path).as_str()));
            session.ui.out(&"-".repeat(80));
            if file.is_key {
                session.ui.out("(a private key, which is not shown)");
            } else {
                show_diff(&file.old, &file.new, |line| session.ui.out(&line));
            }
            session.ui.out("");
        }
    }
    if plan.changes_anything() {
        return Err(CommandError::silent(WOULD_CHANGE));
    }
    if !args.json {
        session.ui.done("No difference.");
    }
    Ok(())
}

/// Shows a difference with colours.
pub fn show_diff(old: &str, new: &str, mut show: impl FnMut(String)) {
    for line in lines(old, new) {
        show(match line {
            Line::Hunk(text) => paint(Tone::Name, text.trim_end()),
            Line::Same(text) => format!(" {text}"),
            Line::Removed(text) => paint(Tone::Bad, &format!("-{text}")),
            Line::Added(text) => paint(Tone::Good, &format!("+{text}")),
        });
    }
}

fn show_plain(old: &str, new: &str, mut show: impl FnMut(String)) {
    for line in lines(old, new) {
        show(match line {
            Line::Hunk(text) => text.trim_end().to_owned(),
            Line::Same(text) => format!(" {text}"),
            Line::Removed(text) => format!("-{text}"),
            Line::Added(text) => format!("+{text}"),
        });
    }
}
