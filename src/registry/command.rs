//! The verbs of the registry binary: what `registry serve config.yml` and
//! `registry garbage-collect config.yml` do.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::config::database::Mode;
use super::config::{Config, ConfigError, Source};
use super::control::{self, Users};
use super::gc::collect::{self, CollectError, Event, Options, Site};
use super::gc::online::Totals;
use super::metadata::import::{self, Importer};
use super::metadata::postgres::import::Counts;
use super::metadata::postgres::migrations::{self, Line, Outcome, SchemaError};
use super::metadata::postgres::review::Queue;
use super::metadata::postgres::{Database, admin};
use super::metadata::{DatabaseError, MetadataError, Postgres};
use super::storage::{Blobs, Durability, Storage, StorageError, Target, layout};
use super::verify::{self, Findings};
use super::{Registry, StartError};

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system refused something basic.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// The storage directory is not there.
    #[error("the storage directory {0} does not exist")]
    NoStorage(camino::Utf8PathBuf),
    /// There is no storage outside of the server.
    #[error("{0}: storage.inmemory lasts only as long as its server, and there is nothing to do from outside")]
    InMemory(camino::Utf8PathBuf),
    /// Several servers use the storage.
    #[error("{0} registries use this storage; a garbage collection goes along with one at most")]
    Several(usize),
    /// Somebody does offline work.
    #[error("another process works on this storage: a garbage collection, a repair, or a registry that starts")]
    Busy,
    /// A server uses the storage.
    #[error("a registry serves this storage; stop it before a repair")]
    Serving,
    /// The collection did not come to its end.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The metadata database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Its schema cannot be used or changed.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The metadata are in a database.
    #[error(
        "the metadata of this storage are in a database, and garbage is collected while the registry serves (see kdk registry gc status); nothing was touched"
    )]
    Online,
    /// The import failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A server writes to the storage.
    #[error("a registry serves this storage and takes pushes, which an import would miss")]
    Writing,
    /// The configuration names no database.
    #[error("{0}: database.dbname names no database")]
    NoDatabase(camino::Utf8PathBuf),
    /// The server that collects failed.
    #[error("{0}")]
    Remote(String),
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Serves until SIGTERM or SIGINT. A second signal ends it at once.
///
/// # Errors
/// When the configuration cannot be used or the server cannot start.
pub fn serve(source: &Source) -> Result<(), CommandError> {
    let config = source.load()?;
    crate::sys::process::never_block_on_output();
    crate::sys::process::hold_little_memory();
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = async {
            Registry::open(config).await?.run(stop.clone()).await;
            Ok(())
        };
        tokio::pin!(running);
        tokio::select! {
            outcome = &mut running => return outcome,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
        tokio::select! {
            outcome = &mut running => outcome,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Loads a configuration whose storage is there.
fn storage_of(source: &Source) -> Result<Config, CommandError> {
    let config = source.load()?;
    if config.storage.in_memory {
        return Err(CommandError::InMemory(source.path.clone()));
    }
    if config.storage.root.is_dir() {
        Ok(config)
    } else {
        Err(CommandError::NoStorage(config.storage.root))
    }
}

/// Collects the garbage of a configuration's storage: alone, or in the server
/// that uses it. SIGINT and SIGTERM end it early. The last event says how it went.
///
/// # Errors
/// When it cannot begin, or does not come to its end.
pub fn garbage_collect(source: &Source, options: Options, report: &(dyn Fn(Event) + Sync)) -> Result<(), CommandError> {
    let config = storage_of(source)?;
    if config.database.mode == Mode::Database {
        return Err(CommandError::Online);
    }
    let runtime = runtime()?;
    let driver = Storage::in_directory(&config.storage.root)?.bulk();
    if runtime.block_on(super::is_in_database(&config, &driver))? {
        return Err(CommandError::Online);
    }
    let root = config.storage.root;
    match control::users(&root)? {
        Users::Several(count) => Err(CommandError::Several(count)),
        Users::Busy => Err(CommandError::Busy),
        Users::Nobody(_lock) => {
            let stop = stop_on_signal(&runtime);
            let site = Site {
                driver: &driver,
                gate: None,
                handle: runtime.handle(),
                stop: &stop,
                report,
            };
            report(Event::Finished(collect::collect(&site, options)?));
            Ok(())
        }
        Users::One(socket) => runtime.block_on(async {
            let failure = std::sync::Mutex::new(None);
            let heard = |event: Event| match event {
                Event::Failed { message } => {
                    *failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(message);
                }
                other => report(other),
            };
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                outcome = control::ask(&socket, options, &heard) => outcome?,
                _ = interrupt.recv() => return Err(CollectError::Interrupted.into()),
                _ = terminate.recv() => return Err(CollectError::Interrupted.into()),
            }
            match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
                Some(message) => Err(CommandError::Remote(message)),
                None => Ok(()),
            }
        }),
    }
}
/// Checks a configuration's storage and its metadata, and mends what can be mended.
///
/// # Errors
/// When the storage or the database cannot be read, or a repair is asked for
/// while a server uses the storage.
pub fn verify(
    source: &Source,
    repair: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Findings, CommandError> {
    let config = storage_of(source)?;
    let root = &config.storage.root;
    let runtime = runtime()?;
    let _lock = if repair {
        match control::users(root)? {
            Users::Nobody(lock) => Some(lock),
            Users::Busy => return Err(CommandError::Busy),
            Users::One(_) | Users::Several(_) => return Err(CommandError::Serving),
        }
    } else {
        None
    };
    let driver = Storage::in_directory(root)?.bulk();
    let stop = stop_on_signal(&runtime);
    let in_database = runtime.block_on(super::is_in_database(&config, &driver))?;
    let database = if in_database {
        let database = Database::new(&database_of(source)?)?;
        // Before anything is mended, of which nobody would hear.
        drop(runtime.block_on(database.client())?);
        Some(database)
    } else {
        None
    };
    let mut findings = verify::verify(&driver, runtime.handle(), &stop, repair, !in_database, progress)?;
    if let Some(database) = database {
        runtime.block_on(async {
            let postgres = Postgres::new(database.clone(), driver.clone());
            let outcome = verify::database::check(&postgres, &driver, &stop, &mut findings).await;
            database.close().await;
            outcome
        })?;
    }
    Ok(findings)
}

/// What is done to the schema of the metadata database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// It is made where it is missing.
    Up {
        /// Without what may follow while a registry serves.
        skip_post: bool,
    },
    /// It is removed from an empty database.
    Down,
}

/// Migrates a configuration's metadata database. Whether it is enabled does not matter.
///
/// # Errors
/// When the database cannot be reached or changed.
pub fn migrate(source: &Source, direction: Migrate, dry_run: bool) -> Result<Outcome, CommandError> {
    with_database(source, async |client| {
        let outcome = match direction {
            Migrate::Up { skip_post } => migrations::up(client, dry_run, skip_post).await,
            Migrate::Down => migrations::down(client, dry_run).await,
        };
        Ok(outcome?)
    })
}

/// Returns the migrations of a configuration's metadata database, known and applied.
///
/// # Errors
/// When the database cannot be reached or read.
pub fn migrations_of(source: &Source, skip_post: bool) -> Result<Vec<Line>, CommandError> {
    with_database(source, async |client| Ok(migrations::status(client, skip_post).await?))
}

/// Returns the id of the newest migration that is applied.
///
/// # Errors
/// When the database cannot be reached or read.
pub fn schema_version(source: &Source) -> Result<Option<String>, CommandError> {
    with_database(source, async |client| Ok(migrations::version(client).await?))
}

/// Returns why a configuration's registry would not start, when it is that its
/// metadata are elsewhere.
pub fn misplaced(source: &Source) -> Option<String> {
    let config = source.load().ok().filter(|config| !config.storage.in_memory)?;
    if !config.storage.root.is_dir() {
        return None;
    }
    let driver = Storage::in_directory(&config.storage.root).ok()?.bulk();
    let place = runtime().ok()?.block_on(super::is_in_database(&config, &driver));
    match place {
        Err(error @ (StartError::DatabaseInUse(_) | StartError::NotImported(_))) => Some(error.to_string()),
        _ => None,
    }
}

/// Database on an own server that others are copied from.
const TEMPLATE: &str = "kdk_registry_template";

/// Makes a configuration's metadata database when it is missing; says whether
/// it was. On a server of one's own a template stays, so that the next one is
/// made quickly. `report` hears what goes on.
///
/// # Errors
/// When the server cannot be reached, or refuses.
pub fn create_database(source: &Source, own_server: bool, report: &dyn Fn(&str)) -> Result<bool, CommandError> {
    let config = database_of(source)?;
    runtime()?.block_on(async {
        if !own_server {
            return Ok(admin::create(&config, None).await?);
        }
        // Copying a database takes a fraction of making the schema.
        let mut template = config.clone();
        template.name = TEMPLATE.to_owned();
        report("making a template of the metadata database");
        admin::create(&template, None).await?;
        {
            let database = Database::with(&template, false)?;
            let mut client = database.client().await?;
            let outcome = migrations::up(&mut client, false, false).await;
            drop(client);
            database.close().await;
            match outcome {
                // Of an earlier version of this program.
                Err(SchemaError::Older(_) | SchemaError::Newer(_)) => return Ok(admin::create(&config, None).await?),
                other => drop(other?),
            }
        }
        report("copying the template to the metadata database");
        Ok(admin::create(&config, Some(TEMPLATE)).await?)
    })
}

/// Says whether the configuration's role may make databases.
///
/// # Errors
/// When the server cannot be reached.
pub fn may_create_database(source: &Source) -> Result<bool, CommandError> {
    let config = database_of(source)?;
    Ok(runtime()?.block_on(admin::may_create(&config))?)
}

/// Removes a configuration's metadata database, with all that is in it; says whether there was one.
///
/// # Errors
/// When the server cannot be reached, or refuses.
pub fn drop_database(source: &Source) -> Result<bool, CommandError> {
    let config = database_of(source)?;
    Ok(runtime()?.block_on(admin::remove(&config))?)
}

/// How full the queues of blobs and manifests are, and what was removed so far.
///
/// # Errors
/// When the database cannot be read.
pub fn online_gc(source: &Source) -> Result<([Queue; 2], Totals), CommandError> {
    let config = source.load()?;
    let database = Database::new(&database_of(source)?)?;
    let driver = Storage::in_directory(&config.storage.root)?;
    let queues = runtime()?.block_on(async {
        let queues = Postgres::new(database.clone(), driver).queues().await;
        database.close().await;
        queues
    })?;
    Ok((queues, Totals::read(&config.storage.root)))
}

/// What an import brought in, and how many rows each table has, when that was asked.
pub type Imported = (Counts, Vec<(&'static str, i64)>);

/// Imports the link files of a configuration's storage into its metadata
/// database. SIGINT and SIGTERM end it early.
///
/// # Errors
/// When it cannot begin, or does not come to its end.
pub fn import(
    source: &Source,
    options: import::Options,
    count_rows: bool,
    report: &(dyn Fn(import::Event) + Sync),
) -> Result<Imported, CommandError> {
    let config = storage_of(source)?;
    let database = database_of(source)?;
    let _lock = match control::users(&config.storage.root)? {
        Users::Nobody(lock) => Some(lock),
        Users::Busy => return Err(CommandError::Busy),
        // Blobs that nothing refers to may come while pushes go on.
        Users::One(_) | Users::Several(_)
            if config.storage.readonly || options.dry_run || !(options.manifests || options.tags) =>
        {
            None
        }
        Users::One(_) | Users::Several(_) => return Err(CommandError::Writing),
    };
    let runtime = runtime()?;
    // Everything is looked at once: no caches, and no other threads, which
    // would cost more than the reading.
    let driver = Storage::in_directory(&config.storage.root)?.bulk();
    let stop = stop_on_signal(&runtime);
    runtime.block_on(async {
        let database = Database::hasty(&database)?;
        let postgres = Postgres::new(database.clone(), driver.clone());
        let counts = Importer::new(driver, &postgres, options, &stop, report).run().await?;
        let rows = if count_rows {
            postgres.row_counts().await?
        } else {
            Vec::new()
        };
        database.close().await;
        Ok((counts, rows))
    })
}

/// Removes the mark that the metadata of a configuration's storage are in a
/// database, unless the configuration says so, too.
///
/// # Errors
/// When the storage cannot be changed.
pub fn forget_database(source: &Source) -> Result<(), CommandError> {
    let config = source.load()?;
    if config.database.mode == Mode::Database {
        // It is in use still, and what the files know of is not to be served again.
        return Ok(());
    }
    if !config.storage.root.try_exists()? {
        return Ok(());
    }
    let storage = Storage::in_directory(&config.storage.root)?;
    let mark = vec![Target::Object(layout::database_in_use())];
    let removed = runtime()?.block_on(storage.delete(mark, Durability::Durable));
    removed.map(drop).map_err(|error| CommandError::Collect(error.into()))
}

/// Returns how many blobs a configuration's storage holds, and their bytes.
///
/// # Errors
/// When the storage cannot be read.
pub fn stored_blobs(source: &Source) -> Result<(usize, u64), CommandError> {
    let root = source.load()?.storage.root;
    if !root.try_exists()? {
        return Ok((0, 0));
    }
    let blobs = Blobs::new(Storage::in_directory(&root)?.bulk());
    let counted = runtime()?.block_on(async {
        let (mut count, mut bytes) = (0, 0);
        for shard in blobs.shards().await? {
            for digest in blobs.digests(&shard).await? {
                if let Some(size) = blobs.head(&digest).await? {
                    count += 1;
                    bytes += size;
                }
            }
        }
        Ok((count, bytes))
    });
    counted.map_err(|error: StorageError| CommandError::Collect(error.into()))
}

fn database_of(source: &Source) -> Result<super::config::DatabaseConfig, CommandError> {
    let config = source.load()?.database;
    if config.name.is_empty() {
        return Err(CommandError::NoDatabase(source.path.clone()));
    }
    Ok(config)
}

fn with_database<T>(
    source: &Source,
    work: impl AsyncFnOnce(&mut tokio_postgres::Client) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let database = Database::with(&database_of(source)?, false)?;
    runtime()?.block_on(async {
        let mut client = database.client().await?;
        let outcome = work(&mut client).await;
        drop(client);
        database.close().await;
        outcome
    })
}

/// Returns what SIGINT and SIGTERM cancel.
fn stop_on_signal(runtime: &Runtime) -> CancellationToken {
    let stop = CancellationToken::new();
    let told = stop.clone();
    runtime.spawn(async move {
        if let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            told.cancel();
        }
    });
    stop
}
