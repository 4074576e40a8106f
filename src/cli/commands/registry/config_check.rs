//! `kdk registry config`.

use camino::Utf8PathBuf;
use clap::Subcommand;
use serde_json::json;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::ui::Tone;

/// Subcommands of `kdk registry config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show the effective registry configuration, and warn about problems
    #[command(
        after_help = "REGISTRY_* variables count, as they do for the server.\n\nExamples:\n  kdk registry config check\n  REGISTRY_HTTP_ADDR=:5001 kdk registry config check config.yml"
    )]
    Check {
        /// The file (default: REGISTRY_CONFIGURATION_PATH, else the root's registry/config.yml)
        config: Option<Utf8PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Explains; ends with 1 when the server would not start.
pub fn run(session: &Session, command: ConfigCommand) -> Result<(), CommandError> {
    let ConfigCommand::Check { config, json } = command;
    let source = super::configuration(session, config)?;
    let config = source.load().map_err(crate::registry::admin::CommandError::from)?;
    let lines = config.explain();
    let problems = crate::registry::server::problems(&config, |_| false);
    if json {
        let settings: Vec<_> = lines
            .iter()
            .map(|(what, how)| json!({"setting": what, "value": how}))
            .collect();
        session.ui.json(&json!({
            "file": source.path,
            "settings": settings,
            "warnings": config.warnings,
            "problems": problems,
        }))?;
    } else {
        let rows: Vec<Vec<(String, Option<Tone>)>> = lines
            .into_iter()
            .map(|(what, how)| vec![(what.to_owned(), Some(Tone::Faint)), (how, None)])
            .collect();
        session.ui.table(&["setting", "value"], &rows);
        for warning in &config.warnings {
            session.ui.warn(warning);
        }
        for problem in &problems {
            session.ui.error(problem);
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(CommandError::silent(crate::cli::error::USER))
    }
}
