//! Metadata as link files beside the blobs, as distribution lays them out.

mod face;
pub mod links;

pub use face::Files;
