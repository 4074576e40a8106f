//! The commands, a file each.

pub mod completions;
pub mod config;
pub mod database;
pub mod diff_config;
pub mod env;
pub mod front;
pub mod import_registry_data;
pub mod init;
pub mod login;
pub mod psql;
pub mod rails;
pub mod reconfigure;
pub mod registry;
pub mod reset_registry_data;
pub mod roots;
pub mod run_state;
pub mod status;
pub mod tail;
pub mod token;
pub mod trust_docker_registry;
pub mod up;
pub mod user;
