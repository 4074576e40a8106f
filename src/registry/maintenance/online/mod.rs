//! Collection while the registry serves from a database.

mod review;
mod worker;

pub use worker::{OnlineCollection, Totals};
