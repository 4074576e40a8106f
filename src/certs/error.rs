//! Why certificates could not be handled.

use std::io;

/// Why certificates could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A pair could not be made.
    #[error("cannot make a certificate for {name}: {reason}")]
    Make {
        /// The common name.
        name: String,
        /// Why.
        reason: String,
    },
}
