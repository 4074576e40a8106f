//! `kdk psql`: a look into the database.

use std::os::unix::process::CommandExt as _;

use clap::Args;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::services::postgresql::Postgresql;

/// Arguments of `kdk psql`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kdk psql\n  kdk psql -d registry_dev -c 'SELECT path FROM repositories'")]
pub struct PsqlArgs {
    /// Arguments passed to psql; -d selects another database
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Becomes psql.
pub fn run(session: &Session, args: &PsqlArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    let program = Postgresql::find(&config)
        .map(|found| found.programs.join("psql").into_std_path_buf())
        .or_else(|_| which::which("psql"))
        .map_err(|_| {
            CommandError::user("psql is not installed").hint(format!(
                "install it with: {}",
                crate::services::postgresql::install_command()
            ))
        })?;
    let socket = format!(
        "{}/.s.PGSQL.{}",
        config.registry_database_host(),
        config.registry_database_port()
    );
    if super::database::is_ours(&config) && !std::path::Path::new(&socket).exists() {
        let hint = if config.postgresql_enabled() {
            "start it with: kdk start postgresql"
        } else {
            "enable it with: kdk config set postgresql.enabled true && kdk reconfigure && kdk start postgresql"
        };
        return Err(CommandError::user("PostgreSQL does not run").hint(hint));
    }
    let mut command = std::process::Command::new(program);
    command
        .env("PGHOST", config.registry_database_host())
        .env("PGPORT", config.registry_database_port().to_string())
        .env("PGDATABASE", config.registry_database_dbname())
        .env("PGSSLMODE", config.registry_database_sslmode())
        .args(&args.arguments);
    // One that is frozen would let it wait for ever.
    if crate::sys::env::var("PGCONNECT_TIMEOUT").is_none() {
        command.env("PGCONNECT_TIMEOUT", "10");
    }
    if let Some(user) = config.registry_database_user() {
        command.env("PGUSER", user);
    }
    if let Some(password) = config.registry_database_password() {
        command.env("PGPASSWORD", password);
    }
    Err(command.exec().into())
}
