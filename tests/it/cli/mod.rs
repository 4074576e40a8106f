//! What commands print, and what they leave behind.

mod cert;
mod completion;
mod config;
mod diagnosis;
mod doctor;
mod elsewhere;
mod faults;
mod metadata_database;
mod output;
mod people;
mod reconfigure;
mod terminal;
mod up;
