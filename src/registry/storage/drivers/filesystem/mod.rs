//! Files on a local disk, in distribution's layout.

mod append;
mod blocking;
mod cache;
mod commit;
pub mod disk;
mod driver;
mod growing;
mod lease;
mod reader;
mod remove;
mod stamp;
mod sync;
mod sync_failures;
mod tidy;
mod trash;
mod tree;

pub use driver::Filesystem;
