//! Objects in a store that knows no files: whole objects, parts of one to be,
//! listings. The store itself is the crate `object_store`'s.

mod commit;
mod driver;
mod record;
mod remove;
pub mod store;
mod writer;

pub use driver::Objects;
