//! Metadata as link files beside the blobs, as distribution lays them out.

mod face;
mod judged;
pub mod links;
pub mod walk;

pub use face::Files;
