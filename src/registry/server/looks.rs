//! Looking at what the server rests upon, whether or not checks are configured:
//! what is wrong is told where somebody asks, and turns nothing off.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::registry::health::{Health, ProbeOf, Trouble};
use crate::registry::http::{Shared, trouble_of};
use crate::registry::metrics::SpaceLabel;
use crate::registry::storage::Storage;
use crate::sys::task;
use crate::sys::usage::Space;

/// How long it is between two looks.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long a look may take before what is looked at counts as silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks again and again, until `stop`.
pub fn start(shared: &Arc<Shared>, storage: &Storage, database: Option<ProbeOf>, stop: &CancellationToken) {
    let look: Look = {
        let (shared, storage) = (Arc::clone(shared), storage.clone());
        Box::new(move || Box::pin(look_at_storage(Arc::clone(&shared), storage.clone())))
    };
    go_on(Arc::clone(&shared.health), Trouble::Storage, look, stop.clone());
    if !shared.notifier.is_idle() {
        let (shared, stop) = (Arc::clone(shared), stop.clone());
        task::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = look_at_receivers(&shared) => {}
            }
        });
    }
    if let Some(ping) = database {
        let look: Look = Box::new(move || {
            let looking = ping();
            Box::pin(async move { looking.await.map_err(|reason| (Trouble::Database, reason)) })
        });
        go_on(Arc::clone(&shared.health), Trouble::Database, look, stop.clone());
    }
}

type Look = Box<dyn Fn() -> BoxFuture<'static, Result<(), (Trouble, String)>> + Send>;

fn go_on(health: Arc<Health>, silent: Trouble, look: Look, stop: CancellationToken) {
    task::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = again_and_again(&health, silent, look) => {}
        }
    });
}

async fn again_and_again(health: &Health, silent: Trouble, look: Look) {
    let mut before = None;
    loop {
        let mut looking = look();
        // What hangs is asked once: more would only hang beside it.
        let found = loop {
            match task::timeout(PATIENCE, &mut looking).await {
                Ok(found) => break found,
                Err(_) => note(health, &mut before, Some((silent, "it does not answer".to_owned()))),
            }
        };
        note(health, &mut before, found.err());
        task::sleep(INTERVAL).await;
    }
}

/// Notes what a look found; the log hears of changes alone.
fn note(health: &Health, before: &mut Option<Trouble>, found: Option<(Trouble, String)>) {
    let now = found.as_ref().map(|(trouble, _)| *trouble);
    match (*before, &found) {
        (Some(before), None) => {
            health.end(before);
            tracing::info!("{}", before.over());
        }
        (_, Some((trouble, reason))) if *before != now => tracing::error!(error = %reason, "{}", trouble.words()),
        _ => {}
    }
    *before = now;
    if let Some((trouble, reason)) = found {
        health.note(trouble, reason);
    }
}

/// Tells of receivers that do not take events; the log hears it from whoever sends them.
async fn look_at_receivers(shared: &Shared) {
    loop {
        for reason in shared.notifier.failing() {
            shared.health.note(Trouble::Notifications, reason);
        }
        task::sleep(INTERVAL).await;
    }
}

/// Keeps the numbers of the storage's room up to date, too.
async fn look_at_storage(shared: Arc<Shared>, storage: Storage) -> Result<(), (Trouble, String)> {
    let read_only = |reason: &str| Err((Trouble::ReadOnlyStorage, reason.to_owned()));
    if shared.is_readonly_unasked() {
        return read_only("it could not be written when the registry started");
    }
    let space = storage.probe().await.map_err(|error| {
        let trouble = trouble_of(&error).unwrap_or(Trouble::Storage);
        (trouble, format!("{error}: {}", error.source))
    })?;
    let Some(space) = space else { return Ok(()) };
    let Space { free, total, .. } = space;
    for (kind, bytes) in [("free", free), ("total", total)] {
        let gauge = shared.metrics.space.get_or_create(&SpaceLabel { kind }).clone();
        gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    if space.is_read_only && !shared.is_readonly() {
        return read_only("its file system is mounted read-only");
    }
    if space.is_full() {
        return Err((Trouble::NoSpace, format!("{free} of {total} bytes are free")));
    }
    Ok(())
}
