//! How container clients of this machine are told of the registry.

pub mod found;
pub mod hosts;
pub mod insecure;
pub mod needs;
pub mod setup;
pub mod shell;
pub mod trust;

pub use found::{Found, preferred};
