//! `kdk` gives a developer a working container registry, and the environment
//! around it, in seconds.
//!
//! # Layers
//!
//! A module calls only lower layers or its own children; siblings of layer 3
//! meet only in `reconfigure`, `doctor` and the commands.
//!
//! 4. `cli`: may use all; alone prints and exits.
//! 3. `reconfigure`, `clients`, `services`, `render`, `certs`, `roots`, `supervisor`.
//! 2. `config`, `root`.
//! 1. `sys`: the edges to the operating system.
//!
//! Apart stand `serve` (HTTP plumbing; uses `sys`), `registry` and `front` (use
//! `sys` and `serve`) and `rails` (uses `sys`, `serve`, `registry::oci` and
//! `registry::token`): servers that never heard of kdk.

pub mod certs;
pub mod cli;
pub mod clients;
pub mod config;
pub mod doctor;
pub mod front;
pub mod rails;
pub mod reconfigure;
pub mod registry;
pub mod render;
pub mod root;
pub mod roots;
pub mod serve;
pub mod services;
pub mod supervisor;
pub mod sys;
