//! The integration tests: the real binary, real clients, real processes.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::zombie_processes,
    reason = "tests handle files, time, output and processes directly"
)]

mod architecture;
mod certificates;
mod cli;
mod clients;
mod documents;
mod front;
mod generated;
mod rails;
mod recorder;
mod registry;
mod render;
mod supervisor;
mod support;
mod version;
