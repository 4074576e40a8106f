//! Metadata as link files beside the blobs, as distribution lays them out.

mod face;
mod judged;
pub mod links;

pub use face::Files;
