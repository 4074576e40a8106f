//! What is this machine's, and does not travel with the storage.

pub mod control;
pub mod directory;
pub mod journal;
pub mod json;
pub mod secret;
mod volatile;

pub use directory::StateDir;
