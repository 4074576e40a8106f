//! Taking up a changed configuration while requests go on: how much is logged,
//! and whether anything may be written. Certificates, keys and passwords are
//! looked at by themselves, every second.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::lease::open_socket;
use super::writing::Writing;
use crate::registry::config::Source;
use crate::registry::http::Shared;
use crate::registry::state::StateDir;
use crate::registry::storage::Storage;
use crate::registry::storage::lease::Holder;
use crate::serve::log;
use crate::sys::task;

/// A server as far as it changes while it runs.
pub struct Reload {
    /// What requests share.
    pub shared: Arc<Shared>,
    /// The storage.
    pub storage: Storage,
    /// What is this machine's.
    pub state: StateDir,
    /// What others read of this server.
    pub holder: Arc<Mutex<Holder>>,
    /// What only the one does who writes.
    pub writing: Option<Writing>,
    /// Ends the server.
    pub stop: CancellationToken,
}

impl Reload {
    /// Takes up what the configuration says now.
    pub async fn take_up(&mut self, source: &Source) {
        let config = match source.load() {
            Ok(config) => config,
            Err(error) => {
                return tracing::error!(error = %error, "the new configuration cannot be used: the previous one stays in force");
            }
        };
        log::set_level(config.log.level);
        match (self.shared.is_readonly(), config.storage.readonly) {
            (false, true) => self.stop_writing().await,
            (true, false) => self.begin_writing().await,
            _ => {}
        }
        tracing::info!(
            read_only = self.shared.is_readonly(),
            "configuration reloaded: log level and read-only mode; other changes need a restart"
        );
    }

    /// Stops writing, and gives the lease back once nothing is under way.
    async fn stop_writing(&mut self) {
        let done = async {
            // Those under way come to their end, and are the last.
            self.shared.set_readonly().await;
            if let Some(writing) = &self.writing {
                writing.end().await;
            }
        };
        tokio::select! {
            () = done => {}
            // Then all ends, and waits for them.
            () = self.stop.cancelled() => return,
        }
        self.writing = None;
        self.storage.release();
    }

    async fn begin_writing(&mut self) {
        let mut holder = self.own_record();
        holder.socket = None;
        let storage = self.storage.clone();
        let taking = task::blocking({
            let holder = holder.clone();
            move || storage.lease(&holder)
        });
        if let Err(error) = taking
            .await
            .unwrap_or_else(|panic| Err(std::io::Error::other(panic).into()))
        {
            return tracing::error!(error = %error, "the storage cannot be written: the registry stays read-only");
        }
        let lasts = !self.shared.config.storage.in_memory;
        let socket = lasts.then(|| open_socket(&self.state, &mut holder)).flatten();
        self.storage.describe(&holder);
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = holder;
        self.shared.set_writable();
        self.writing = Some(Writing::start(
            &self.shared,
            &self.storage,
            &self.state,
            socket,
            &self.stop,
        ));
    }

    fn own_record(&self) -> Holder {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
