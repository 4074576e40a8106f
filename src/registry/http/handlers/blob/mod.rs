//! `/v2/<name>/blobs/<digest>`.

mod delete;
mod get;
mod parts;

pub use delete::delete;
pub use get::get;
