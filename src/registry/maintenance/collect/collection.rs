//! What the stages of a collection work with.

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::registry::maintenance::events::Event;
use crate::registry::storage::{Barrier, Storage};

/// Where a collection works, and whom it tells.
pub struct Collection<'a> {
    /// The storage; its calls run on the caller's thread.
    pub driver: &'a Storage,
    /// The barrier of the server that uses the storage meanwhile.
    pub barrier: Option<&'a Barrier>,
    /// Runs the storage's calls.
    pub handle: &'a Handle,
    /// Ends the collection early.
    pub stop: &'a CancellationToken,
    /// Hears what happens.
    pub report: &'a (dyn Fn(Event) + Sync),
}
