//! Files on a local disk, in distribution's layout.

mod cache;
mod commit;
pub mod disk;
mod driver;
mod reader;
mod sync;
mod sync_failures;

pub use driver::Filesystem;
pub use sync_failures::Moment;
