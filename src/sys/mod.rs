//! The edges to the operating system: clock, files, processes, sockets.
//!
//! Nothing here knows a word of the domain. Platform differences live here
//! behind `cfg`, and so does every `unsafe` block of the crate.

pub mod clock;
pub mod env;
pub mod failpoint;
pub mod fs;
pub mod generations;
pub mod net;
pub mod process;
pub mod random;
pub mod running;
pub mod shell;
pub mod signal;
pub mod simulation;
pub mod task;
pub mod usage;
