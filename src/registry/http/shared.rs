//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::RwLock;
use tokio_util::task::TaskTracker;

use crate::registry::auth::Authorizer;
use crate::registry::config::Config;
use crate::registry::health::Health;
use crate::registry::metadata::Store;
use crate::registry::metrics::Metrics;
use crate::registry::notify::Notifier;
use crate::registry::storage::upload_state::StateSigner;
use crate::registry::storage::{Blobs, Uploads};
use crate::serve::Forward;

/// Where clients ask for tokens, below the prefix. It needs no token, and
/// answers in every state.
pub const TOKENS: &str = "/jwt/auth";

/// What all requests share.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// Blobs by digest.
    pub blobs: Blobs,
    /// Uploads under way.
    pub uploads: Uploads,
    /// What belongs to which repository.
    pub metadata: Store,
    /// Receivers of events.
    pub notifier: Arc<Notifier>,
    /// Changes under way.
    pub tasks: TaskTracker,
    /// Whether nothing may be changed for now.
    pub readonly: AtomicBool,
    /// Whether that is so because nothing can be written.
    pub readonly_unasked: AtomicBool,
    /// Shared by all changes under way.
    pub changes: RwLock<()>,
    /// What the health checks found.
    pub health: Arc<Health>,
    /// Numbers for Prometheus.
    pub metrics: Arc<Metrics>,
    /// The token service, where clients reach it through this server.
    pub forward: Option<Forward>,
    /// Who may do what.
    pub authorizer: Authorizer,
    /// Signs the states of uploads.
    pub signer: StateSigner,
}

impl Shared {
    /// Says whether changes are refused although nobody asked for that.
    pub fn is_readonly_unasked(&self) -> bool {
        self.readonly_unasked.load(Ordering::Acquire)
    }

    /// Says whether nothing may be changed for now.
    pub fn is_readonly(&self) -> bool {
        self.readonly.load(Ordering::Acquire)
    }

    /// Refuses changes from now on, and waits for those under way.
    pub async fn set_readonly(&self) {
        self.readonly.store(true, Ordering::Release);
        drop(self.changes.write().await);
    }

    /// Takes changes again.
    pub fn set_writable(&self) {
        self.readonly.store(false, Ordering::Release);
        self.readonly_unasked.store(false, Ordering::Release);
    }
}
