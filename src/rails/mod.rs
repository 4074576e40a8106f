//! The Rails stand-in: the few endpoints of KhulnaSoft's Rails application
//! that a container registry needs.
//!
//! * `/jwt/auth`: tokens for the registry ([`jwt_auth`]).
//! * `/api/v4/container_registry_event/events`: the registry's events (`events`).
//! * `/` and `/<project>/container_registry`: repositories and tags (`pages`).
//!
//! It reads the same `khulnasoft.yml` as Rails, and knows users and personal
//! access tokens from a file of its own ([`identity`]).

mod app;
pub mod config;
mod error;
mod events;
pub mod identity;
pub mod jwt_auth;
mod logins;
mod pages;
mod respond;
mod run;
mod service;

pub use error::StartError;
pub use run::serve;
