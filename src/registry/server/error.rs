//! Why a server cannot start.

use std::io;

use camino::Utf8PathBuf;

use crate::registry::auth::AuthError;
use crate::registry::metadata::DatabaseError;
use crate::registry::metadata::locate::LocateError;
use crate::registry::storage::StorageError;
use crate::registry::storage::lease::{self, Holder};
use crate::serve::forward::ForwardError;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The storage directory cannot be used.
    #[error("cannot use the storage directory: {0}")]
    Storage(#[source] io::Error),
    /// Another server writes to the storage.
    #[error(
        "{} already writes to {root}, and only one server at a time may: stop that one, give this one another directory, or make this one read-only (storage.maintenance.readonly.enabled: true)",
        lease::holder(.holder.as_ref())
    )]
    Held {
        /// The storage's directory.
        root: Utf8PathBuf,
        /// Whose it is, as far as that is known.
        holder: Option<Holder>,
    },
    /// The keys or passwords cannot be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The server's own certificate cannot be used.
    #[error("cannot use the TLS certificate: {0}")]
    Tls(#[source] io::Error),
    /// The metadata are elsewhere.
    #[error(transparent)]
    Metadata(#[from] LocateError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Requests for tokens cannot be sent on.
    #[error("auth.token.forward: {0}")]
    Forward(#[from] ForwardError),
    /// The address cannot be listened on.
    #[error("{0}")]
    Listen(#[source] io::Error),
}

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error.source)
    }
}
