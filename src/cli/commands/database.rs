//! What commands do to the metadata database of a root.

use super::registry::source_of;
use super::run_state;
use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::config::Config;
use crate::registry::command::{self, Migrate};
use crate::registry::config::Source;
use crate::registry::storage::layout;
use crate::services::postgresql::Postgresql;
use crate::services::{self, POSTGRESQL};

/// Runs work while the root's PostgreSQL runs; ends it afterwards unless it
/// ran before. A server that kdk does not run is taken as it is.
pub fn with_server<T>(
    session: &Session,
    config: &Config,
    work: impl FnOnce() -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    if !is_ours(config) {
        return work();
    }
    let known = services::supervisor(config.root()).status()?;
    let runs = known.iter().any(|job| job.name == POSTGRESQL && job.state.is_alive());
    if !runs {
        Postgresql::find(config).map_err(services::Unready::from)?;
        run_state::start_quietly(session, config, services::postgresql(config))?;
    }
    let outcome = work();
    if !runs {
        run_state::stop_quietly(session, config.root(), POSTGRESQL)?;
    }
    outcome
}

/// As [`with_server`], for the root that a registry's configuration belongs to,
/// if it belongs to one.
pub fn with_server_of<T>(
    session: &Session,
    source: &Source,
    work: impl FnOnce() -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    match session.config() {
        Ok(config) if source.path == config.root().registry_config() => with_server(session, &config, work),
        _ => work(),
    }
}

/// Says whether a registry's configuration is that of a root whose server kdk runs.
pub fn is_of_own_server(session: &Session, source: &Source) -> bool {
    session
        .config()
        .is_ok_and(|config| source.path == config.root().registry_config() && is_ours(&config))
}

/// Says whether the metadata database is on the server that kdk runs.
pub fn is_ours(config: &Config) -> bool {
    // By where it is, not by a setting that may name any server.
    let own = config
        .root()
        .postgresql_socket(&config.root().join(&config.postgresql_dir()));
    config.registry_database_host() == own.as_str() && config.registry_database_port() == config.postgresql_port()
}

/// Says whether the storage says that its metadata are in a database.
pub fn is_in_use(config: &Config) -> bool {
    config
        .path(&config.registry_path())
        .join(layout::database_in_use())
        .exists()
}

/// Makes the metadata database and its schema where they are missing, when
/// the settings ask for one.
pub fn prepare(session: &Session, config: &Config) -> Result<(), CommandError> {
    if !config.registry_enabled() || config.registry_database_enabled() == "false" {
        return Ok(());
    }
    run_state::check_data(config, &services::catalogue(config))?;
    let in_use = is_in_use(config);
    let made = with_server(session, config, || make(session, config))?;
    if made && in_use {
        session.ui.warn(&format!(
            "the database {} is new and empty, although the storage says that its metadata are in one: if registry.database names the wrong one, set it back and run kdk reconfigure",
            config.registry_database_dbname()
        ));
    }
    Ok(())
}

/// Makes the metadata database and its schema where they are missing; says
/// whether there was no such database.
pub fn make(session: &Session, config: &Config) -> Result<bool, CommandError> {
    let source = source_of(config);
    let progress = session.ui.progress("preparing the metadata database");
    let name = config.registry_database_dbname();
    let made = command::create_database(&source, is_ours(config))?;
    let outcome = command::migrate(&source, Migrate::Up { skip_post: false }, false)?;
    drop(progress);
    if made {
        session.ui.say(&format!("  new database {name}"));
    } else if !outcome.pre_deployment.is_empty() {
        session.ui.say(&format!("  migrated database {name}"));
    }
    Ok(made)
}
