//! Storage: a driver keeps bytes under paths, `layout` gives the paths
//! meaning, blobs and uploads are built on both.

pub mod blobs;
mod dispatch;
pub mod driver;
pub mod drivers;
pub mod layout;
pub mod object;
pub mod tree;
pub mod upload_state;
pub mod uploads;

pub use blobs::Blobs;
pub use dispatch::Storage;
pub use driver::{Change, Driver, StorageError};
pub use drivers::filesystem::Filesystem;
pub use uploads::Uploads;
