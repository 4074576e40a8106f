//! Who may do what: scopes needed, scopes granted, challenges.

mod actor;
mod authorizer;
mod challenge;
pub mod htpasswd;
mod keys;
mod protection;
pub mod token;

pub use actor::Actor;
pub use authorizer::{AuthError, Authorizer};
pub use challenge::{Asked, Challenge, Refusal};
pub use keys::KeysError;
pub use protection::{Denial, PatternError, Protection};
