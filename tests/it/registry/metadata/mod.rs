//! Metadata in a database: what only it has, the import, the GitLab API, and what GitLab's registry
//! writes into the same database.

pub mod database;
mod gitlab;
mod import;
mod plans;
mod rename;
mod shared;
