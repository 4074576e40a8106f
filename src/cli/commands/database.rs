//! What commands do to the metadata database of a root.

use camino::Utf8PathBuf;

use super::registry::source_of;
use super::run_state;
use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::own_commands::{by_registry, has_database, program};
use crate::config::Config;
use crate::doctor::storage;
use crate::registry::admin::{self, Migrate};
use crate::registry::config::Source;
use crate::services::postgresql::Postgresql;
use crate::services::{self, POSTGRESQL, REGISTRY};
use crate::supervisor::protocol::JobSpec;
use crate::supervisor::protocol::StateName;
use crate::sys::fs::{Lock, PRIVATE, write_atomic};

/// Lines of a failed migration that are shown.
const SHOWN_LINES: usize = 10;

/// Runs work while the root's PostgreSQL runs. When it did not run before, the
/// last of those who need it ends it. A server that kdk does not run is taken
/// as it is.
pub fn with_server<T>(
    session: &Session,
    config: &Config,
    work: impl FnOnce() -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    if !is_ours(config) {
        return work();
    }
    let state = config.root().state();
    crate::sys::fs::create_private_dir(&state)?;
    let lock = state.join("postgresql.lock");
    let share = Lock::share(&lock)?;
    {
        // Whoever comes second waits until it is ready.
        let _turn = Lock::take(&state.join("postgresql.starting.lock"))?;
        let known = services::supervisor(config.root()).status()?;
        let state = known.iter().find(|job| job.name == POSTGRESQL).map(|job| job.state);
        if state.is_none_or(|state| !state.is_alive()) {
            Postgresql::find(config).map_err(services::Unready::from)?;
            write_atomic(&borrowed(config), b"", PRIVATE)?;
        }
        if state != Some(StateName::Ready) {
            let _progress = session.ui.progress("starting PostgreSQL");
            run_state::start_quietly(session, config, services::postgresql(config))?;
        }
    }
    let outcome = work();
    drop(share);
    if borrowed(config).exists()
        && let Some(_alone) = Lock::try_take(&lock)?
    {
        let known = services::supervisor(config.root()).status()?;
        let used = config.registry_database_enabled() != "false"
            && known.iter().any(|job| job.name == REGISTRY && job.state.is_alive());
        if !used {
            run_state::stop_quietly(session, config.root(), &[POSTGRESQL.to_owned()])?;
        }
        keep(config);
    }
    outcome
}

/// Says that PostgreSQL runs for a command only.
fn borrowed(config: &Config) -> Utf8PathBuf {
    config.root().state().join("postgresql.borrowed")
}

/// Lets PostgreSQL go on running when no command needs it any more.
fn keep(config: &Config) {
    // Where it is missing, nobody would end it anyway.
    let _ = std::fs::remove_file(borrowed(config));
}

/// As [`with_server`], for the root that a registry's configuration belongs to,
/// if it belongs to one.
pub fn with_server_of<T>(
    session: &Session,
    source: &Source,
    work: impl FnOnce() -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    match session.config() {
        Ok(config) if source.path == config.root().registry_config() => {
            run_state::check_data(&config, &[services::postgresql(&config)])?;
            with_server(session, &config, work)
        }
        _ => work(),
    }
}

/// Says whether a registry's configuration is that of a root whose server kdk runs.
pub fn is_of_own_server(session: &Session, source: &Source) -> bool {
    session.config().is_ok_and(|config| {
        let rendered = source.load();
        source.path == config.root().registry_config()
            && is_ours(&config)
            && rendered.is_ok_and(|rendered| rendered.database.host == config.registry_database_host())
    })
}

/// Says whether the metadata database is on the server that kdk runs.
pub fn is_ours(config: &Config) -> bool {
    // By where it is, not by a setting that may name any server.
    let own = config
        .root()
        .postgresql_socket(&config.root().join(&config.postgresql_dir()));
    config.registry_database_host() == own.as_str() && config.registry_database_port() == config.postgresql_port()
}

/// Before services are started: another registry than the built-in one brings
/// its database up to date, since its program may be another one than that of
/// the last reconfigure; and PostgreSQL is theirs from then on.
pub fn before_start(session: &Session, config: &Config, specs: &[JobSpec]) -> Result<(), CommandError> {
    if !config.registry_is_embedded() && specs.iter().any(|spec| spec.name == REGISTRY) {
        prepare(session, config)?;
    }
    keep(config);
    Ok(())
}

/// Makes the metadata database and its schema where they are missing, when
/// the settings ask for one.
pub fn prepare(session: &Session, config: &Config) -> Result<(), CommandError> {
    if !config.runs_registry() || config.registry_database_enabled() == "false" {
        return Ok(());
    }
    if !config.registry_is_embedded() && !has_database(config)? {
        session.ui.warn(&format!(
            "{} does not support a metadata database and keeps metadata in files: set registry.database.enabled to false, or run another registry",
            program(config)
        ));
        return Ok(());
    }
    run_state::check_data(config, &services::catalogue(config))?;
    let in_use = storage::is_in_database(config);
    let made = with_server(session, config, || {
        let made = make(session, config)?;
        if made {
            // Stopping it would sync thousands of new files, only for the next start.
            keep(config);
        }
        Ok(made)
    })?;
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
    let embedded = config.registry_is_embedded();
    // Others bring a schema of their own, of which ours may be a later one.
    let made = admin::create_database(&source, embedded && is_ours(config), &|stage| progress.set(stage))?;
    let migrated = if embedded {
        let outcome = admin::migrate(&source, Migrate::Up { skip_post: false }, false)?;
        !outcome.pre_deployment.is_empty()
    } else {
        progress.set("migrating the metadata database as the registry wants it");
        migrate_by_registry(config)?;
        false
    };
    drop(progress);
    if made {
        session.ui.say(&format!("  new database {name}"));
    } else if migrated {
        session.ui.say(&format!("  migrated database {name}"));
    }
    Ok(made)
}

fn migrate_by_registry(config: &Config) -> Result<(), CommandError> {
    let root = config.root();
    let file = match config.registry_image() {
        // It works in a directory of the image's own.
        Some(_) => root.registry_config().into_string(),
        None => root.relative(&root.registry_config()).to_string(),
    };
    let migrating = by_registry(config, &["database", "migrate", "up", &file]).output();
    let output = match migrating {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CommandError::user(format!("cannot run {}: {error}", program(config)))),
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
    Err(CommandError::user(format!(
        "{} database migrate up failed ({}):\n{last}",
        program(config),
        output.status
    ))
    .hint(
        "the registry is not restarted; a database that another version has migrated needs that version (registry.version), or to be emptied: kdk reset-registry-data",
    ))
}
