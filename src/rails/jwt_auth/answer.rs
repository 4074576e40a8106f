//! Answering requests for tokens.

use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::json;

use super::fields::Fields;
use super::grant::{denial, grant};
use super::service::TokenService;
use crate::rails::app::{App, caller};
use crate::rails::identity::{Caller, TOKEN_PREFIX};
use crate::rails::respond::{self, denied, error as error_of};
use crate::registry::token::Scope;
use crate::serve::{Body, Peer};

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
        Ok((token, _)) => respond::json(StatusCode::OK, &json!({"token": token})),
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
            return denied("the refresh token is no personal access token");
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
    respond::json(StatusCode::OK, &answer)
}

fn disabled() -> Response<Body> {
    error_of(
        StatusCode::NOT_FOUND,
        "UNAVAILABLE",
        "the container registry is disabled; run: kdk config set registry.enabled true && kdk reconfigure",
    )
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
        tracing::info!(reason = %reason, "token refused");
        return Err(Box::new(error_of(StatusCode::FORBIDDEN, "DENIED", &reason)));
    }
    let subject = caller.map(|caller| caller.name.clone()).unwrap_or_default();
    match tokens.token(&subject, granted.clone()) {
        Ok(token) => Ok((token, granted)),
        Err(failure) => {
            tracing::error!(error = %failure, "cannot sign a token");
            Err(Box::new(error_of(
                StatusCode::INTERNAL_SERVER_ERROR,
                "UNKNOWN",
                "the token cannot be signed: see the log",
            )))
        }
    }
}
