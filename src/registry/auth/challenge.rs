//! What a request brings to be authorised, and what it is told to bring.

use crate::registry::token::Scope;

/// What a request brings to be authorised.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Its `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The host that was asked.
    pub host: Option<&'a str>,
}

/// Why a request may not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It must present something else.
    Challenge(Challenge),
    /// Too many passwords wait to be checked.
    Busy,
}

impl From<Challenge> for Refusal {
    fn from(challenge: Challenge) -> Self {
        Self::Challenge(challenge)
    }
}

/// What the client must present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// `Bearer` or `Basic`.
    pub scheme: &'static str,
    /// Where to get what is missing, or the name of what is guarded.
    pub realm: String,
    /// What stands behind the realm.
    pub parameters: String,
    /// What was needed and is missing.
    pub missing: Vec<Scope>,
    /// Why what was presented does not suffice.
    pub reason: Option<String>,
}

impl Challenge {
    /// Returns the value of `WWW-Authenticate`.
    pub fn header(&self) -> String {
        format!("{} realm=\"{}\"{}", self.scheme, self.realm, self.parameters)
    }
}
