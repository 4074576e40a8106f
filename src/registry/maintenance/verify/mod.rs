//! Checking a store, and mending it.

mod blobs;
pub mod database;
mod finding;
mod repair;
mod repository;
mod run;

pub use finding::{Finding, Findings};
pub use run::verify;
