//! `kdk registry`: the registry server's own verbs.

mod config_check;
pub mod database;
mod garbage_collect;
mod gc;
pub mod import;
mod token;
mod verify;

use std::ffi::OsString;

use camino::Utf8PathBuf;
use clap::Subcommand;

use crate::cli::Session;
use crate::cli::check_name;
use crate::cli::elsewhere;
use crate::cli::error::CommandError;
use crate::config::Config;
use crate::reconfigure::ADMIN;
use crate::registry::config::Source;
use crate::services;

/// Subcommands of `kdk registry`.
#[derive(Debug, Subcommand)]
#[command(version = concat!("kdk/registry v", env!("CARGO_PKG_VERSION")), display_name = "registry")]
pub enum RegistryCommand {
    /// Serve the registry of a configuration file
    Serve {
        /// The file (default: REGISTRY_CONFIGURATION_PATH, else the root's registry/config.yml)
        config: Option<Utf8PathBuf>,
    },
    /// Remove content that nothing refers to, also while the registry runs
    #[command(
        after_help = "Examples:\n  kdk registry garbage-collect --dry-run\n  kdk registry garbage-collect -m\n  kdk registry garbage-collect --grace 0s --json config.yml"
    )]
    GarbageCollect(garbage_collect::Args),
    /// Look at the garbage collection of a registry with a database
    #[command(subcommand)]
    Gc(gc::GcCommand),
    /// Check every digest, link and reference of the storage
    #[command(after_help = "Examples:\n  kdk registry verify\n  kdk registry verify --repair")]
    Verify(verify::Args),
    /// Import into and migrate the metadata database
    #[command(subcommand)]
    Database(database::DatabaseCommand),
    /// Look at a configuration file
    #[command(subcommand)]
    Config(config_check::ConfigCommand),
    /// Say whether an image may have a name, and which name works
    #[command(
        after_help = "Prints the name, or one that works in its place; ends with 1 where it cannot stay.\n\nExamples:\n  kdk registry check-name group/project/_Feature:latest\n  docker push registry.test:5000/$(kdk registry check-name group/project/main)"
    )]
    CheckName(check_name::CheckNameArgs),
    /// Print a bearer token for curl
    #[command(
        after_help = "Example:\n  curl -H \"Authorization: Bearer $(kdk registry token --scope registry:catalog:*)\" http://127.0.0.1:5000/v2/_catalog"
    )]
    Token {
        /// What the token is to grant, such as repository:a/b:pull,push (repeatable)
        #[arg(long, required = true)]
        scope: Vec<String>,
        /// User whose rights limit it; of a real KhulnaSoft (rails.mode: external) it is the administrator
        #[arg(long, default_value = ADMIN)]
        user: String,
    },
}

/// Reads a command line of the Go binary: called as `registry`, the binary is one.
pub fn as_registry_binary(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let is_registry = arguments
        .first()
        .and_then(|name| std::path::Path::new(name).file_name())
        .is_some_and(|name| name == "registry");
    if is_registry {
        // By its own name, so that it shows up once in what it says of its use.
        arguments[0] = "kdk".into();
        arguments.insert(1, "registry".into());
    }
    arguments
}

/// Carries out a subcommand.
pub fn run(session: &Session, command: RegistryCommand) -> Result<(), CommandError> {
    match command {
        RegistryCommand::Serve { config } => Ok(crate::registry::server::serve(&configuration(session, config)?)?),
        RegistryCommand::GarbageCollect(args) => garbage_collect::run(session, args),
        RegistryCommand::Gc(command) => gc::run(session, command),
        RegistryCommand::CheckName(args) => check_name::run(&session.ui, &args),
        RegistryCommand::Config(command) => config_check::run(session, command),
        RegistryCommand::Database(command) => database::run(session, command),
        RegistryCommand::Verify(args) => verify::run(session, args),
        RegistryCommand::Token { scope, user } => token::run(&session.ui, &session.config()?, &scope, &user),
    }
}

/// Returns where a root's registry has its configuration from.
pub fn source_of(config: &Config) -> Source {
    let mut environment = crate::sys::env::all();
    environment.extend(services::registry_env(config));
    Source {
        path: config.root().registry_config(),
        environment,
    }
}

/// Returns the configuration that is meant.
fn configuration(session: &Session, given: Option<Utf8PathBuf>) -> Result<Source, CommandError> {
    let environment = crate::sys::env::all();
    let given = given.or_else(|| crate::sys::env::var("REGISTRY_CONFIGURATION_PATH").map(Utf8PathBuf::from));
    let path = match given {
        Some(path) => path,
        None => session.root()?.registry_config(),
    };
    // What the service has in its environment goes with the root's own.
    match session.config() {
        Ok(config) if path == config.root().registry_config() => {
            elsewhere::refuse(&config)?;
            if !path.exists() {
                let error = CommandError::user(format!("{path} does not exist"));
                return Err(error.hint("make it with: kdk reconfigure"));
            }
            Ok(source_of(&config))
        }
        _ => Ok(Source { path, environment }),
    }
}
