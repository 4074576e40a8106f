//! Storage: a driver keeps bytes under keys, `layout` gives the keys
//! meaning, blobs and uploads are built on both.

pub mod alias;
mod barrier;
pub mod blobs;
mod change;
mod dispatch;
pub mod driver;
pub mod drivers;
mod error;
pub mod faults;
mod key;
pub mod layout;
pub mod lease;
pub mod marks;
mod names;
pub mod object;
mod pending;
mod receive;
mod staged_blob;
pub mod tree;
mod unfinished;
pub mod upload_state;
pub mod uploads;
pub mod writer;

pub use barrier::Barrier;
pub use blobs::Blobs;
pub use change::{Aside, Change, Durability, Expected, Target};
pub use dispatch::Storage;
pub use driver::{Driver, LastUsed};
pub use drivers::Drivers;
pub use drivers::filesystem::Filesystem;
pub use error::{StorageError, StorageErrorKind};
pub use key::{Key, Prefix};
pub use lease::{Holder, LeaseError, Work};
pub use names::Names;
pub use staged_blob::StagedBlob;
pub use uploads::Uploads;
