//! Why the stand-in cannot start.

use super::config::ConfigError;
use super::jwt_auth::KeyError;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key that signs tokens cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The server's certificate cannot be used, or its address not listened on.
    #[error("{0}")]
    Listen(#[from] std::io::Error),
}
