//! What may be asked of a server over its socket.

use serde::{Deserialize, Serialize};

use super::events::Options;

/// A request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Collect garbage, and tell how it goes.
    CollectGarbage(Options),
}
