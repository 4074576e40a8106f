//! The registry API over HTTP.

mod authorize;
pub mod body;
mod context;
mod debug;
mod error;
pub mod handlers;
mod paging;
pub mod respond;
mod row;
mod service;
mod shared;

pub use debug::Debug;
pub use error::trouble_of;
pub use service::handle;
pub use shared::Shared;
