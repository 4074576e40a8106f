//! The places that keep bytes, one folder each.

pub mod filesystem;
