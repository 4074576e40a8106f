//! Events, and their delivery to endpoints.
//!
//! Handlers hand an event to a bounded queue per endpoint; a change waits
//! until its event is kept, and for nothing else. Delivery is retried with
//! growing pauses, but not after an answer that says the request itself is wrong.

mod counters;
mod delivery;
mod event;
mod notifier;

pub use event::Event;
pub use notifier::Notifier;
