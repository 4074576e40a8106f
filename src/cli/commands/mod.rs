//! The commands, a file each.

pub mod completions;
pub mod config;
pub mod diff_config;
pub mod init;
pub mod login;
pub mod rails;
pub mod reconfigure;
pub mod registry;
pub mod run_state;
pub mod status;
pub mod tail;
pub mod token;
pub mod trust_docker_registry;
pub mod user;
