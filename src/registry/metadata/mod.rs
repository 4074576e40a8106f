//! What belongs to which repository: manifests, tags, blob membership.
//!
//! Operations are those of the API, never rows or links, so that link files
//! and a database can stand behind the same trait.

pub mod database;
mod error;
pub mod files;
pub mod locate;
mod port;
pub mod postgres;
mod referrers;
mod store;
mod types;

pub use database::InDatabase;
pub use error::MetadataError;
pub use files::Files;
pub use port::Metadata;
pub use postgres::{DatabaseError, Outage, Postgres};
pub use referrers::{ReferrerPage, Referrers};
pub use store::Store;
pub use types::{BlobRecord, Deleted, IsProtected, Moves, Page, PutManifest, Stored};
