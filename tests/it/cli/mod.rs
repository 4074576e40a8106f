//! What commands print, and what they leave behind.

mod completion;
mod config;
mod faults;
mod metadata_database;
mod output;
mod reconfigure;
mod up;
