//! Bytes at rest: drivers, the path layout, blobs, uploads.

pub mod blobs;
pub mod driver;
pub mod filesystem;
pub mod layout;
pub mod tree;
pub mod upload_state;
pub mod uploads;

pub use blobs::Blobs;
pub use driver::{Driver, StorageError};
pub use filesystem::Filesystem;
pub use uploads::Uploads;
