//! `kdk registry garbage-collect`.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use camino::Utf8PathBuf;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::ui::Progress;
use crate::registry::admin;
use crate::registry::config::duration;
use crate::registry::maintenance::events::{Event, Options, Summary};

/// Variable that says yes beforehand.
const CONFIRM: &str = "KDK_REGISTRY_GARBAGE_COLLECT_CONFIRM";

/// Bytes of lines that are written in one go.
const WRITTEN_AT_ONCE: usize = 32 << 10;

/// Arguments of `kdk registry garbage-collect`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Args {
    /// The configuration file (default: REGISTRY_CONFIGURATION_PATH, else the root's registry/config.yml)
    config: Option<Utf8PathBuf>,
    /// Only say what would be removed
    #[arg(short, long)]
    dry_run: bool,
    /// Remove manifests without a tag, too
    #[arg(short = 'm', long)]
    delete_untagged: bool,
    /// Say only how it ended
    #[arg(short, long)]
    quiet: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Keep what is younger than this: a push may be under way
    #[arg(long, default_value = "1h", value_parser = parse_grace)]
    grace: Duration,
    /// Remove all blobs of a storage in which no repository has a manifest, when there are N of them
    #[arg(long, value_name = "N")]
    all_blobs: Option<usize>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

/// Asks where somebody can answer, collects, and says what was removed.
pub fn run(session: &Session, args: Args) -> Result<(), CommandError> {
    let source = super::configuration(session, args.config)?;
    // The flag says it where nobody can be asked, as with the Go registries.
    if args.delete_untagged && !args.dry_run && std::io::stdin().is_terminal() {
        session.ui.consent(
            "All untagged manifests will be removed, and everything only they refer to. Continue?",
            args.yes,
            CONFIRM,
        )?;
    }
    let options = Options {
        delete_untagged: args.delete_untagged,
        dry_run: args.dry_run,
        grace: args.grace,
        verbose: !args.quiet,
        all_blobs: args.all_blobs,
    };
    let shown = Shown {
        session,
        quiet: args.quiet,
        json: args.json,
        dry_run: args.dry_run,
        progress: session.ui.progress("marking"),
        failed: Mutex::new(None),
        lines: Mutex::default(),
    };
    let outcome = admin::garbage_collect(&source, options, &|event| shown.event(&event));
    shown.flush(&mut shown.lines.lock().unwrap_or_else(PoisonError::into_inner));
    drop(shown.progress);
    if let Some(error) = shown.failed.into_inner().unwrap_or_default() {
        return Err(error);
    }
    Ok(outcome?)
}

struct Shown<'a> {
    session: &'a Session,
    quiet: bool,
    json: bool,
    dry_run: bool,
    progress: Progress,
    failed: Mutex<Option<CommandError>>,
    /// Lines that wait to be written together: there may be many.
    lines: Mutex<String>,
}

impl Shown<'_> {
    fn event(&self, event: &Event) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Stage { name } => {
                return self.progress.set(match name.as_str() {
                    "mark" => "marking what is alive",
                    "inspect" => "looking for what is not",
                    _ => "removing",
                });
            }
            Event::Progress { done, total } => return self.progress.at(*done, *total),
            _ => {}
        }
        if self.json {
            if !self.quiet || matches!(event, Event::Finished(_) | Event::Warning { .. }) {
                lines.push_str(&self.json(event));
                lines.push('\n');
            }
            return self.flush_full(&mut lines);
        }
        let mut out = |line: &str| {
            lines.push_str(line);
            lines.push('\n');
        };
        match event {
            Event::Warning { message } => self.session.ui.warn(message),
            Event::Finished(summary) => out(&self.closing(summary)),
            _ if self.quiet => {}
            Event::Repository { name, manifests } => {
                out(name);
                for (manifest, references) in manifests {
                    out(&format!("{name}: marking manifest {manifest} "));
                    for reference in references {
                        out(&format!("{name}: marking blob {reference}"));
                    }
                }
            }
            Event::Marked {
                blobs_marked,
                blobs_to_delete,
                manifests_to_delete,
                ..
            } => out(&format!(
                "\n{blobs_marked} blobs marked, {blobs_to_delete} blobs and {manifests_to_delete} manifests eligible for deletion"
            )),
            Event::Manifest { repository, digest } => {
                out(&format!("manifest eligible for deletion: {digest} ({repository})"));
            }
            Event::Blob { digest, .. } => out(&format!("blob eligible for deletion: {digest}")),
            _ => {}
        }
        self.flush_full(&mut lines);
    }

    fn flush_full(&self, lines: &mut String) {
        if lines.len() >= WRITTEN_AT_ONCE {
            self.flush(lines);
        }
    }

    fn flush(&self, lines: &mut String) {
        if !lines.is_empty() {
            self.session.ui.out(lines.trim_end_matches('\n'));
            lines.clear();
        }
    }

    fn json(&self, event: &Event) -> String {
        let mut line = serde_json::to_value(event).unwrap_or_default();
        // The Go registry's lines have a message each, which scripts look for.
        line["msg"] = match event {
            Event::Repository { .. } => "marking repository",
            Event::Marked { .. } => "mark stage complete",
            Event::Manifest { .. } => "manifest eligible for deletion",
            Event::Blob { .. } => "blob eligible for deletion",
            Event::Finished(_) if self.dry_run => "nothing was removed",
            Event::Finished(_) => "sweep stage complete",
            _ => "warning",
        }
        .into();
        line.to_string()
    }

    fn closing(&self, summary: &Summary) -> String {
        let young = match (summary.blobs_kept_young, summary.manifests_kept_young) {
            (0, 0) => String::new(),
            (blobs, manifests) => format!(
                " {blobs} blobs and {manifests} manifests are younger than the grace time and stay (--grace 0s takes them)."
            ),
        };
        if self.dry_run {
            return format!(
                "Nothing was removed; {} blobs and {} manifests would be.{young}",
                summary.blobs_to_delete, summary.manifests_to_delete
            );
        }
        format!(
            "Removed {} blobs and {} manifests, freed {}.{young}",
            summary.blobs_deleted,
            summary.manifests_deleted,
            indicatif::BinaryBytes(summary.bytes_freed)
        )
    }
}
