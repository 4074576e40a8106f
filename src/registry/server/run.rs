//! Serving, from the first connection to the last.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::looks;
use super::open::Registry;
use super::reload::Reload;
use super::writing::Writing;
use crate::registry::config::Source;
use crate::registry::health::{self, Checks, ProbeOf};
use crate::registry::http::{self, Debug, Shared};
use crate::registry::metadata::Store;
use crate::registry::metrics::{ConnectionLabel, Metrics};
use crate::registry::state::StateDir;
use crate::registry::state::control::Socket;
use crate::registry::storage::Storage;
use crate::registry::storage::lease::{Holder, Work};
use crate::serve::Listener;
use crate::sys::task;

/// How long what is under way may take at a stop at least.
const MIN_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

impl Registry {
    /// Serves until `stop` is cancelled, then drains. `changed` tells that the
    /// configuration was changed.
    pub async fn run(self, source: Source, mut changed: impl Changed, stop: CancellationToken) {
        let Self {
            shared,
            storage,
            state,
            holder,
            socket,
            listener,
            tls,
            debug,
        } = self;
        let config = &shared.config;
        let writing = begin(&shared, &storage, &state, socket, &stop);
        let suffix = if tls.is_some() { ", tls" } else { "" };
        tracing::info!("listening on {listener}{suffix}");
        if let Some(debug) = debug {
            start_debug(&shared, debug, &stop);
        }
        let mut reload = Reload {
            shared: Arc::clone(&shared),
            storage: storage.clone(),
            state: state.clone(),
            holder: Arc::clone(&holder),
            writing,
            stop: stop.clone(),
        };
        task::spawn(announce_end(storage.clone(), holder, stop.clone()));
        let reloading = task::spawn(async move {
            loop {
                tokio::select! {
                    () = reload.stop.cancelled() => return reload.writing,
                    () = changed.wait() => reload.take_up(&source).await,
                }
            }
        });
        let (drain, h2c) = (config.http.drain, config.http.h2c);
        let handler = {
            let shared = Arc::clone(&shared);
            move |request, peer| http::handle(Arc::clone(&shared), request, peer)
        };
        crate::serve::run(listener, tls, h2c, handler, stop, drain).await;
        let ending = async {
            // Also those that came in the last moment, on connections that live on.
            shared.set_readonly().await;
            if let Ok(Some(writing)) = reloading.await {
                writing.end().await;
            }
        };
        let is_done = task::timeout(drain.max(MIN_DRAIN_TIMEOUT), ending).await.is_ok();
        shared.notifier.drain().await;
        // What is still under way counts as killed.
        if is_done {
            storage.release();
        }
        tracing::info!("graceful shutdown successful");
    }
}

/// Starts what goes on beside the requests.
fn begin(
    shared: &Arc<Shared>,
    storage: &Storage,
    state: &StateDir,
    socket: Option<Socket>,
    stop: &CancellationToken,
) -> Option<Writing> {
    let config = &shared.config;
    if !config.has_redis {
        tracing::info!("redis not configured");
    }
    let writes = !shared.is_readonly();
    let writing = writes.then(|| Writing::start(shared, storage, state, socket, stop));
    if config.storage.cache.is_some() {
        tracing::info!("using inmemory blob descriptor cache");
    }
    match &shared.metadata {
        Store::Files(_) => tracing::info!("registry filesystem metadata in use"),
        Store::Database(metadata) => {
            tracing::info!(database = %metadata.rows().database().place(), "using the metadata database");
        }
    }
    start_checks(shared, storage, stop);
    for endpoint in &config.endpoints {
        tracing::info!("configuring endpoint {}", endpoint.name);
    }
    writing
}

/// Says in the lease when the server begins to end: who wants to start next
/// need not be refused any more.
async fn announce_end(storage: Storage, holder: Arc<Mutex<Holder>>, stop: CancellationToken) {
    stop.cancelled().await;
    let mut holder = holder.lock().unwrap_or_else(PoisonError::into_inner);
    holder.work = Work::Drain;
    holder.socket = None;
    storage.describe(&holder);
}

/// Tells that the configuration was changed.
pub trait Changed: Send + 'static {
    /// Waits until it was.
    fn wait(&mut self) -> impl Future<Output = ()> + Send;
}

fn start_checks(shared: &Arc<Shared>, storage: &Storage, stop: &CancellationToken) {
    let database: Option<ProbeOf> = match &shared.metadata {
        Store::Files(_) => None,
        Store::Database(metadata) => {
            let database = metadata.rows().database().clone();
            Some(Arc::new(move || {
                let database = database.clone();
                Box::pin(async move { database.ping().await.map_err(|error| error.in_full()) })
            }))
        }
    };
    looks::start(shared, storage, database.clone(), stop);
    let storage = storage.clone();
    let checks = Checks {
        health: Arc::clone(&shared.health),
        // Nothing is written: a full disk must not end pulls and deletions.
        storage: Arc::new(move || {
            let storage = storage.clone();
            Box::pin(async move {
                storage
                    .probe()
                    .await
                    .map(drop)
                    .map_err(|error| format!("{error}: {}", error.source))
            })
        }),
        database,
    };
    for check in shared.config.health.clone() {
        task::spawn(health::watch(checks.clone(), check, stop.clone()));
    }
}

fn start_debug(shared: &Arc<Shared>, listener: Listener, stop: &CancellationToken) {
    tracing::info!("debug server listening {listener}");
    let path = shared.config.http.metrics.clone();
    let debug = Arc::new(Debug {
        health: Arc::clone(&shared.health),
        notifier: Arc::clone(&shared.notifier),
        metrics: path.map(|path| (path, numbers(shared))),
    });
    let answer = move |request: hyper::Request<hyper::body::Incoming>, _| std::future::ready(debug.answer(&request));
    task::spawn(crate::serve::run(
        listener,
        None,
        false,
        answer,
        stop.clone(),
        Duration::ZERO,
    ));
}

/// Returns what writes all numbers as they are now.
fn numbers(shared: &Arc<Shared>) -> Box<dyn Fn() -> String + Send + Sync> {
    let metrics = Arc::clone(&shared.metrics);
    let database = match &shared.metadata {
        Store::Files(_) => None,
        Store::Database(metadata) => Some(metadata.rows().database().clone()),
    };
    Box::new(move || {
        if let Some(database) = &database {
            set_connections(&metrics, database.usage());
        }
        metrics.encode()
    })
}

fn set_connections(metrics: &Metrics, (open, idle, waiting): (usize, usize, usize)) {
    for (state, count) in [("open", open), ("idle", idle), ("waiting", waiting)] {
        let gauge = metrics.connections.get_or_create(&ConnectionLabel { state }).clone();
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
