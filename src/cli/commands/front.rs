//! `kdk front`: the front itself, for the supervisor.

use camino::Utf8PathBuf;
use clap::Subcommand;

use crate::cli::error::CommandError;
use crate::front;

/// Subcommands of `kdk front`.
#[derive(Debug, Subcommand)]
pub enum FrontCommand {
    /// Serve until SIGTERM
    Serve {
        /// Its configuration
        config: Utf8PathBuf,
    },
}

/// Carries out a subcommand.
pub fn run(command: FrontCommand) -> Result<(), CommandError> {
    match command {
        FrontCommand::Serve { config } => Ok(front::serve(&config)?),
    }
}
