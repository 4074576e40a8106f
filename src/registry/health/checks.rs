//! The checks, each again and again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::probes;
use super::status::Health;
use crate::registry::config::{HealthCheck, Probe};
use crate::sys::task;

/// How long a check of the storage or the database may take at least.
const MINIMUM_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks at something of the server's own.
pub type ProbeOf = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What checks need.
#[derive(Clone)]
pub struct Checks {
    /// Where it is noted what is wrong.
    pub health: Arc<Health>,
    /// Looks at the storage.
    pub storage: ProbeOf,
    /// Looks at the database, where there is one.
    pub database: Option<ProbeOf>,
}

/// Goes on with a check until `stop`.
pub fn watch(checks: Checks, check: HealthCheck, stop: CancellationToken) -> impl Future<Output = ()> + Send {
    let name = name(&check.probe);
    let (what, message) = match check.probe {
        Probe::Storage => ("storage health check".to_owned(), "storage health check failed"),
        Probe::Database => ("database health check".to_owned(), "health check failed"),
        _ => (format!("health check {name}"), "health check failed"),
    };
    tracing::info!(
        interval_s = check.interval.as_secs(),
        threshold = check.threshold,
        "configuring {what}"
    );
    again_and_again(checks, check, name, message, stop)
}

async fn again_and_again(
    checks: Checks,
    check: HealthCheck,
    name: String,
    message: &'static str,
    stop: CancellationToken,
) {
    let client = match probes::client(&check.probe) {
        Ok(client) => client,
        Err(error) => {
            let reason = error.to_string();
            checks.health.set(&name, Some(reason.clone()));
            return tracing::error!(check = %name, error = %reason, "{message}");
        }
    };
    let mut failures = 0_u32;
    loop {
        match look(&checks, &check, &client).await {
            Ok(()) => {
                failures = 0;
                checks.health.set(&name, None);
            }
            Err(reason) => {
                failures = failures.saturating_add(1);
                tracing::error!(check = %name.clone(), error = %reason.clone(), "{message}");
                if failures >= check.threshold {
                    checks.health.set(&name, Some(reason));
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = task::sleep(check.interval) => {}
        }
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

async fn look(checks: &Checks, check: &HealthCheck, client: &reqwest::Client) -> Result<(), String> {
    let (what, own) = match check.probe {
        Probe::Storage => ("storage", Some(&checks.storage)),
        Probe::Database => ("metadata database", checks.database.as_ref()),
        _ => return probes::probe(&check.probe, client).await,
    };
    let Some(own) = own else { return Ok(()) };
    // What hangs is no better than what fails.
    let limit = check.interval.max(MINIMUM_TIMEOUT);
    task::timeout(limit, own())
        .await
        .map_err(|_| format!("the {what} does not answer"))?
}
