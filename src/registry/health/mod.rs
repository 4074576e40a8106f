//! Health: checks that turn the service off.

mod checks;
mod probes;
mod status;

pub use checks::{Checks, ProbeOf, watch};
pub use status::{Health, Trouble};
