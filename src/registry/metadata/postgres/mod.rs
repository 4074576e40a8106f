//! The rows of a PostgreSQL database, in GitLab's schema: what belongs to which
//! repository, and manifests themselves. What takes more than one step, because
//! the storage has a say in it, is a transaction as an object. Statements name the partitioned parents
//! and their columns, so that a newer schema does not disturb them.
//!
//! A row of a review queue is the lock by which pushes and the online garbage
//! collection pass each other: whoever relies on a blob or manifest that is
//! there takes its row, and puts its review off.

pub mod admin;
pub mod attached;
pub mod bulk;
pub(super) mod client;
pub mod connection;
mod delete;
pub mod error;
mod finder;
mod found;
pub mod gitlab;
pub mod import;
mod known;
mod layers;
mod listings;
pub mod manifest_row;
mod manifests;
pub mod migrations;
mod push_blob;
mod push_manifest;
mod referrers;
pub mod rename;
mod repository;
pub mod review;
pub mod tag_page;
pub mod tls;
pub mod walk;

pub use client::Postgres;
pub use connection::Database;
pub use error::{DatabaseError, Outage};
/// A connection to a database, whatever its schema.
pub type AdminClient = tokio_postgres::Client;
