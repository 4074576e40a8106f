//! The registry: the real server and plain HTTP requests; the storage by itself.

mod api;
mod faults;
mod maintenance;
mod metadata;
mod peers;
mod server;
mod settings;
mod signs;
mod simulation;
mod storage;
