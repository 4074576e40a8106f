//! Who may do what: scopes needed, scopes granted, challenges.

pub mod htpasswd;
mod keys;
mod protection;
pub mod token;

use super::config::AuthConfig;
use super::token::Scope;
use crate::serve::Logger;

pub use keys::KeysError;
pub use protection::Protection;

/// Who made a request, as far as that is known.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// The token's subject, or the user's name; empty for nobody in particular.
    pub name: String,
    /// How the user proved who it is, as the token says.
    pub user_type: Option<String>,
    /// The user as the token passes it through.
    pub user: Option<String>,
    /// Tags that the token protects.
    pub protection: Protection,
    /// The project that the repository belongs to, as the token says.
    pub project_path: Option<String>,
}

/// What a request brings to be authorised.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Its `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The host that was asked.
    pub host: Option<&'a str>,
}

/// A refusal: what the client must present.
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

/// Why no authorizer can be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The keys that sign tokens cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The names and passwords cannot be used.
    #[error(transparent)]
    Htpasswd(#[from] htpasswd::HtpasswdError),
}

/// Decides about requests.
pub enum Authorizer {
    /// Everybody may do everything.
    Open,
    /// By bearer token.
    Token(Box<token::TokenAuthorizer>),
    /// By name and password; who is known may do everything.
    Htpasswd(Box<htpasswd::Htpasswd>),
}

impl Authorizer {
    /// Makes the authorizer that the configuration asks for.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub fn new(config: Option<&AuthConfig>) -> Result<Self, AuthError> {
        Ok(match config {
            None => Self::Open,
            Some(AuthConfig::Token(token)) => Self::Token(Box::new(token::TokenAuthorizer::new((**token).clone())?)),
            Some(AuthConfig::Htpasswd(file)) => Self::Htpasswd(Box::new(htpasswd::Htpasswd::new(file.clone())?)),
        })
    }

    /// Says whether those who are let in bring claims about what they may do.
    pub fn has_claims(&self) -> bool {
        matches!(self, Self::Token(_))
    }

    /// Checks a request. `needed` is what it takes.
    ///
    /// # Errors
    /// When the request may not go on: the challenge to answer with.
    pub async fn check(&self, asked: Asked<'_>, needed: &[Scope], log: &Logger) -> Result<Actor, Challenge> {
        match self {
            Self::Open => Ok(Actor::default()),
            Self::Token(token) => token.check(asked, needed, log),
            Self::Htpasswd(file) => file.check(asked.authorization, needed, log).await,
        }
    }
}
