//! Health: checks that turn the service off, and the debug listener that
//! tells of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::config::{HealthCheck, Probe};
use super::http::App;
use super::http::respond;
use super::metadata::Store;
use crate::serve::Body;

/// How long a check of the storage may take at least.
const MINIMUM_PATIENCE: Duration = Duration::from_secs(5);

/// What is wrong, by check.
#[derive(Debug, Default)]
pub struct Health {
    unhealthy: AtomicBool,
    failing: Mutex<BTreeMap<String, String>>,
}

impl Health {
    /// Says whether all is well.
    pub fn is_well(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// Returns what is wrong.
    pub fn failing(&self) -> BTreeMap<String, String> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, name: &str, failure: Option<String>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => drop(failing.remove(name)),
            Some(reason) => drop(failing.insert(name.to_owned(), reason)),
        }
        self.unhealthy.store(!failing.is_empty(), Ordering::Relaxed);
    }
}

/// Starts the checks that the configuration asks for.
pub fn start(app: &Arc<App>, stop: &CancellationToken) {
    for check in app.config.health.clone() {
        let name = name(&check.probe);
        let message = match check.probe {
            Probe::Storage => "configuring storage health check".to_owned(),
            Probe::Database => "configuring database health check".to_owned(),
            _ => format!("configuring health check {name}"),
        };
        app.logger.info(
            &message,
            vec![
                ("interval_s", check.interval.as_secs().into()),
                ("threshold", check.threshold.into()),
            ],
        );
        crate::sys::task::spawn(watch(Arc::clone(app), check, name, stop.clone()));
    }
}

fn name(probe: &Probe) -> String {
    match probe {
        Probe::Storage => "storagedriver_filesystem".to_owned(),
        Probe::Database => "database_connection".to_owned(),
        Probe::File(path) => path.to_string(),
        Probe::Http { uri, .. } => uri.clone(),
        Probe::Tcp { address, .. } => address.clone(),
    }
}

async fn watch(app: Arc<App>, check: HealthCheck, name: String, stop: CancellationToken) {
    let client = reqwest::Client::new();
    let mut failures = 0_u32;
    loop {
        match look(&app, &check, &client).await {
            Ok(()) => {
                failures = 0;
                app.health.set(&name, None);
            }
            Err(reason) => {
                failures = failures.saturating_add(1);
                let message = match check.probe {
                    Probe::Storage => "storage health check failed",
                    _ => "health check failed",
                };
                app.logger.error(
                    message,
                    vec![("check", name.clone().into()), ("error", reason.clone().into())],
                );
                if failures >= check.threshold {
                    app.health.set(&name, Some(reason));
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = crate::sys::task::sleep(check.interval) => {}
        }
    }
}

async fn look(app: &App, check: &HealthCheck, client: &reqwest::Client) -> Result<(), String> {
    match &check.probe {
        Probe::Storage => {
            // A disk that hangs is no better than one that fails.
            let patience = check.interval.max(MINIMUM_PATIENCE);
            let outcome = crate::sys::task::timeout(patience, app.check_storage()).await;
            outcome
                .map_err(|_| "the storage does not answer".to_owned())?
                .map_err(|error| error.to_string())
        }
        Probe::Database => match &app.metadata {
            Store::Files(_) => Ok(()),
            Store::Database(postgres) => {
                let patience = check.interval.max(MINIMUM_PATIENCE);
                let outcome = crate::sys::task::timeout(patience, postgres.database().ping()).await;
                outcome
                    .map_err(|_| "the metadata database does not answer".to_owned())?
                    .map_err(|error| error.in_full())
            }
        },
        // Its presence is the signal, as in distribution.
        Probe::File(path) if path.exists() => Err(format!("{path} exists")),
        Probe::File(_) => Ok(()),
        Probe::Http {
            uri,
            headers,
            status,
            timeout,
        } => {
            let mut request = client.head(uri).timeout(*timeout);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let answer = request.send().await.map_err(|error| error.to_string())?;
            if answer.status().as_u16() == *status {
                Ok(())
            } else {
                Err(format!("{uri} answers {} instead of {status}", answer.status()))
            }
        }
        Probe::Tcp { address, timeout } => {
            let connecting = crate::sys::task::timeout(*timeout, tokio::net::TcpStream::connect(address));
            match connecting.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("does not answer".to_owned()),
            }
        }
    }
}

/// Answers on the debug listener.
pub fn answer(app: &App, request: &Request<Incoming>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/debug/health") => {
            let failing = app.health.failing();
            let status = if failing.is_empty() {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            respond::json(status, &json!(failing))
        }
        (&Method::GET, "/debug/vars") => {
            let endpoints = app.notifier.counters();
            respond::json(
                StatusCode::OK,
                &json!({"registry": {"notifications": {"endpoints": endpoints}}}),
            )
        }
        (&Method::GET, path) if app.config.http.metrics.as_deref() == Some(path) => {
            respond::bytes(StatusCode::OK, super::metrics::MEDIA_TYPE, app.metrics.encode())
        }
        _ => respond::text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}
