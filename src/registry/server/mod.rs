//! The server: the only one that knows all parts.

mod control;
mod error;
mod lease;
mod logging;
mod looks;
mod metadata;
mod open;
mod preflight;
mod reload;
mod run;
mod serve;
mod writing;

pub use error::StartError;
pub use open::Registry;
pub use preflight::problems;
pub use serve::{ServeError, serve};
