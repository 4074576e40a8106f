//! `/jwt/auth`: tokens for the registry, as Rails hands them out.
//!
//! Actions that the caller may not perform are dropped silently; the registry
//! then says what is missing. A caller whom nobody knows gets a token only
//! for what is public.

use camino::Utf8PathBuf;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::config::RegistryConfig;
use super::identity::Caller;
use super::{App, caller, error};
use crate::registry::token::claims::Audience;
use crate::registry::token::{Claims, PublicKey, Scope};
use crate::serve::Body;
use crate::sys::clock::Clock;

/// Name of the registry in tokens.
pub const SERVICE: &str = "container_registry";
/// Tokens hold from this many seconds before they are made, for clocks that differ.
const LEEWAY: u64 = 5;

/// Why the signing key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the token signing key {path}: {reason}")]
pub struct KeyError {
    /// The file.
    pub path: Utf8PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Makes tokens.
pub struct TokenService {
    key: EncodingKey,
    key_id: String,
    issuer: String,
    minutes: u64,
    clock: Clock,
}

impl TokenService {
    /// Loads the RSA key (PKCS#1 or PKCS#8).
    ///
    /// # Errors
    /// When it cannot be read or is no RSA key.
    pub fn new(config: &RegistryConfig) -> Result<Self, KeyError> {
        let failed = |reason: String| KeyError {
            path: config.key.clone(),
            reason,
        };
        let pem = std::fs::read(&config.key).map_err(|error| failed(error.to_string()))?;
        let key = EncodingKey::from_rsa_pem(&pem).map_err(|_| failed("it holds no RSA private key in PEM".into()))?;
        let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| failed(error.to_string()))?;
        let signer =
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).map_err(|error| failed(error.to_string()))?;
        let spki = signer
            .public_key()
            .ok_or_else(|| failed("it has no public key".into()))?;
        let key_id = PublicKey::from_spki(&spki)
            .map_err(|error| failed(error.to_string()))?
            .libtrust_id();
        Ok(Self {
            key,
            key_id,
            issuer: config.issuer.clone(),
            minutes: config.token_expire_delay.max(1),
            clock: Clock::System,
        })
    }

    /// Makes a token that grants scopes to a subject.
    ///
    /// # Errors
    /// When signing fails.
    pub fn token(&self, subject: &str, access: Vec<Scope>) -> Result<String, jsonwebtoken::errors::Error> {
        let now = u64::try_from(self.clock.now().as_second()).unwrap_or_default();
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: subject.to_owned(),
            aud: Audience(vec![SERVICE.to_owned()]),
            exp: now + self.minutes * 60,
            nbf: Some(now - LEEWAY),
            iat: Some(now),
            jti: Some(crate::serve::log::instance_id()),
            auth_type: None,
            user: None,
            access,
        };
        let header = Header {
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::RS256)
        };
        encode(&header, &claims, &self.key)
    }
}

/// Answers a request for a token.
pub async fn answer(app: &App, request: &Request<Incoming>) -> Response<Body> {
    let Some(tokens) = &app.tokens else {
        return error(
            StatusCode::NOT_FOUND,
            "UNAVAILABLE",
            "the container registry is disabled; run: kdk config set registry.enabled true && kdk reconfigure",
        );
    };
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let values = |name: &'static str| {
        url::form_urlencoded::parse(query)
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let service = values("service").next().unwrap_or_default();
    if service != SERVICE {
        return error(
            StatusCode::NOT_FOUND,
            "UNAVAILABLE",
            &format!("there is no service {service:?}; the registry is {SERVICE:?}"),
        );
    }
    let asked: Vec<String> = values("scope").collect();
    let asked = match Scope::parse_all(asked.iter().map(String::as_str)) {
        Ok(scopes) => scopes,
        Err(reason) => return error(StatusCode::BAD_REQUEST, "INVALID_SCOPE", &reason.to_string()),
    };
    let caller = match caller(app, request).await {
        Ok(caller) => caller,
        Err(response) => return *response,
    };
    let granted: Vec<Scope> = asked
        .into_iter()
        .filter_map(|scope| grant(scope, caller.as_ref(), &app.config.public_repositories))
        .collect();
    if caller.is_none() && granted.is_empty() {
        return error(
            StatusCode::FORBIDDEN,
            "DENIED",
            "access forbidden: log in with a personal access token (kdk token create)",
        );
    }
    let subject = caller.map(|caller| caller.name).unwrap_or_default();
    match tokens.token(&subject, granted) {
        Ok(token) => super::json(StatusCode::OK, &json!({"token": token})),
        Err(failure) => {
            app.logger
                .error("cannot sign a token", vec![("error", failure.to_string().into())]);
            error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "UNKNOWN",
                "the token cannot be signed: see the log",
            )
        }
    }
}

/// Returns what of a scope a caller gets; nothing when it is nothing.
pub fn grant(scope: Scope, caller: Option<&Caller>, public: &[String]) -> Option<Scope> {
    let admin = caller.is_some_and(|caller| caller.admin);
    let all = match scope.kind.as_str() {
        "registry" => admin && scope.name == "catalog",
        "repository" => {
            admin
                || caller.is_some_and(|caller| {
                    scope
                        .name
                        .strip_prefix(&caller.name)
                        .is_some_and(|rest| rest.starts_with('/'))
                })
        }
        _ => false,
    };
    let readable = scope.kind == "repository" && is_public(&scope.name, public);
    let actions: Vec<String> = scope
        .actions
        .into_iter()
        .filter(|action| all || (readable && action == "pull"))
        .collect();
    (!actions.is_empty()).then_some(Scope { actions, ..scope })
}

fn is_public(name: &str, public: &[String]) -> bool {
    public.iter().any(|pattern| {
        pattern
            .strip_suffix('*')
            .map_or(pattern == name, |prefix| name.starts_with(prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(scope: &str, caller: Option<&Caller>) -> Option<String> {
        grant(scope.parse().expect("a scope"), caller, &["shared/*".to_owned()]).map(|scope| scope.to_string())
    }

    #[test]
    fn users_have_their_namespace_and_public_pulls() {
        let anna = Caller {
            name: "anna".into(),
            admin: false,
        };
        assert_eq!(
            granted("repository:anna/app:pull,push", Some(&anna)).as_deref(),
            Some("repository:anna/app:pull,push")
        );
        assert_eq!(granted("repository:annabel/app:pull,push", Some(&anna)), None);
        assert_eq!(granted("repository:anna:push", Some(&anna)), None);
        assert_eq!(
            granted("repository:shared/base:pull,push", Some(&anna)).as_deref(),
            Some("repository:shared/base:pull")
        );
        assert_eq!(
            granted("repository:shared/base:pull", None).as_deref(),
            Some("repository:shared/base:pull")
        );
        assert_eq!(granted("repository:anna/app:pull", None), None);
        assert_eq!(granted("registry:catalog:*", Some(&anna)), None);
    }

    #[test]
    fn admins_may_do_everything() {
        let root = Caller {
            name: "root".into(),
            admin: true,
        };
        for scope in ["registry:catalog:*", "repository:custom-docker-image:pull,push,delete"] {
            assert_eq!(granted(scope, Some(&root)).as_deref(), Some(scope));
        }
        assert_eq!(granted("registry:other:*", Some(&root)), None);
    }
}
