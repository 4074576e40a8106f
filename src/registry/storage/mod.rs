//! Storage: a driver keeps bytes under paths, `layout` gives the paths
//! meaning, blobs and uploads are built on both.

pub mod blobs;
mod cache;
mod changes;
pub mod disk;
pub mod driver;
mod durable;
pub mod filesystem;
pub mod layout;
pub mod tree;
pub mod upload_state;
pub mod uploads;

pub use blobs::Blobs;
pub use driver::{Change, Driver, StorageError};
pub use filesystem::Filesystem;
pub use uploads::Uploads;
