//! What is this machine's, and does not travel with the storage.

pub mod secret;
