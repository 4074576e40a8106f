//! `kdk import-registry-data`: from link files to the metadata database.

use clap::Args;

use super::database;
use super::registry::import::{self, ImportArgs as Detailed};
use super::registry::source_of;
use super::run_state;
use crate::cli::error::CommandError;
use crate::cli::{Session, elsewhere, own_commands};
use crate::config::Config;
use crate::registry::config::Source;
use crate::registry::config::database::Mode;
use crate::services::{self, REGISTRY};
use crate::sys::clock::Clock;

/// Arguments of `kdk import-registry-data`.
#[derive(Debug, Args)]
#[command(
    after_help = "Before: registry.read_only_maintenance_enabled: true and registry.database.enabled: false in kdk.yml, and kdk reconfigure.\nWithout a terminal, say --yes or KDK_IMPORT_REGISTRY_DATA_CONFIRM=true."
)]
pub struct ImportArgs {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Write nothing to the database; say what would be brought in, and what left out
    #[arg(long)]
    dry_run: bool,
    /// Say how many rows each table has afterwards
    #[arg(long)]
    row_count: bool,
}

/// Checks, asks, prepares the database, imports.
pub fn run(session: &Session, args: &ImportArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    let ui = &session.ui;
    elsewhere::refuse(&config)?;
    own_commands::check_has_one(&config)?;
    check(&config)?;
    let storage = config.registry_storage_path();
    let images = storage
        .as_ref()
        .map_or_else(|| "the registry's storage".to_owned(), ToString::to_string);
    if !args.dry_run {
        ui.warn(
            "There is no way back: once the registry uses the database, disabling it hides every image that was pushed since, and a day later garbage collection starts to remove files that only the old metadata needs.",
        );
        ui.warn(&match &storage {
            Some(storage) => {
                format!("Back up what is of value first, such as with: cp -a {storage} {storage}.backup")
            }
            None => "Back up what is of value first, by versions of the bucket or a copy of it.".to_owned(),
        });
        ui.consent(
            &format!(
                "Import the metadata of all images in {images} into the database {}?",
                config.registry_database_dbname()
            ),
            args.yes,
            "KDK_IMPORT_REGISTRY_DATA_CONFIRM",
        )?;
        note(&config)?;
    }
    let source = source_of(&config);
    let detailed = Detailed {
        dry_run: args.dry_run,
        row_count: args.row_count,
        log_directory: Some(config.root().state()),
        ..Detailed::default()
    };
    if args.dry_run && !args.row_count {
        // It takes no database.
        return import::import(session, &source, &detailed);
    }
    run_state::check_data(&config, &[services::postgresql(&config)])?;
    database::with_server(session, &config, || {
        database::make(session, &config)?;
        import::import(session, &source, &detailed)
    })
    .map_err(|error| {
        let refused = ["has repositories already", "is registry.database right"];
        if refused.iter().any(|text| error.message.contains(text)) {
            return error;
        }
        error.hint("what was imported stays; run it again to go on: kdk import-registry-data")
    })?;
    if !args.dry_run {
        ui.hint(
            "let the registry use it: kdk config set registry.database.enabled true && kdk config unset registry.read_only_maintenance_enabled && kdk reconfigure && kdk restart registry",
        );
    }
    Ok(())
}

/// Checks that nothing is written to the storage meanwhile, and that the
/// settings are applied.
fn check(config: &Config) -> Result<(), CommandError> {
    let (read_only, database) = (config.registry_read_only(), config.registry_database_enabled());
    if !read_only || database != "false" {
        let mut wrong = Vec::new();
        let mut remedy = Vec::new();
        if !read_only {
            wrong.push("registry.read_only_maintenance_enabled: true (it is false)".to_owned());
            remedy.push("kdk config set registry.read_only_maintenance_enabled true");
        }
        if database != "false" {
            wrong.push(format!("registry.database.enabled: false (it is {database})"));
            remedy.push("kdk config set registry.database.enabled false");
        }
        remedy.push("kdk reconfigure");
        return Err(
            CommandError::user(format!("an import needs {} in kdk.yml", wrong.join(" and "))).hint(remedy.join(" && ")),
        );
    }
    let path = config.root().registry_config();
    let rendered = Source {
        path: path.clone(),
        environment: Vec::new(),
    }
    .load()
    .map_err(|error| CommandError::user(error.to_string()).hint("make it with: kdk reconfigure"))?;
    if !rendered.storage.readonly || rendered.database.mode != Mode::Files {
        return Err(
            CommandError::user(format!("{path} is not as kdk.yml says yet")).hint("apply it with: kdk reconfigure")
        );
    }
    let wanted = services::pick(config, &[REGISTRY.to_owned()])?;
    let running = services::supervisor(config.root()).status()?;
    let older = running.iter().any(|job| {
        let current = wanted.iter().any(|spec| spec.fingerprint == job.fingerprint);
        job.name == REGISTRY && job.state.is_alive() && !current
    });
    if older {
        return Err(
            CommandError::user("the registry runs with older settings, and may take pushes")
                .hint("stop it with: kdk stop registry"),
        );
    }
    Ok(())
}

/// Writes down what was imported from where, for whoever wonders later.
fn note(config: &Config) -> Result<(), CommandError> {
    let now = Clock::System.now();
    let directory = config.root().backups();
    crate::sys::fs::create_private_dir(&directory)?;
    let path = directory.join(format!("registry-import.{}.txt", now.strftime("%Y%m%d%H%M%S")));
    let text = format!(
        "{now}: the metadata of the images in {} were imported into the database {} at {}.\nThe files they came from do not know of images pushed since, and online garbage collection removes the manifests'\nown files from the storage after a day: the way back is the backup.\n",
        config
            .registry_storage_path()
            .map_or_else(|| "the registry's storage".to_owned(), |path| path.to_string()),
        config.registry_database_dbname(),
        config.registry_database_host(),
    );
    Ok(crate::sys::fs::write_atomic(
        &path,
        text.as_bytes(),
        crate::sys::fs::PRIVATE,
    )?)
}
