//! Bearer tokens of the registry protocol: scopes, claims, key ids.
//!
//! Pure values, shared by the registry, which checks tokens, and by the
//! token service, which makes them.

pub mod claims;
pub mod key;
pub mod scope;

pub use claims::Claims;
pub use key::PublicKey;
pub use scope::Scope;
