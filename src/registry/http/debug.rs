//! The debug listener: health, counters, numbers for Prometheus.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::respond;
use crate::registry::health::Health;
use crate::registry::metrics;
use crate::registry::notify::Notifier;
use crate::serve::Body;

/// What the debug listener tells of.
pub struct Debug {
    /// What is wrong.
    pub health: Arc<Health>,
    /// The queues of events.
    pub notifier: Arc<Notifier>,
    /// The path under which numbers are asked for, and what writes them.
    pub metrics: Option<(String, Box<dyn Fn() -> String + Send + Sync>)>,
}

impl Debug {
    /// Answers a request.
    pub fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET {
            return respond::text(StatusCode::NOT_FOUND, "404 page not found\n");
        }
        match (request.uri().path(), &self.metrics) {
            ("/debug/health", _) => {
                let mut failing = self.health.failing();
                let status = if failing.is_empty() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                // What turns nothing off is no reason to send clients elsewhere.
                for (trouble, reason) in self.health.troubles() {
                    failing.entry(trouble.name().to_owned()).or_insert(reason);
                }
                respond::json(status, &json!(failing))
            }
            ("/debug/vars", _) => {
                let endpoints = self.notifier.counters();
                let vars = json!({"registry": {"notifications": {"endpoints": endpoints}}});
                respond::json(StatusCode::OK, &vars)
            }
            (path, Some((own, numbers))) if path == own => {
                respond::bytes(StatusCode::OK, metrics::MEDIA_TYPE, numbers())
            }
            _ => respond::text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }
}
