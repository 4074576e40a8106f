//! Health: a check of the storage, and the debug listener that tells of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::http::App;
use super::http::respond;
use crate::serve::Body;

/// How long a check may take at least.
const MINIMUM_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Starts the check that the configuration asks for.
pub fn start(app: Arc<App>, stop: CancellationToken) {
    let check = app.config.health;
    if !check.storage_driver {
        return;
    }
    app.logger.info(
        "configuring storage health check",
        vec![
            ("interval_s", check.interval.as_secs().into()),
            ("threshold", check.threshold.into()),
        ],
    );
    tokio::spawn(async move {
        let mut failures = 0;
        loop {
            // A disk that hangs is no better than one that fails.
            let outcome = tokio::time::timeout(check.interval.max(MINIMUM_PATIENCE), app.check_storage()).await;
            let outcome = outcome.map_err(|_| "the storage does not answer".to_owned());
            match outcome.and_then(|checked| checked.map_err(|error| error.to_string())) {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    app.logger
                        .error("storage health check failed", vec![("error", error.into())]);
                }
            }
            app.unhealthy
                .store(failures >= check.threshold.max(1), Ordering::Relaxed);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(check.interval) => {}
            }
        }
    });
}

/// Answers on the debug listener.
pub fn answer(app: &App, request: &Request<Incoming>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/debug/health") => {
            if app.unhealthy.load(Ordering::Relaxed) {
                let body = json!({"storagedriver_filesystem": "health check failed"});
                respond::json(StatusCode::SERVICE_UNAVAILABLE, &body)
            } else {
                respond::json(StatusCode::OK, &json!({}))
            }
        }
        (&Method::GET, "/debug/vars") => {
            let endpoints = app.notifier.counters();
            respond::json(
                StatusCode::OK,
                &json!({"registry": {"notifications": {"endpoints": endpoints}}}),
            )
        }
        _ => respond::text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}
