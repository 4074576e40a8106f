//! `kdk reset-registry-data`: an empty metadata database.

use camino::Utf8Path;
use clap::Args;

use super::registry::source_of;
use super::{database, run_state};
use crate::cli::error::CommandError;
use crate::cli::{Session, elsewhere, own_commands};
use crate::config::Config;
use crate::doctor::storage;
use crate::registry::admin;
use crate::registry::config::database::{DatabaseConfig, Mode};
use crate::services::{self, REGISTRY};

/// Arguments of `kdk reset-registry-data`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a terminal, say --yes or KDK_RESET_REGISTRY_DATA_CONFIRM=true.\n\nExamples:\n  kdk reset-registry-data\n  kdk reset-registry-data --yes --database registry_dev"
)]
pub struct ResetArgs {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Name of the database, which must be typed for one on a server that kdk does not run
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

/// Removes the metadata database and makes an empty one.
pub fn run(session: &Session, args: &ResetArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    let ui = &session.ui;
    elsewhere::refuse(&config)?;
    own_commands::check_has_one(&config)?;
    let name = config.registry_database_dbname();
    let source = source_of(&config);
    let path = &source.path;
    if !path.is_file() {
        return Err(CommandError::user(format!("{path} does not exist")).hint("make it with: kdk reconfigure"));
    }
    let rendered = source
        .load()
        .map_err(|error| CommandError::user(error.to_string()))?
        .database;
    check(&config, args, path, &rendered)?;
    ui.warn("We're about to remove Container Registry PostgreSQL data.");
    ui.consent(
        &format!("Remove the database {name}, with all repositories and tags that it knows?"),
        args.yes,
        "KDK_RESET_REGISTRY_DATA_CONFIRM",
    )?;
    let again = args.database.as_ref().map_or_else(
        || "kdk reset-registry-data".to_owned(),
        |name| format!("kdk reset-registry-data --database {name}"),
    );
    let used = rendered.mode != Mode::Files;
    let known = services::supervisor(config.root()).status()?;
    let ran = used && known.iter().any(|job| job.name == REGISTRY && job.state.is_alive());
    let outcome = database::with_server(session, &config, || {
        // Before anything is stopped or removed.
        if !admin::may_create_database(&source)? {
            return Err(CommandError::user(format!(
                "the role that kdk uses on {} may not make databases; nothing was done",
                rendered.host
            ))
            .hint(format!("allow it there with: ALTER ROLE {} CREATEDB", rendered.user)));
        }
        if ran {
            run_state::stop_named(session, config.root(), Some(vec![REGISTRY.to_owned()]))?;
        }
        let remake = || {
            let progress = ui.progress("removing the database");
            admin::drop_database(&source)?;
            admin::forget_database(&source)?;
            drop(progress);
            ui.say(&format!("  removed database {name}"));
            database::make(session, &config).map(drop)
        };
        remake().map_err(|error: CommandError| {
            error.hint(format!(
                "what was done stays done; once that is mended, run it again: {again}"
            ))
        })
    });
    if ran {
        let started = run_state::start_named(session, &config, &[REGISTRY.to_owned()]);
        outcome?;
        started?;
    } else {
        outcome?;
    }
    if used {
        let (count, bytes) = admin::stored_blobs(&source)?;
        if count > 0 {
            ui.say(&format!(
                "  {count} blobs ({}) stay in the storage, and no repository has them; those that are pushed again take no more space",
                indicatif::BinaryBytes(bytes)
            ));
            ui.hint("to have their space back after a day: kdk registry database import --step-three");
        }
    }
    ui.done("The metadata database is empty.");
    Ok(())
}

/// Refuses what is not meant, or cannot be.
fn check(config: &Config, args: &ResetArgs, path: &Utf8Path, rendered: &DatabaseConfig) -> Result<(), CommandError> {
    let name = config.registry_database_dbname();
    if (rendered.name.as_str(), rendered.host.as_str(), rendered.port)
        != (
            name.as_str(),
            config.registry_database_host().as_str(),
            config.registry_database_port(),
        )
    {
        return Err(CommandError::user(format!(
            "kdk.yml names the database {name}, and {path} names {rendered}; nothing was done"
        ))
        .hint("bring them in line with: kdk reconfigure"));
    }
    match &args.database {
        Some(typed) if *typed != name => {
            return Err(CommandError::user(format!(
                "{typed} is not the metadata database of this root, which is {name}; nothing was done"
            )));
        }
        None if !database::is_ours(config) => {
            return Err(CommandError::user(format!(
                "the database {name} is on {}, a server that kdk does not run; nothing was done",
                config.registry_database_host()
            ))
            .hint(format!(
                "when it is to be removed: kdk reset-registry-data --database {name}"
            )));
        }
        _ => {}
    }
    if rendered.mode == Mode::Files && !storage::is_in_database(config) {
        return Err(
            CommandError::user("the metadata of this registry are in files: there is nothing to reset")
                .hint("a database is used when registry.database.enabled is true"),
        );
    }
    Ok(())
}
