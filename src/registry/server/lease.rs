//! Becoming the one who writes to the storage.

use std::time::Duration;

use super::error::StartError;
use crate::registry::config::Config;
use crate::registry::state::StateDir;
use crate::registry::state::control::Socket;
use crate::registry::storage::Storage;
use crate::registry::storage::lease::{self, Holder, LeaseError};

/// How long a holder that does not say who it is may take to.
const HOLDER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether the holder is done.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Takes the lease, for which it waits where its holder comes to an end; says
/// whether this user can have it.
///
/// # Errors
/// When another server has the lease, or the storage cannot be used.
pub async fn acquire(
    config: &Config,
    storage: &Storage,
    state: &StateDir,
    holder: &Holder,
) -> Result<bool, StartError> {
    let began = crate::sys::clock::monotonic();
    let mut told = None;
    loop {
        let other = match storage.lease(holder) {
            Ok(()) => return Ok(true),
            Err(LeaseError::Unwritable(error)) => {
                let remedy = if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem {
                    "mount its file system for writing"
                } else {
                    "give this user the right to write to it"
                };
                tracing::warn!(
                    directory = %state.path(),
                    error = %error,
                    "the storage's .kdk directory cannot be written: serving read-only; {remedy}, and restart"
                );
                return Ok(false);
            }
            Err(LeaseError::Io(error)) => return Err(StartError::Storage(error)),
            Err(LeaseError::Held(other)) => other,
        };
        let ends = other.as_ref().is_some_and(|other| other.work.ends());
        if !(ends || other.is_none() && began.elapsed() < HOLDER_TIMEOUT) {
            let root = config.storage.root.clone();
            return Err(StartError::Held { root, holder: other });
        }
        if ends && told != other {
            tracing::warn!(
                "waiting for {} to be done with the storage",
                lease::holder(other.as_ref())
            );
            told = other;
        }
        crate::sys::task::sleep(RETRY_INTERVAL).await;
    }
}

/// Opens the socket that goes with the lease, if that can be.
pub fn open_socket(state: &StateDir, holder: &mut Holder) -> Option<Socket> {
    match Socket::open(state.path()) {
        Ok(socket) => {
            holder.socket = Some(socket.path.clone());
            Some(socket)
        }
        Err(error) => {
            tracing::warn!(
                error = %error,
                "cannot create the control socket: garbage-collect will not work while this registry runs"
            );
            None
        }
    }
}
