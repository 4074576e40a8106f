//! `/jwt/auth` on the registry's own address: requests for tokens, sent on to
//! the token service. It needs no token, and answers in every state.

use hyper::body::Incoming;
use hyper::header::ALLOW;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::App;
use super::respond::{self, Problem};
use crate::registry::oci::ErrorCode;
use crate::serve::forward::Failure;
use crate::serve::{Body, Peer};

/// Where clients ask for tokens, below the prefix.
pub const PATH: &str = "/jwt/auth";

/// Answers a request for a token.
pub async fn answer(app: &App, request: Request<Incoming>, peer: &Peer, id: &str) -> Response<Body> {
    let Some(forward) = &app.forward else {
        return respond::text(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    if !matches!(*request.method(), Method::GET | Method::POST) {
        let mut response = respond::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        respond::set(&mut response, &[(ALLOW.as_str(), "GET, POST")]);
        return response;
    }
    let failure = match forward.send(request, peer, &app.config.http.trusted_proxies).await {
        Ok(response) => return response,
        Err(failure) => failure,
    };
    let status = match &failure {
        Failure::Loop => StatusCode::LOOP_DETECTED,
        Failure::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Failure::Incomplete(_) => StatusCode::BAD_REQUEST,
        Failure::Unreachable { .. } => {
            app.logger.error(
                "the token service does not answer: nobody can log in",
                vec![("correlation_id", id.into()), ("error", failure.to_string().into())],
            );
            return Problem::new(ErrorCode::Unavailable)
                .detail("the token service does not answer: see the registry's log")
                .into_response();
        }
    };
    let message = failure.to_string();
    respond::json(
        status,
        &json!({"errors": [{"code": "UNSUPPORTED", "message": message}]}),
    )
}
