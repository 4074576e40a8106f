//! Files on a local disk, in distribution's layout.

mod cache;
mod commit;
pub mod disk;
mod driver;
mod reader;
mod sync;

pub use driver::Filesystem;
