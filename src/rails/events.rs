//! The receiver of the registry's notifications.

use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::app::App;
use super::respond::{error, json as answer};
use crate::serve::Body;
use crate::sys::task;

/// Largest envelope in bytes.
const LIMIT: usize = 1 << 20;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes events and logs them, whatever their action: a registry tries one
/// that is refused again and again, and all later ones wait behind it.
pub async fn receive(app: &App, request: Request<Incoming>) -> Response<Body> {
    let secret = app
        .config
        .registry
        .as_ref()
        .and_then(|registry| registry.notification_secret.as_deref());
    let sent = request
        .headers()
        .get(AUTHORIZATION)
        .map(|value| value.as_bytes().to_vec())
        .unwrap_or_default();
    // Comparing digests takes the same time wherever the texts differ.
    let trusted =
        secret.is_some_and(|secret| !secret.is_empty() && Sha256::digest(secret.as_bytes()) == Sha256::digest(&sent));
    if !trusted {
        tracing::warn!("event refused: the notification secret does not match");
        return error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "Invalid Token");
    }
    let body = Limited::new(request.into_body(), LIMIT).collect();
    let Ok(Ok(body)) = task::timeout(PATIENCE, body).await else {
        return error(
            StatusCode::BAD_REQUEST,
            "INVALID",
            "the envelope is too large or incomplete",
        );
    };
    let envelope: Value = match serde_json::from_slice(&body.to_bytes()) {
        Ok(envelope) => envelope,
        Err(reason) => {
            return error(
                StatusCode::BAD_REQUEST,
                "INVALID",
                &format!("the envelope is no JSON: {reason}"),
            );
        }
    };
    let Some(events) = envelope.get("events").and_then(Value::as_array) else {
        return error(StatusCode::BAD_REQUEST, "INVALID", "events is missing");
    };
    for event in events {
        let target = &event["target"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        tracing::info!(
            action = %text(&event["action"]),
            actor = %text(&event["actor"]["name"]),
            digest = %text(&target["digest"]),
            media_type = %text(&target["mediaType"]),
            repository = %text(&target["repository"]),
            size = target["size"].as_u64(),
            tag = %text(&target["tag"]),
            "registry event"
        );
    }
    answer(StatusCode::OK, &json!({}))
}
