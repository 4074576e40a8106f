//! Metadata as link files beside the blobs, as distribution lays them out.

mod attached;
mod face;
mod judged;
pub mod links;
mod proven;
mod subjects;
pub mod walk;

pub use face::Files;
