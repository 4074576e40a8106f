//! What commands print, and what they leave behind.

mod config;
mod output;
mod reconfigure;
