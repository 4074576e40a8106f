//! `kdk registry verify`.

use camino::Utf8PathBuf;

use crate::cli::Session;
use crate::cli::commands::database::with_server_of;
use crate::cli::error::CommandError;
use crate::cli::ui::Tone;
use crate::registry::admin;
use crate::registry::config::database::Mode;
use crate::registry::storage::layout;

/// Variable that says yes beforehand.
const CONFIRM: &str = "KDK_REGISTRY_VERIFY_CONFIRM";

/// Arguments of `kdk registry verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file (default: REGISTRY_CONFIGURATION_PATH, else the root's registry/config.yml)
    config: Option<Utf8PathBuf>,
    /// Mend what can be mended; corrupt content moves to .kdk/quarantine
    #[arg(long)]
    repair: bool,
    /// Do not ask before a repair
    #[arg(short, long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Checks, tells, and ends with 1 when something is wrong and stays so.
pub fn run(session: &Session, args: Args) -> Result<(), CommandError> {
    // The remedy is for the same storage.
    let file = args.config.as_ref().map_or(String::new(), |file| format!(" {file}"));
    let source = super::configuration(session, args.config)?;
    if args.repair {
        session.ui.consent(
            "Dangling links will be removed, and corrupt content moved to .kdk/quarantine. Continue?",
            args.yes,
            CONFIRM,
        )?;
    }
    let progress = session.ui.progress("reading");
    let verify = || {
        Ok(admin::verify(&source, args.repair, &|done, total| {
            progress.at(done, total);
        })?)
    };
    // PostgreSQL runs for it, where it is needed.
    let in_database = source.load().is_ok_and(|config| match config.database.mode {
        Mode::Files => false,
        Mode::Database => true,
        Mode::Prefer => config.storage.root.join(layout::database_in_use().as_str()).exists(),
    });
    let outcome = if in_database {
        with_server_of(session, &source, verify)
    } else {
        verify()
    };
    drop(progress);
    let all = outcome?;
    let open = all.findings.iter().filter(|finding| finding.repaired.is_none()).count();
    if args.json {
        session.ui.json(&all)?;
    } else {
        for finding in &all.findings {
            let place = finding
                .repository
                .as_ref()
                .map_or(String::new(), |name| format!("{name}: "));
            let tone = if finding.repaired.is_some() {
                Tone::Odd
            } else {
                Tone::Bad
            };
            let done = finding.repaired.map_or(String::new(), |what| format!(" ({what})"));
            session.ui.out(&format!(
                "{} {place}{}: {}{done}",
                crate::cli::ui::paint(tone, finding.problem),
                finding.subject,
                finding.detail
            ));
        }
        session.ui.out(&format!(
            "{} blobs ({}), {} manifests in {} repositories: {}",
            all.blobs,
            indicatif::BinaryBytes(all.bytes),
            all.manifests,
            all.repositories,
            match (all.findings.len(), open) {
                (0, _) => "all is well".to_owned(),
                (found, 0) => format!("{found} problems, all repaired"),
                (found, open) => format!("{found} problems, {open} of them open"),
            }
        ));
    }
    if open == 0 {
        return Ok(());
    }
    if !args.repair {
        session.ui.hint(&format!(
            "mend what can be mended, with the registry stopped: kdk registry verify --repair{file}"
        ));
    } else if all.in_database {
        session
            .ui
            .hint("push missing blobs again; delete a corrupt manifest, then push it again");
    }
    Err(CommandError::silent(crate::cli::error::USER))
}
