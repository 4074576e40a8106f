//! A container registry server: OCI Distribution and Docker Registry V2.
//!
//! It never heard of kdk: it reads distribution's `config.yml`, keeps images
//! in distribution's layout, and could stand alone.
//!
//! Flow: request → [`oci::Route`] → scope → handler → metadata and blobs →
//! event → queue → endpoint.

pub mod auth;
pub mod command;
pub mod config;
pub mod control;
pub mod gc;
pub mod health;
pub mod http;
pub mod metadata;
pub mod metrics;
pub mod notify;
pub mod oci;
pub mod state;
pub mod storage;
pub mod token;
pub mod verify;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use tokio_util::sync::CancellationToken;

use crate::serve::forward::ForwardError;
use crate::serve::{Forward, Listener, Logger, log, tls};
use config::Config;
use control::Presence;
use http::App;

/// Version that the server reports, without a leading `v`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The storage directory cannot be used.
    #[error("cannot use the storage directory: {0}")]
    Storage(#[source] io::Error),
    /// The keys or passwords cannot be used.
    #[error(transparent)]
    Auth(#[from] auth::AuthError),
    /// The server's own certificate cannot be used.
    #[error("cannot use the TLS certificate: {0}")]
    Tls(#[source] io::Error),
    /// The metadata are elsewhere.
    #[error(
        "the metadata of {0} are in a database, as {0}/docker/registry/lockfiles/database-in-use says, and database.enabled is off: the registry would seem empty. Set database.enabled (in kdk.yml: registry.database.enabled) to true; or, if the database is gone for good, remove that file"
    )]
    DatabaseInUse(camino::Utf8PathBuf),
    /// The metadata are in files.
    #[error(
        "{0} holds images whose metadata are in files, and database.enabled is on: the registry would seem empty. Import them first: set database.enabled to false and run kdk import-registry-data, or kdk registry database import CONFIG"
    )]
    NotImported(camino::Utf8PathBuf),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] metadata::DatabaseError),
    /// Requests for tokens cannot be sent on.
    #[error("auth.token.forward: {0}")]
    Forward(#[from] ForwardError),
    /// The address cannot be listened on.
    #[error("{0}")]
    Listen(#[source] io::Error),
}

/// A server that is ready to take connections.
pub struct Registry {
    app: Arc<App>,
    presence: Option<Presence>,
    listener: Listener,
    tls: Option<tls::Tls>,
    /// The storage, when it lasts only as long as the process.
    temporary: Option<tempfile::TempDir>,
    debug: Option<Listener>,
}

impl Registry {
    /// Opens the storage, loads keys, listens.
    ///
    /// # Errors
    /// When one of these fails.
    pub async fn open(mut config: Config) -> Result<Self, StartError> {
        let logger = logger(&config);
        let mut temporary = None;
        if config.storage.in_memory {
            let directory = state::volatile::directory().map_err(StartError::Storage)?;
            config.storage.root = camino::Utf8PathBuf::try_from(directory.path().to_owned())
                .map_err(|error| StartError::Storage(io::Error::other(error)))?;
            temporary = Some(directory);
        }
        for warning in &config.warnings {
            logger.warn(warning, Vec::new());
        }
        let driver = if config.storage.in_memory {
            storage::Storage::in_memory()
        } else {
            let root = &config.storage.root;
            storage::Storage::in_directory(root)
                .map_err(|error| StartError::Storage(crate::sys::fs::named(&error, "cannot open", root)))?
        };
        let presence = announce(&config.storage.root, &logger)
            .await
            .map_err(StartError::Storage)?;
        match &presence {
            // What a killed server had not acknowledged may be seen without being durable.
            Some(presence) if presence.after_kill => driver.settle().map_err(StartError::Storage)?,
            Some(_) => {}
            None => {
                // A collection could not see this server, nor spare what is pushed to it.
                logger.warn(
                    "the storage's .kdk directory cannot be written: serving read-only; give this user the right to write to it, and restart",
                    vec![("directory", control::directory(&config.storage.root).as_str().into())],
                );
                config.storage.readonly = true;
            }
        }
        let secret = if let Some(secret) = &config.http.secret {
            secret.clone()
        } else {
            logger.warn(
                "No HTTP secret provided - generated random secret. This may cause problems with uploads if multiple registries are behind a load-balancer. To provide a shared secret, fill in http.secret in the configuration file or set the REGISTRY_HTTP_SECRET environment variable.",
                Vec::new(),
            );
            state::secret::kept(&control::directory(&config.storage.root)).map_err(StartError::Storage)?
        };
        let authorizer = auth::Authorizer::new(config.auth.as_ref())?;
        let forward = match config.forward() {
            None => None,
            Some(forward) => Some(Forward::new(
                forward.target.clone(),
                forward.authority.as_deref(),
                config.http.tls.is_some(),
            )?),
        };
        let tls = match &config.http.tls {
            None => None,
            Some(pair) => {
                let settings = tls::Settings {
                    certificate: pair.certificate.clone(),
                    key: pair.key.clone(),
                    minimum: pair.minimum,
                    client_cas: pair.client_cas.clone(),
                    client_optional: pair.client_optional,
                    http2: config.http.http2,
                };
                Some(tls::Tls::new(settings, logger.clone()).map_err(StartError::Tls)?)
            }
        };
        let listener = if config.http.unix {
            Listener::unix(config.http.addr.clone().into())
        } else {
            Listener::tcp(&config.http.addr).await
        };
        let listener = listener.map_err(StartError::Listen)?;
        if let Some(forward) = &forward {
            forward.check(listener.address())?;
        }
        let debug = match &config.http.debug_addr {
            None => None,
            Some(address) => Some(Listener::tcp(address).await.map_err(StartError::Listen)?),
        };
        let metadata = metadata_of(&config, &driver, &logger).await?;
        let app = Arc::new(App::new(config, driver, metadata, authorizer, forward, &secret, logger));
        Ok(Self {
            app,
            presence,
            listener,
            tls,
            temporary,
            debug,
        })
    }

    /// Serves until `stop` is cancelled, then drains.
    pub async fn run(self, stop: CancellationToken) {
        let Self {
            app,
            mut presence,
            temporary,
            listener,
            tls,
            debug,
        } = self;
        let logger = app.logger.clone();
        logger.info("redis not configured", Vec::new());
        gc::purge::start(Arc::clone(&app), stop.clone());
        gc::online::start(&app, &stop);
        if let Some(listener) = presence.as_mut().and_then(Presence::listener) {
            crate::sys::task::spawn(control::serve(Arc::clone(&app), listener, stop.clone()));
        }
        if app.config.storage.cache.is_some() {
            logger.info("using inmemory blob descriptor cache", Vec::new());
        }
        match &app.metadata {
            metadata::Store::Files(_) => logger.info("registry filesystem metadata in use", Vec::new()),
            metadata::Store::Database(postgres) => logger.info(
                "using the metadata database",
                vec![("database", postgres.database().place().into())],
            ),
        }
        if app.metadata.is_database() && !app.config.storage.readonly {
            crate::sys::task::spawn(mark_when_reached(Arc::clone(&app), stop.clone()));
        }
        health::start(&app, &stop);
        for endpoint in &app.config.endpoints {
            logger.info(&format!("configuring endpoint {}", endpoint.name), Vec::new());
        }
        let suffix = if tls.is_some() { ", tls" } else { "" };
        logger.info(&format!("listening on {listener}{suffix}"), Vec::new());
        if let Some(debug) = debug {
            logger.info(&format!("debug server listening {debug}"), Vec::new());
            let (app, stop) = (Arc::clone(&app), stop.clone());
            crate::sys::task::spawn(crate::serve::run(
                debug,
                None,
                false,
                move |request, _| std::future::ready(health::answer(&app, &request)),
                stop,
                Duration::ZERO,
            ));
        }
        let drain = app.config.http.drain;
        let handler = {
            let app = Arc::clone(&app);
            move |request, peer| http::handle(Arc::clone(&app), request, peer)
        };
        crate::serve::run(listener, tls, app.config.http.h2c, handler, stop, drain).await;
        app.tasks.close();
        let _ = crate::sys::task::timeout(drain, app.tasks.wait()).await;
        app.notifier.drain().await;
        drop(temporary);
        logger.info("graceful shutdown successful", Vec::new());
    }
}

/// Announces the server on its storage. Waits while offline work holds it.
async fn announce(root: &Utf8Path, logger: &Logger) -> io::Result<Option<Presence>> {
    let mut told = false;
    loop {
        match Presence::announce(root) {
            Ok(Some(presence)) => return Ok(Some(presence)),
            Ok(None) => {}
            Err(error) if crate::sys::fs::is_unwritable(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        if !told {
            logger.warn(
                "waiting for the garbage collection or repair of the storage to end",
                Vec::new(),
            );
            told = true;
        }
        crate::sys::task::sleep(Duration::from_millis(100)).await;
    }
}

/// Says whether metadata are in a database, by the configuration and what the
/// storage says of itself (the lock files of GitLab's registry).
///
/// # Errors
/// When the two do not agree: images would be hidden.
pub async fn is_in_database(config: &Config, driver: &storage::Storage) -> Result<bool, StartError> {
    use config::database::Mode;
    use storage::layout::{database_in_use, filesystem_in_use};
    let storage_error = |error: storage::StorageError| StartError::Storage(error.source);
    let marked = async |key: storage::Key| driver.head(&key).await.map_err(storage_error);
    let in_database = marked(database_in_use()).await?.is_some();
    let in_files = marked(filesystem_in_use()).await?.is_some();
    let holds_files = async || {
        let first = storage::tree::holding_after(driver, "_manifests", "", 1).await;
        first.map(|names| !names.is_empty()).map_err(storage_error)
    };
    let database = match config.database.mode {
        Mode::Files => false,
        Mode::Database => true,
        Mode::Prefer => in_database || !(in_files || holds_files().await?),
    };
    // Serving from the wrong place would show an empty registry where there is a full one.
    if !database && in_database {
        return Err(StartError::DatabaseInUse(config.storage.root.clone()));
    }
    if database && !in_database && (in_files && config.enforce_lockfiles || holds_files().await?) {
        return Err(StartError::NotImported(config.storage.root.clone()));
    }
    Ok(database)
}

/// Opens metadata where they are, and lets the storage say so.
async fn metadata_of(
    config: &Config,
    driver: &storage::Storage,
    logger: &Logger,
) -> Result<metadata::Store, StartError> {
    use storage::{Change, Durability};
    let storage_error = |error: storage::StorageError| StartError::Storage(error.source);
    if !is_in_database(config, driver).await? {
        if config.enforce_lockfiles && !config.storage.readonly {
            let key = storage::layout::filesystem_in_use();
            let content = bytes::Bytes::from_static(LOCK_FILE);
            let mark = vec![Change::Put { key, content }];
            driver.commit(mark, Durability::Durable).await.map_err(storage_error)?;
        }
        return Ok(metadata::Store::Files(metadata::Files::new(driver.clone())));
    }
    let database = metadata::postgres::Database::new(&config.database)?;
    let reached = database.client().await.map(drop);
    let postgres = metadata::Postgres::new(database, driver.clone());
    match reached {
        Ok(()) => mark_database(config, driver, &postgres, logger)
            .await
            .map_err(storage_error)?,
        // It may come back: until then requests are told so.
        Err(error) if !error.is_schema() => {
            logger.error(
                "the metadata database is not available; trying again with each request",
                vec![("error", error.in_full().into())],
            );
        }
        Err(error) => return Err(error.into()),
    }
    Ok(metadata::Store::Database(postgres))
}

/// Lets the storage say that its metadata are in a database.
async fn mark_database(
    config: &Config,
    driver: &storage::Storage,
    postgres: &metadata::Postgres,
    logger: &Logger,
) -> Result<(), storage::StorageError> {
    use storage::{Change, Durability};
    let key = storage::layout::database_in_use();
    if driver.head(&key).await?.is_some() {
        return Ok(());
    }
    if postgres.is_used().await.unwrap_or_default() {
        logger.warn(
            "the metadata database has repositories already, and this storage was not used with it: is storage.filesystem.rootdirectory right?",
            vec![("directory", config.storage.root.as_str().into())],
        );
    }
    if config.storage.readonly {
        return Ok(());
    }
    let content = bytes::Bytes::from_static(LOCK_FILE);
    let mark = vec![Change::Put { key, content }];
    driver.commit(mark, Durability::Durable).await
}

/// Marks a storage whose database was away at the start once it is reached: a
/// collection must not take it for one whose metadata are in files.
async fn mark_when_reached(app: Arc<App>, stop: CancellationToken) {
    const PAUSE: Duration = Duration::from_millis(500);
    let metadata::Store::Database(postgres) = &app.metadata else {
        return;
    };
    let key = storage::layout::database_in_use();
    let work = async {
        while app.driver.head(&key).await.ok().flatten().is_none() {
            if postgres.database().ping().await.is_ok() {
                let content = bytes::Bytes::from_static(LOCK_FILE);
                let mark = storage::Change::Put {
                    key: key.clone(),
                    content,
                };
                if let Err(error) = app.driver.commit(vec![mark], storage::Durability::Durable).await {
                    app.logger.error(
                        "the storage cannot be marked as one whose metadata are in a database",
                        vec![("error", error.to_string().into())],
                    );
                }
            }
            crate::sys::task::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// What lock files hold, as GitLab's registry writes them.
const LOCK_FILE: &[u8] = b"{\"version\":1}";

fn logger(config: &Config) -> Logger {
    let mut fixed = BTreeMap::from([
        ("go_version".to_owned(), "rust".into()),
        ("instance_id".to_owned(), log::instance_id().into()),
        ("version".to_owned(), format!("v{VERSION}-kdk").into()),
    ]);
    fixed.extend(config.log.fields.clone());
    Logger::new(config.log.level, config.log.format, fixed)
}
