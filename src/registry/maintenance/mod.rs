//! Removing what nobody needs, and checking what is there: unfinished uploads,
//! content that nothing refers to, damage.
//!
//! A collection marks what is reachable, then sweeps the rest: links before data.
//! It runs alone on the storage, or inside the one server that writes to it.

pub mod collect;
pub mod error;
pub mod events;
mod grace;
pub mod import;
pub mod messages;
pub mod online;
mod progress;
pub mod purge_uploads;
pub mod verify;
pub mod workers;
