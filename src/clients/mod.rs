//! How container clients are told of the registry.

pub mod trust;
