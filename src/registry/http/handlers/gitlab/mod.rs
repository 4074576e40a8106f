//! `/gitlab/v1/`: GitLab's own API, which only a database can answer.

mod base;
mod below;
mod json;
mod query;
mod rename;
mod repository;
mod statistics;
mod tag;
mod tags;

pub use base::base;
pub use below::below;
pub use rename::rename;
pub use repository::repository;
pub use statistics::statistics;
pub use tag::tag;
pub use tags::tags;
