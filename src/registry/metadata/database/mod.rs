//! Metadata as rows of a database, beside the data of blobs in a storage.
//!
//! Data are made durable first, then the rows that speak of them; while a
//! transaction holds those, the data are looked at once more.

mod configuration;
mod face;
mod push_blob;
mod push_manifest;
mod state;

pub use configuration::manifest_row;
pub use state::InDatabase;
