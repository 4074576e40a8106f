//! Why certificates could not be handled.

use std::io;

/// Why certificates could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The root's own authority may not sign for some names.
    #[error(
        "the root's own authority may not sign for {0}, for which it was not made; make a new one with: kdk cert ca --remove --yes && kdk cert ca"
    )]
    Forbidden(String),
    /// A pair could not be made.
    #[error("cannot make a certificate for {name}: {reason}")]
    Make {
        /// The common name.
        name: String,
        /// Why.
        reason: String,
    },
}
