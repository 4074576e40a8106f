//! What is this machine's, and does not travel with the storage.

pub mod journal;
pub mod json;
pub mod secret;
pub mod volatile;
