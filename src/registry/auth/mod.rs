//! Who may do what: scopes needed, scopes granted, challenges.

pub mod token;

use super::config::AuthConfig;
use super::token::Scope;
use crate::serve::Logger;

/// Who made a request, as far as a token says.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// The token's subject; empty without a token.
    pub name: String,
}

/// A refusal: what the client must present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Value of `WWW-Authenticate`.
    pub header: String,
    /// What was needed and is missing.
    pub missing: Vec<Scope>,
}

/// Decides about requests.
pub enum Authorizer {
    /// Everybody may do everything.
    Open,
    /// By bearer token.
    Token(Box<token::TokenAuthorizer>),
}

impl Authorizer {
    /// Makes the authorizer that the configuration asks for.
    ///
    /// # Errors
    /// When certificates cannot be read.
    pub fn new(config: Option<&AuthConfig>) -> Result<Self, token::BundleError> {
        Ok(match config {
            None => Self::Open,
            Some(AuthConfig::Token(token)) => Self::Token(Box::new(token::TokenAuthorizer::new(token.clone())?)),
        })
    }

    /// Checks a request. `authorization` is its header; `needed` what it takes.
    ///
    /// # Errors
    /// When the request may not go on: the challenge to answer with.
    pub fn check(&self, authorization: Option<&str>, needed: &[Scope], log: &Logger) -> Result<Actor, Challenge> {
        match self {
            Self::Open => Ok(Actor::default()),
            Self::Token(token) => token.check(authorization, needed, log),
        }
    }
}
