//! `kdk registry gc`: the online garbage collection.

use camino::Utf8PathBuf;
use clap::Subcommand;
use serde_json::json;

use super::configuration;
use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::registry::admin;
use crate::registry::config::database::Mode;
use crate::sys::clock::Clock;

/// Subcommands of `kdk registry gc`.
#[derive(Debug, Subcommand)]
pub enum GcCommand {
    /// Show what waits for a review, and what was removed
    Status {
        /// The configuration (default: the root's registry/config.yml)
        config: Option<Utf8PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Carries out a subcommand.
pub fn run(session: &Session, command: GcCommand) -> Result<(), CommandError> {
    let GcCommand::Status { config, json } = command;
    let source = configuration(session, config)?;
    if source.load().map_err(admin::CommandError::from)?.database.mode == Mode::Files {
        return Err(CommandError::user(
            "the metadata of this registry are in files: nothing is collected while it serves",
        )
        .hint("collect garbage with: kdk registry garbage-collect"));
    }
    let (queues, totals) = admin::online_gc(&source)?;
    let names = ["blobs", "manifests"];
    if json {
        let mut all = json!({"removed": {"blobs": totals.blobs, "manifests": totals.manifests, "bytes": totals.bytes}});
        for (name, queue) in names.into_iter().zip(&queues) {
            all[name] = json!({
                "waiting": queue.waiting,
                "due": queue.due,
                "postponed": queue.postponed,
                "next_review": queue.next.map(|time| time.to_string()),
            });
        }
        session.ui.out(&all.to_string());
        return Ok(());
    }
    let now = Clock::System.now();
    let mut lines = vec![format!(
        "{:<10} {:>8} {:>8} {:>9}  NEXT REVIEW",
        "QUEUE", "WAITING", "DUE", "POSTPONED"
    )];
    for (name, queue) in names.into_iter().zip(&queues) {
        let next = match queue.next {
            None => "-".to_owned(),
            Some(time) if time <= now => "now".to_owned(),
            Some(time) => {
                let seconds = time.duration_since(now).as_secs().unsigned_abs();
                format!(
                    "in {}",
                    indicatif::HumanDuration(std::time::Duration::from_secs(seconds))
                )
            }
        };
        lines.push(format!(
            "{name:<10} {:>8} {:>8} {:>9}  {next}",
            queue.waiting, queue.due, queue.postponed
        ));
    }
    lines.push(format!(
        "Removed so far: {} blobs ({}), {} manifests.",
        totals.blobs,
        indicatif::BinaryBytes(totals.bytes),
        totals.manifests
    ));
    session.ui.out(&lines.join("\n"));
    Ok(())
}
