//! `kdk rails`: the Rails stand-in's own verbs.

use camino::Utf8PathBuf;
use clap::Subcommand;

use crate::cli::error::CommandError;

/// Subcommands of `kdk rails`.
#[derive(Debug, Subcommand)]
pub enum RailsCommand {
    /// Serve a khulnasoft.yml
    Serve {
        /// The file
        config: Utf8PathBuf,
        /// What the stand-in needs beside it
        #[arg(long, default_value = ".kdk/rails/stand-in.yml")]
        settings: Utf8PathBuf,
    },
}

/// Carries out a subcommand.
pub fn run(command: RailsCommand) -> Result<(), CommandError> {
    match command {
        RailsCommand::Serve { config, settings } => Ok(crate::rails::serve(&config, &settings)?),
    }
}
