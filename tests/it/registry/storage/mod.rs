//! What lies on disk, and what each change does there.

mod commits;
mod formats;
mod interchange;
mod lease;
mod links;
mod listings;
mod operations;
mod power;
mod suite;
