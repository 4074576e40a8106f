//! Removing what nobody needs.

pub mod purge;
