//! The registry API, black box: the real server, plain HTTP requests.

mod authorization;
mod blobs;
mod crash;
mod garbage;
mod listings;
mod manifests;
mod referrers;
mod server;
mod uploads;
