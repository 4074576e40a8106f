//! What others on this machine ask of the server.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::registry::http::Shared;
use crate::registry::maintenance::collect::{self, Collection};
use crate::registry::maintenance::error::CollectError;
use crate::registry::maintenance::events::{Event, Options, Summary};
use crate::registry::maintenance::messages::Request;
use crate::registry::metadata::Store;
use crate::registry::state::control::{self, Asker, Socket};
use crate::registry::storage::{Barrier, Storage};
use crate::sys::task;

/// Events that wait for a slow listener.
const QUEUE: usize = 256;
/// How long whoever asked may take to read an event.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// And the last one.
const LAST_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers on a socket until `stop`.
pub fn start(shared: &Arc<Shared>, storage: &Storage, socket: Socket, tasks: &TaskTracker, stop: &CancellationToken) {
    let collector = Arc::new(Collector {
        storage: storage.clone(),
        barrier: match &shared.metadata {
            Store::Files(files) => Some(Arc::clone(files.barrier())),
            Store::Database(_) => None,
        },
        stop: stop.clone(),
    });
    let answer = move |asker| Arc::clone(&collector).answer(asker);
    tasks.spawn(control::serve(socket, tasks.clone(), stop.clone(), answer));
}

/// Collects garbage when it is asked to.
struct Collector {
    storage: Storage,
    /// Where pushes pass; nothing where metadata are in a database.
    barrier: Option<Arc<Barrier>>,
    stop: CancellationToken,
}

impl Collector {
    async fn answer(self: Arc<Self>, mut asker: Asker) {
        let asked = tokio::select! {
            asked = asker.request() => asked,
            () = self.stop.cancelled() => None,
        };
        let Some(Request::CollectGarbage(options)) = asked else {
            return;
        };
        let (mut answers, gone) = asker.split();
        let Some(barrier) = self.barrier.clone() else {
            let message = "the metadata of this registry are in a database, and garbage is collected while it serves (see kdk registry gc status); nothing was touched".to_owned();
            let _ = answers.send(&Event::Failed { message }).await;
            return;
        };
        let stop = self.stop.child_token();
        // Whoever asked and goes away wants no more of it.
        task::spawn({
            let stop = stop.clone();
            async move {
                gone.await;
                stop.cancel();
            }
        });
        tracing::info!(
            delete_untagged = options.delete_untagged,
            dry_run = options.dry_run,
            "garbage collection started"
        );
        let (sender, mut events) = mpsc::channel::<Event>(QUEUE);
        let collecting = task::blocking({
            let (own, stop, handle) = (Arc::clone(&self), stop.clone(), tokio::runtime::Handle::current());
            move || own.collect(options, &barrier, &stop, &handle, sender)
        });
        let mut is_heard = true;
        while let Some(event) = events.recv().await {
            if let Event::Warning { message } = &event {
                tracing::warn!("garbage collection: {message}");
            }
            if is_heard {
                let sent = tokio::select! {
                    sent = task::timeout(ANSWER_TIMEOUT, answers.send(&event)) => sent.is_ok_and(|sent| sent.is_ok()),
                    () = stop.cancelled() => false,
                };
                is_heard = sent;
            }
            if !is_heard {
                // What still comes is read by nobody, and holds nobody up.
                stop.cancel();
            }
        }
        let last = match collecting.await {
            Ok(outcome) => Self::end(outcome),
            Err(failure) => Event::Failed {
                message: failure.to_string(),
            },
        };
        let _ = task::timeout(LAST_TIMEOUT, answers.send(&last)).await;
    }

    fn collect(
        &self,
        options: Options,
        barrier: &Barrier,
        stop: &CancellationToken,
        handle: &tokio::runtime::Handle,
        sender: mpsc::Sender<Event>,
    ) -> Result<Summary, CollectError> {
        // The workers' threads run futures and may not wait for a channel of theirs.
        let (report, reported) = std::sync::mpsc::sync_channel::<Event>(QUEUE);
        task::blocking(move || {
            reported.iter().try_for_each(|event| sender.blocking_send(event)).ok();
        });
        // When nobody reads any more the collection is stopped.
        let report = move |event| drop(report.send(event));
        let collection = Collection {
            driver: &self.storage.bulk(),
            barrier: Some(barrier),
            handle,
            stop,
            report: &report,
        };
        collect::collect(&collection, options)
    }

    /// Logs how it went; returns the last event.
    fn end(outcome: Result<Summary, CollectError>) -> Event {
        match outcome {
            Ok(summary) => {
                tracing::info!(
                    blobs_deleted = summary.blobs_deleted,
                    manifests_deleted = summary.manifests_deleted,
                    bytes_freed = summary.bytes_freed,
                    "garbage collection complete"
                );
                Event::Finished(summary)
            }
            Err(error) => {
                let mut message = error.to_string();
                if let Some(source) = std::error::Error::source(&error) {
                    message = format!("{message}: {source}");
                }
                tracing::warn!(error = %message.clone(), "garbage collection ended early");
                Event::Failed { message }
            }
        }
    }
}
