//! `garbage-collect`: alone on the storage, or in the server that writes to it.

use std::time::Duration;

use camino::Utf8Path;
use tokio::signal::unix::{SignalKind, signal};

use super::access::{lease, runtime, stop_on_signal, storage_of};
use super::error::CommandError;
use crate::registry::config::Source;
use crate::registry::config::database::Mode;
use crate::registry::maintenance::collect::{self, Collection};
use crate::registry::maintenance::error::CollectError;
use crate::registry::maintenance::events::{Event, Options};
use crate::registry::maintenance::messages::Request;
use crate::registry::metadata::locate::is_in_database;
use crate::registry::state::control;
use crate::registry::storage::{Holder, Storage, Work};
use crate::sys::task;

/// After how long it is said that a server says nothing.
const PATIENCE: Duration = Duration::from_secs(5);

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
    if runtime.block_on(is_in_database(&config, &driver))? {
        return Err(CommandError::Online);
    }
    match lease(&driver, Work::Collect)? {
        None => {
            let stop = stop_on_signal(&runtime);
            let collection = Collection {
                driver: &driver,
                barrier: None,
                handle: runtime.handle(),
                stop: &stop,
                report,
            };
            let outcome = collect::collect(&collection, options);
            driver.release();
            report(Event::Finished(outcome?));
            Ok(())
        }
        Some(Holder {
            work: Work::Serve,
            socket: Some(socket),
            pid,
            ..
        }) => runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                outcome = in_server(&socket, pid, options, report) => outcome,
                _ = interrupt.recv() => Err(CollectError::Interrupted.into()),
                _ = terminate.recv() => Err(CollectError::Interrupted.into()),
            }
        }),
        Some(other) => Err(CommandError::Held(
            other.to_string(),
            "garbage collection runs alone or beside a registry; try again when this has ended",
        )),
    }
}

/// Lets the server behind a socket collect. Dropping the future ends that.
async fn in_server(
    socket: &Utf8Path,
    pid: u32,
    options: Options,
    report: &(dyn Fn(Event) + Sync),
) -> Result<(), CommandError> {
    let mut answers = control::ask(socket, &Request::CollectGarbage(options)).await?;
    let mut is_silent = false;
    loop {
        let next = match task::timeout(PATIENCE, answers.next()).await {
            Ok(next) => next?,
            Err(_) if std::mem::replace(&mut is_silent, true) => continue,
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                let message = format!(
                    "still waiting for the registry (process {pid}), which has not reported for {seconds} seconds"
                );
                report(Event::Warning { message });
                continue;
            }
        };
        let Some(event) = next else { break };
        match event {
            Event::Failed { message } => return Err(CommandError::Remote(message)),
            Event::Finished(_) => {
                report(event);
                return Ok(());
            }
            other => report(other),
        }
    }
    Err(CommandError::Remote(
        "the registry ended before the collection did".to_owned(),
    ))
}
