//! A container registry server: OCI Distribution and Docker Registry V2.
//!
//! It never heard of kdk: it reads distribution's `config.yml`, keeps images
//! in distribution's layout, and could stand alone.
//!
//! Flow: request → route ([`http`]) → scope → handler → metadata and blobs →
//! event → queue → endpoint. [`server`] puts the parts together; [`admin`] has
//! the verbs beside it.

pub mod admin;
pub mod auth;
pub mod config;
pub mod health;
pub mod http;
pub mod maintenance;
pub mod metadata;
pub mod metrics;
pub mod notify;
pub mod oci;
pub mod server;
pub mod state;
pub mod storage;
pub mod token;
pub mod version;
