//! The verbs of the registry binary: what `registry serve config.yml` does.

use std::time::Duration;

use camino::Utf8Path;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::config::{Config, ConfigError};
use super::{Registry, StartError};

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system refused something basic.
    #[error("cannot start the server: {0}")]
    System(#[from] std::io::Error),
}

/// Serves until SIGTERM or SIGINT. A second signal ends it at once.
///
/// # Errors
/// When the configuration cannot be used or the server cannot start.
pub fn serve(path: &Utf8Path) -> Result<(), CommandError> {
    let config = Config::load(path, &crate::sys::env::all())?;
    crate::sys::process::never_block_on_output();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let registry = Registry::open(config).await?;
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = registry.run(stop.clone());
        tokio::pin!(running);
        tokio::select! {
            () = &mut running => return Ok(()),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
        tokio::select! {
            () = &mut running => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}
