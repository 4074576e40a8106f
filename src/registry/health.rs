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
            match app.check_storage().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    app.logger
                        .error("storage health check failed", vec![("error", error.to_string().into())]);
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
pub async fn answer(app: Arc<App>, request: Request<Incoming>) -> Response<Body> {
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
