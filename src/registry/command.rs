//! The verbs of the registry binary: what `registry serve config.yml` and
//! `registry garbage-collect config.yml` do.

use std::time::Duration;

use camino::Utf8Path;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::config::{Config, ConfigError};
use super::control::{self, Users};
use super::gc::collect::{self, CollectError, Event, Options, Site};
use super::storage::Filesystem;
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
pub fn serve(path: &Utf8Path) -> Result<(), CommandError> {
    let config = Config::load(path, &crate::sys::env::all())?;
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
fn storage_of(path: &Utf8Path) -> Result<Config, CommandError> {
    let config = Config::load(path, &crate::sys::env::all())?;
    if config.storage.in_memory {
        return Err(CommandError::InMemory(path.to_owned()));
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
pub fn garbage_collect(path: &Utf8Path, options: Options, report: &(dyn Fn(Event) + Sync)) -> Result<(), CommandError> {
    let root = storage_of(path)?.storage.root;
    let runtime = runtime()?;
    match control::users(&root)? {
        Users::Several(count) => Err(CommandError::Several(count)),
        Users::Busy => Err(CommandError::Busy),
        Users::Nobody(_lock) => {
            let driver = Filesystem::open(&root)?.inline();
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

/// Checks a configuration's storage, and mends what can be mended.
///
/// # Errors
/// When the storage cannot be read, or a repair is asked for while a server
/// uses the storage.
pub fn verify(
    path: &Utf8Path,
    repair: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Findings, CommandError> {
    let root = storage_of(path)?.storage.root;
    let runtime = runtime()?;
    let _lock = if repair {
        match control::users(&root)? {
            Users::Nobody(lock) => Some(lock),
            Users::Busy => return Err(CommandError::Busy),
            Users::One(_) | Users::Several(_) => return Err(CommandError::Serving),
        }
    } else {
        None
    };
    let driver = Filesystem::open(&root)?.inline();
    let stop = stop_on_signal(&runtime);
    Ok(verify::verify(&driver, runtime.handle(), &stop, repair, progress)?)
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
