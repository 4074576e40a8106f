//! The registry API, black box: the real server, plain HTTP requests.

mod authorization;
mod blobs;
mod crash;
mod database;
mod garbage;
mod gitlab;
mod import;
mod interchange;
mod links;
mod listings;
mod manifests;
mod operations;
mod origin;
mod power;
mod referrers;
mod rename;
mod server;
mod settings;
mod uploads;
mod wire;
