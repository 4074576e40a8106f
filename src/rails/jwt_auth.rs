//! `/jwt/auth`: tokens for the registry, as Rails hands them out.
//!
//! Actions that the caller may not perform are dropped silently; the registry
//! then says what is missing. Where nothing is left of what was asked, the
//! refusal says why: clients show that. A caller whom nobody knows gets a
//! token only for what is public.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::BASE64;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::config::RegistryConfig;
use super::identity::{Caller, TOKEN_PREFIX};
use super::{App, caller, error as error_of};
use crate::registry::token::claims::Audience;
use crate::registry::token::{Claims, PublicKey, Scope};
use crate::serve::{Body, Peer};
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
    /// The certificate for the key and what follows it (RFC 7515, section
    /// 4.1.6): distribution v3 knows keys by another id than registries before
    /// it, and all of them take this.
    chain: Option<Vec<String>>,
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
            chain: config.certificates.as_deref().and_then(|path| chain(path, &spki)),
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
            x5c: self.chain.clone(),
            ..Header::new(Algorithm::RS256)
        };
        encode(&header, &claims, &self.key)
    }
}

/// Returns the certificate of a file that is for a key, and those that follow
/// it, in base64; nothing where none is for it.
fn chain(path: &Utf8Path, key: &[u8]) -> Option<Vec<String>> {
    let all: Vec<CertificateDer<'_>> = CertificateDer::pem_file_iter(path)
        .ok()?
        .collect::<Result<_, _>>()
        .ok()?;
    let is_for_key = |der: &CertificateDer<'_>| {
        X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.public_key().raw == key)
    };
    let first = all.iter().position(is_for_key)?;
    Some(all[first..].iter().map(|der| BASE64.encode(der)).collect())
}

/// Largest form in bytes.
const FORM_LIMIT: usize = 64 << 10;
/// How long a form may take to come.
const FORM_PATIENCE: Duration = Duration::from_secs(10);

/// Answers a request for a token with HTTP Basic (distribution, "Token
/// Authentication Specification").
pub async fn answer(app: &App, request: &Request<Incoming>, peer: &Peer) -> Response<Body> {
    let fields = Fields::read(request.uri().query().unwrap_or_default().as_bytes());
    let Some(tokens) = &app.tokens else {
        return disabled();
    };
    let asked = match fields.asked() {
        Ok(asked) => asked,
        Err(response) => return *response,
    };
    let caller = match caller(app, request, peer).await {
        Ok(caller) => caller,
        Err(response) => return *response,
    };
    match issue(app, tokens, asked, caller.as_ref()) {
        Ok((token, _)) => super::json(StatusCode::OK, &json!({"token": token})),
        Err(response) => *response,
    }
}

/// Answers a request for a token by form (distribution, "OAuth2 Token
/// Authentication"). A refresh token is a personal access token, and only
/// ever the one that was sent: none is made.
pub async fn answer_form(app: &App, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
    let Some(tokens) = &app.tokens else {
        return disabled();
    };
    let from = app.proxies.client(&request, peer);
    let reading = Limited::new(request.into_body(), FORM_LIMIT).collect();
    let body = match crate::sys::task::timeout(FORM_PATIENCE, reading).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let reason = format!("the form has more than {FORM_LIMIT} bytes");
            return error_of(StatusCode::PAYLOAD_TOO_LARGE, "INVALID", &reason);
        }
        _ => return error_of(StatusCode::BAD_REQUEST, "INVALID", "the form did not come whole"),
    };
    let fields = Fields::read(&body);
    let asked = match fields.asked() {
        Ok(asked) => asked,
        Err(response) => return *response,
    };
    let (user, password) = match fields.first("grant_type").as_str() {
        "password" => (fields.first("username"), fields.first("password")),
        // What is no token would be tried as a password.
        "refresh_token" if !fields.first("refresh_token").starts_with(TOKEN_PREFIX) => {
            return super::denied("the refresh token is no personal access token");
        }
        "refresh_token" => (String::new(), fields.first("refresh_token")),
        other => {
            let reason = format!("grant_type {other:?} is not known; use password or refresh_token");
            return error_of(StatusCode::BAD_REQUEST, "UNSUPPORTED", &reason);
        }
    };
    let caller = match app.login(from, &user, &password).await {
        Ok(caller) => caller,
        Err(response) => return *response,
    };
    let (token, granted) = match issue(app, tokens, asked, Some(&caller)) {
        Ok(issued) => issued,
        Err(response) => return *response,
    };
    let mut answer = json!({
        "access_token": token,
        "scope": granted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        "expires_in": tokens.minutes * 60,
        "issued_at": tokens.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let lasting = fields.first("grant_type") == "refresh_token" || fields.first("access_type") == "offline";
    if lasting && password.starts_with(TOKEN_PREFIX) {
        answer["refresh_token"] = password.into();
    }
    super::json(StatusCode::OK, &answer)
}

fn disabled() -> Response<Body> {
    error_of(
        StatusCode::NOT_FOUND,
        "UNAVAILABLE",
        "the container registry is disabled; run: kdk config set registry.enabled true && kdk reconfigure",
    )
}

/// The fields of a query or a form.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn read(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    fn first(&self, name: &str) -> String {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// Returns the scopes that are asked for.
    fn asked(&self) -> Result<Vec<Scope>, Box<Response<Body>>> {
        let service = self.first("service");
        if service != SERVICE {
            let reason = format!("there is no service {service:?}; the registry is {SERVICE:?}");
            return Err(Box::new(error_of(StatusCode::NOT_FOUND, "UNAVAILABLE", &reason)));
        }
        let scopes = self.0.iter().filter(|(key, _)| key == "scope");
        Scope::parse_all(scopes.map(|(_, value)| value.as_str()))
            .map_err(|reason| Box::new(error_of(StatusCode::BAD_REQUEST, "INVALID_SCOPE", &reason.to_string())))
    }
}

/// Makes a token of what a caller may have of what is asked; says what that is.
fn issue(
    app: &App,
    tokens: &TokenService,
    asked: Vec<Scope>,
    caller: Option<&Caller>,
) -> Result<(String, Vec<Scope>), Box<Response<Body>>> {
    let wanted = asked.first().cloned();
    let granted: Vec<Scope> = asked
        .into_iter()
        .filter_map(|scope| grant(scope, caller, &app.config.public_repositories))
        .collect();
    if granted.is_empty()
        && let Some(reason) = denial(caller, wanted.as_ref())
    {
        // podman shows no more than the status: the reason is here, too.
        app.logger
            .info("token refused", vec![("reason", reason.as_str().into())]);
        return Err(Box::new(error_of(StatusCode::FORBIDDEN, "DENIED", &reason)));
    }
    let subject = caller.map(|caller| caller.name.clone()).unwrap_or_default();
    match tokens.token(&subject, granted.clone()) {
        Ok(token) => Ok((token, granted)),
        Err(failure) => {
            app.logger
                .error("cannot sign a token", vec![("error", failure.to_string().into())]);
            Err(Box::new(error_of(
                StatusCode::INTERNAL_SERVER_ERROR,
                "UNKNOWN",
                "the token cannot be signed: see the log",
            )))
        }
    }
}

/// Says why a caller gets nothing of what is asked; nothing when that is no
/// reason to refuse. Clients show these words to people.
fn denial(caller: Option<&Caller>, wanted: Option<&Scope>) -> Option<String> {
    let Some(caller) = caller else {
        return Some(
            "not logged in; run: kdk login, or log in with a personal access token (kdk token create)".to_owned(),
        );
    };
    // A login asks for nothing.
    let wanted = wanted?;
    let name = &caller.name;
    let may = |action: &str| wanted.actions.iter().any(|asked| asked == action || asked == "*");
    let deed = match wanted.kind.as_str() {
        "repository" if may("push") => "push to",
        "repository" if may("delete") => "delete from",
        "repository" => "pull from",
        _ => return Some(format!("{name} may not use {} {}", wanted.kind, wanted.name)),
    };
    Some(format!(
        "{name} may not {deed} {}; images of {name} are named {name}/…",
        wanted.name
    ))
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
