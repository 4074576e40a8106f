//! What requests share, and who makes them.

use std::net::IpAddr;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};

use super::config::Config;
use super::identity::{Caller, Identity};
use super::jwt_auth::TokenService;
use super::logins::{Logins, Refusal};
use super::respond::{denied, error};
use crate::serve::{Body, Peer, TrustedProxies};

/// What requests share.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// Users and tokens.
    pub identity: Identity,
    /// Logins under way.
    pub logins: Logins,
    /// Those who are believed from where a client came: the registry beside it.
    pub proxies: TrustedProxies,
    /// Makes tokens, where there is a registry.
    pub tokens: Option<TokenService>,
}

/// Finds out who makes a request, by HTTP Basic.
///
/// # Errors
/// The answer, when credentials were sent and are wrong.
pub async fn caller(
    app: &App,
    request: &Request<Incoming>,
    peer: &Peer,
) -> Result<Option<Caller>, Box<Response<Body>>> {
    let Some(header) = request.headers().get(AUTHORIZATION) else {
        return Ok(None);
    };
    let credentials = header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| data_encoding::BASE64.decode(encoded.trim().as_bytes()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((user, password)) = credentials.as_deref().and_then(|text| text.split_once(':')) else {
        return Err(Box::new(denied("the Authorization header is not HTTP Basic")));
    };
    let from = app.proxies.client(request, peer);
    app.login(from, user, password).await.map(Some)
}

impl App {
    /// Checks a name and a password or token.
    ///
    /// # Errors
    /// The answer, when they are wrong, or too many were wrong.
    pub async fn login(&self, from: Option<IpAddr>, user: &str, password: &str) -> Result<Caller, Box<Response<Body>>> {
        match self.logins.check(&self.identity, from, user, password).await {
            Ok(caller) => Ok(caller),
            Err(Refusal::Wrong) => {
                let from = from.map(|from| from.to_string()).unwrap_or_default();
                tracing::warn!(user = %user, remote_ip = %from, "login refused");
                Err(Box::new(denied(
                    "HTTP Basic: Access denied. The password must be a personal access token (kdk token create), or the user's own.",
                )))
            }
            Err(Refusal::TooMany { seconds }) => {
                let mut response = error(
                    StatusCode::TOO_MANY_REQUESTS,
                    "TOOMANYREQUESTS",
                    &format!("too many logins; try again in {seconds} s"),
                );
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
                Err(Box::new(response))
            }
            Err(Refusal::Failed(reason)) => {
                tracing::error!(error = %reason, "cannot read users and tokens");
                Err(Box::new(error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "UNKNOWN",
                    "users and tokens cannot be read: see the log",
                )))
            }
        }
    }
}
