//! Deciding about requests.

use super::actor::Actor;
use super::challenge::{Asked, Refusal};
use super::htpasswd::{Htpasswd, HtpasswdError};
use super::keys::KeysError;
use super::token::TokenAuthorizer;
use crate::registry::config::AuthConfig;
use crate::registry::token::Scope;

/// Why no authorizer can be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The keys that sign tokens cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The names and passwords cannot be used.
    #[error(transparent)]
    Htpasswd(#[from] HtpasswdError),
}

/// Decides about requests.
pub enum Authorizer {
    /// Everybody may do everything.
    Open,
    /// By bearer token.
    Token(Box<TokenAuthorizer>),
    /// By name and password; who is known may do everything.
    Htpasswd(Box<Htpasswd>),
}

impl Authorizer {
    /// Makes the authorizer that the configuration asks for.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub fn new(config: Option<&AuthConfig>) -> Result<Self, AuthError> {
        Ok(match config {
            None => Self::Open,
            Some(AuthConfig::Token(token)) => Self::Token(Box::new(TokenAuthorizer::new((**token).clone())?)),
            Some(AuthConfig::Htpasswd(file)) => Self::Htpasswd(Box::new(Htpasswd::new(file.clone())?)),
        })
    }

    /// Says whether those who are let in bring claims about what they may do.
    pub fn has_claims(&self) -> bool {
        matches!(self, Self::Token(_))
    }

    /// Checks a request. `needed` is what it takes.
    ///
    /// # Errors
    /// When the request may not go on.
    pub async fn check(&self, asked: Asked<'_>, needed: &[Scope]) -> Result<Actor, Refusal> {
        match self {
            Self::Open => Ok(Actor::default()),
            Self::Token(token) => Ok(token.check(asked, needed)?),
            Self::Htpasswd(file) => file.check(asked.authorization, needed).await,
        }
    }
}
