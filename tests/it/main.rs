//! The integration tests: the real binary, real clients, real processes.

mod architecture;
mod certificates;
mod cli;
mod clients;
mod generated;
mod rails;
mod registry;
mod render;
mod supervisor;
mod support;
mod version;
