//! `/v2/<name>/manifests/<reference>`.

mod delete;
mod get;
mod put;
mod rules;

pub use delete::delete;
pub use get::get;
pub use put::put;
