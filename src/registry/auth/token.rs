//! Bearer tokens signed by a trusted key (distribution, "Token Authentication").

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;

use super::actor::Actor;
use super::challenge::{Asked, Challenge};
use super::keys::{Keys, KeysError};
use super::protection::Protection;
use crate::registry::config::TokenConfig;
use crate::registry::token::{Claims, PublicKey, Scope};
use crate::serve::origin::is_host;
use crate::serve::reload::Guard;
use crate::sys::clock::{Clock, human_duration};

/// Clock difference that is tolerated, in seconds.
const LEEWAY: u64 = 60;

/// Checks tokens against the keys in files, which are loaded again when they change.
pub struct TokenAuthorizer {
    config: TokenConfig,
    keys: Guard<Keys>,
}

enum Refusal {
    /// There was no token.
    Missing,
    /// The token is not acceptable, for this reason.
    Invalid(String),
}

impl TokenAuthorizer {
    /// Loads the trusted keys.
    ///
    /// # Errors
    /// When they cannot be read or none is usable.
    pub fn new(config: TokenConfig) -> Result<Self, KeysError> {
        let files = config.rootcertbundle.iter().chain(&config.jwks).cloned().collect();
        Ok(Self {
            keys: Guard::new("token keys", files, Keys::load(&config)?),
            config,
        })
    }

    /// Returns the keys that are in the files now.
    fn keys(&self) -> Result<Arc<Keys>, Refusal> {
        self.keys
            .current(|| Keys::load(&self.config))
            .ok_or_else(|| Refusal::Invalid("the files of token keys cannot be used".into()))
    }

    /// Checks a request's `Authorization` header against what it needs.
    ///
    /// # Errors
    /// The challenge, when there is no valid token or it does not suffice.
    pub fn check(&self, asked: Asked<'_>, needed: &[Scope]) -> Result<Actor, Challenge> {
        let claims = match self.claims(asked.authorization) {
            Ok(claims) => claims,
            Err(Refusal::Missing) => return Err(self.challenge(asked, needed, None, needed.to_vec())),
            Err(Refusal::Invalid(reason)) => {
                tracing::warn!(reason = %reason, "error authorizing context: invalid token");
                let mut challenge = self.challenge(asked, needed, Some("invalid_token"), needed.to_vec());
                challenge.reason = asked.authorization.and_then(expired);
                return Err(challenge);
            }
        };
        let missing: Vec<Scope> = needed
            .iter()
            .filter_map(|scope| {
                let actions: Vec<String> = scope
                    .actions
                    .iter()
                    .filter(|action| {
                        !claims
                            .access
                            .iter()
                            .any(|given| given.grants(&scope.kind, &scope.name, action))
                    })
                    .cloned()
                    .collect();
                (!actions.is_empty()).then(|| Scope {
                    actions,
                    ..scope.clone()
                })
            })
            .collect();
        if missing.is_empty() {
            let repository = needed.first().map_or("", |scope| scope.name.as_str());
            Ok(Actor {
                protection: Protection::of(&claims.access, repository),
                project_path: claims
                    .access
                    .iter()
                    .filter(|scope| scope.kind == "repository" && scope.name == repository)
                    .find_map(|scope| scope.meta.as_ref()?.project_path.clone()),
                name: claims.sub,
                user_type: claims.auth_type,
                user: claims.user,
            })
        } else {
            let reason = missing.first().map(|scope| denial(&claims.sub, scope));
            tracing::warn!(actor = %claims.sub, reason = %reason.clone().unwrap_or_default(), "error authorizing context: insufficient scope");
            let mut challenge = self.challenge(asked, needed, Some("insufficient_scope"), missing);
            challenge.reason = reason;
            Err(challenge)
        }
    }

    fn challenge(&self, asked: Asked<'_>, needed: &[Scope], error: Option<&str>, missing: Vec<Scope>) -> Challenge {
        let host = asked.host.filter(|host| is_host(host));
        let realm = match (&self.config.autoredirect, host) {
            (Some(path), Some(host)) => format!("https://{host}{path}"),
            _ => self.config.realm.clone(),
        };
        let mut parameters = format!(r#",service="{}""#, self.config.service);
        if !needed.is_empty() {
            let scopes: Vec<String> = needed.iter().map(ToString::to_string).collect();
            parameters.push_str(&format!(r#",scope="{}""#, scopes.join(" ")));
        }
        if let Some(error) = error {
            parameters.push_str(&format!(r#",error="{error}""#));
        }
        Challenge {
            scheme: "Bearer",
            realm,
            parameters,
            missing,
            reason: None,
        }
    }

    fn claims(&self, authorization: Option<&str>) -> Result<Claims, Refusal> {
        let token = authorization
            .and_then(|header| header.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(Refusal::Missing)?;
        let invalid = |error: jsonwebtoken::errors::Error| Refusal::Invalid(error.to_string());
        if let Some(names) = critical(token) {
            return Err(Refusal::Invalid(format!(
                "its header has critical parameters that are not supported: crit {names}"
            )));
        }
        if let Some(head) = Es512::of(token).filter(|_| self.config.es512) {
            return self.es512(token, &head);
        }
        let header = decode_header(token).map_err(invalid)?;
        let key = self.key(&header)?;
        if !self.config.algorithms.contains(&header.alg) || !key.fits(header.alg) {
            return Err(Refusal::Invalid(format!("algorithm {:?} is not accepted", header.alg)));
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.service]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let key = key
            .decoding_key()
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        decode::<Claims>(token, &key, &validation)
            .map(|data| data.claims)
            .map_err(invalid)
    }

    /// Finds the key that a token names: a certificate chain to the bundle,
    /// or a key id. A key that the token brings itself counts for nothing.
    fn key(&self, header: &jsonwebtoken::Header) -> Result<PublicKey, Refusal> {
        let embedded = header.jwk.as_ref().and_then(|jwk| jwk.common.x509_chain.as_ref());
        self.named(header.x5c.as_ref().or(embedded), header.kid.as_deref())
    }

    fn named(&self, chain: Option<&Vec<String>>, id: Option<&str>) -> Result<PublicKey, Refusal> {
        if let Some(chain) = chain {
            let keys = self.keys()?;
            return keys.of_chain(chain).map_err(|reason| {
                if let Some(id) = id.filter(|id| keys.by_id(id).is_none()) {
                    untrusted(id);
                }
                Refusal::Invalid(reason)
            });
        }
        let id = id.ok_or_else(|| Refusal::Invalid("the token names no key".into()))?;
        self.keys()?
            .by_id(id)
            .cloned()
            .ok_or_else(|| Refusal::Invalid(untrusted(id)))
    }

    /// Checks a token of ES512, which the library does not know.
    fn es512(&self, token: &str, head: &Es512) -> Result<Claims, Refusal> {
        let refused = |reason: &str| Refusal::Invalid(reason.to_owned());
        let key = self.named(head.x5c.as_ref(), head.kid.as_deref())?;
        let (message, signature) = token.rsplit_once('.').ok_or_else(|| refused("it has no signature"))?;
        let decode = |part: &str| {
            BASE64URL_NOPAD
                .decode(part.as_bytes())
                .map_err(|_| refused("it is no base64url"))
        };
        if !key.verifies_es512(message.as_bytes(), &decode(signature)?) {
            return Err(refused("the signature is not that of the key"));
        }
        let (_, payload) = message.split_once('.').ok_or_else(|| refused("it has no claims"))?;
        let claims: Claims =
            serde_json::from_slice(&decode(payload)?).map_err(|error| Refusal::Invalid(error.to_string()))?;
        let now = u64::try_from(Clock::System.now().as_second()).unwrap_or_default();
        match claims.problem(now, LEEWAY, &self.config.issuer, &self.config.service) {
            Some(problem) => Err(refused(problem)),
            None => Ok(claims),
        }
    }
}

/// Logs that nobody here knows the key of a token, in the words that GitLab's
/// documentation tells administrators to look for; returns them.
fn untrusted(id: &str) -> String {
    let message = format!("token signed by untrusted key with ID: {id:?}");
    tracing::error!("{message}");
    message
}

/// Says who may not do what.
fn denial(subject: &str, missing: &Scope) -> String {
    let may = |action: &str| missing.actions.iter().any(|wanted| wanted == action);
    let deed = match missing.kind.as_str() {
        "repository" if may("push") => format!("push to {}", missing.name),
        "repository" if may("delete") => format!("delete from {}", missing.name),
        "repository" => format!("pull from {}", missing.name),
        _ => format!("use {} {}", missing.kind, missing.name),
    };
    if subject.is_empty() {
        format!("without a login nobody may {deed}")
    } else {
        format!("{subject} may not {deed}")
    }
}

/// Returns the extensions that a token's header demands to be understood
/// (RFC 7515, section 4.1.11): there are none here.
fn critical(token: &str) -> Option<serde_json::Value> {
    let (head, _) = token.split_once('.')?;
    let head: serde_json::Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(head.as_bytes()).ok()?).ok()?;
    head.get("crit").cloned()
}

/// Says how long ago a token expired, when that is what is wrong with it.
fn expired(authorization: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct End {
        exp: u64,
    }
    let payload = authorization.split('.').nth(1)?;
    let end: End = serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?).ok()?;
    let now = u64::try_from(Clock::System.now().as_second()).ok()?;
    let ago = now.checked_sub(end.exp).filter(|ago| *ago >= LEEWAY)?;
    Some(format!("the token expired {} ago", human_duration(ago)))
}

/// The header of a token of ES512.
#[derive(Deserialize)]
struct Es512 {
    alg: String,
    kid: Option<String>,
    x5c: Option<Vec<String>>,
}

impl Es512 {
    /// Reads a token's header, when it is one of ES512.
    fn of(token: &str) -> Option<Self> {
        let (head, _) = token.split_once('.')?;
        let head: Self = serde_json::from_slice(&BASE64URL_NOPAD.decode(head.as_bytes()).ok()?).ok()?;
        (head.alg == "ES512").then_some(head)
    }
}
