//! What only the one does who writes to the storage: taking requests of this
//! machine, and removing what nobody needs.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{control, metadata};
use crate::registry::http::Shared;
use crate::registry::maintenance::online::OnlineCollection;
use crate::registry::maintenance::purge_uploads::PurgeUploads;
use crate::registry::metadata::Store;
use crate::registry::state::StateDir;
use crate::registry::state::control::Socket;
use crate::registry::storage::Storage;

/// The tasks of the one who writes.
pub struct Writing {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Writing {
    /// Starts them, until `stop`.
    pub fn start(
        shared: &Arc<Shared>,
        storage: &Storage,
        state: &StateDir,
        socket: Option<Socket>,
        stop: &CancellationToken,
    ) -> Self {
        let stop = stop.child_token();
        let tasks = TaskTracker::new();
        if let Some(socket) = socket {
            control::start(shared, storage, socket, &tasks, &stop);
        }
        if let Some(purging) = shared.config.storage.upload_purging {
            let purge = PurgeUploads {
                storage: storage.clone(),
                uploads: shared.uploads.clone(),
                config: purging,
            };
            tasks.spawn(purge.run(stop.clone()));
        }
        if let Store::Database(database) = &shared.metadata {
            let postgres = database.rows();
            let collection = OnlineCollection {
                postgres: postgres.clone(),
                config: shared.config.database.gc.clone(),
                storage: storage.clone(),
                metrics: Arc::clone(&shared.metrics),
                totals: state.collected(),
            };
            collection.start(&tasks, &stop);
            let marking = metadata::when_reached(storage.clone(), postgres.clone(), stop.clone());
            tasks.spawn(marking);
        }
        Self { stop, tasks }
    }

    /// Ends them, and waits until they are done and the socket is gone: the
    /// next one who writes has its own in its place.
    pub async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
