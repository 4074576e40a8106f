//! Storage: a driver keeps bytes under paths, `layout` gives the paths
//! meaning, blobs and uploads are built on both.

pub mod blobs;
pub mod driver;
pub mod drivers;
pub mod layout;
mod storage;
pub mod tree;
pub mod upload_state;
pub mod uploads;

pub use blobs::Blobs;
pub use driver::{Change, Driver, StorageError};
pub use drivers::filesystem::Filesystem;
pub use storage::Storage;
pub use uploads::Uploads;
