//! What clients see, on every face; and what only the wire shows.

pub mod authorization;
mod blobs;
mod listings;
mod manifests;
mod origin;
mod referrers;
mod uploads;
pub mod wire;
