//! HTTP plumbing for the servers of this crate: sockets, TLS, drain, logs.
//!
//! A server hands [`run()`] its listener and a handler; everything about bytes
//! on the wire is here, everything about meaning is the handler's.

pub mod access;
mod admission;
pub mod body;
mod connection;
pub mod forward;
mod forwarded;
mod handshake;
pub mod id;
pub mod listener;
pub mod log;
pub mod origin;
pub mod pace;
mod preface;
pub mod reload;
pub mod route;
mod run;
pub mod tls;
mod until_signal;

pub use body::Body;
pub use forward::Forward;
pub use listener::{Listener, Peer};
pub use log::Level;
pub use origin::TrustedProxies;
pub use run::run;
pub use until_signal::until_signal;
