//! Metadata in a PostgreSQL database, in GitLab's schema.
//!
//! Blobs' data stay in the storage; what belongs to which repository, and
//! manifests themselves, are rows. Statements name the partitioned parents
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
pub mod error;
mod face;
mod finder;
mod found;
pub mod gitlab;
pub mod import;
mod known;
mod layers;
pub mod manifest_row;
pub mod migrations;
pub mod push;
mod referrers;
pub mod rename;
mod repository;
pub mod review;
pub mod walk;

pub use client::Postgres;
pub use connection::Database;
pub use error::{DatabaseError, Outage};
/// A connection to a database, whatever its schema.
pub type AdminClient = tokio_postgres::Client;
