//! `/jwt/auth`: tokens for the registry, as Rails hands them out.
//!
//! Actions that the caller may not perform are dropped silently; the registry
//! then says what is missing. Where nothing is left of what was asked, the
//! refusal says why: clients show that. A caller whom nobody knows gets a
//! token only for what is public.

mod answer;
mod fields;
mod grant;
mod service;

pub use answer::{answer, answer_form};
pub use grant::grant;
pub use service::{KeyError, SERVICE, TokenService};
