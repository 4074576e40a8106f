//! The commands of another registry than the built-in one, for its database.

use std::process::{Command, Stdio};

use super::error::CommandError;
use crate::config::Config;
use crate::services;

/// Returns the program of another registry than the built-in one.
pub fn program(config: &Config) -> String {
    let image = config.registry_image();
    image.unwrap_or_else(|| services::registry_command(config).swap_remove(0))
}

/// Returns another registry's own command, as it is run in the root.
pub fn by_registry(config: &Config, arguments: &[&str]) -> Command {
    let line = services::registry_command(config);
    let (program, before) = line.split_first().expect("a command has a program");
    let mut command = Command::new(program);
    command
        .args(before)
        .args(arguments)
        .current_dir(config.root().path())
        .envs(engine_or_own(config))
        .stdin(Stdio::null());
    command
}

/// Refuses work on the metadata database of a registry that knows of none.
pub fn check_has_one(config: &Config) -> Result<(), CommandError> {
    if !config.runs_registry() || config.registry_is_embedded() || has_database(config)? {
        return Ok(());
    }
    Err(CommandError::user(format!(
        "{} does not support a metadata database and keeps metadata in files: there is none",
        program(config)
    )))
}

/// Returns what a registry's command has in its environment: an image's engine
/// goes by some of it itself.
fn engine_or_own(config: &Config) -> Vec<(String, String)> {
    let mut env = services::registry_env(config);
    env.retain(|(name, _)| config.registry_image().is_none() || !services::container::is_of_engine(name));
    env
}

/// Says whether another registry than the built-in one knows of a metadata database.
pub fn has_database(config: &Config) -> Result<bool, CommandError> {
    match by_registry(config, &["database", "--help"]).output() {
        // Not the image, but its engine, by what docker's manual says of these.
        Ok(output) if config.registry_image().is_some() && output.status.code() == Some(125) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(CommandError::user(format!("cannot run {}: {said}", program(config))))
        }
        // Some end well with an unknown command, too.
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).contains("migrate")),
        // Why there is none was said by whoever built it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(CommandError::user(format!("cannot run {}: {error}", program(config)))),
    }
}
