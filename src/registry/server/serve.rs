//! The verb `serve`: a server, and the signals that end it.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::error::StartError;
use super::open::Registry;
use super::run::Changed;
use crate::registry::config::{ConfigError, Source};
use crate::serve::until_signal;

/// Why a server did not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system refused something basic.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// Serves until SIGTERM or SIGINT. A second signal ends it at once.
///
/// # Errors
/// When the configuration cannot be used or the server cannot start.
pub fn serve(source: &Source) -> Result<(), ServeError> {
    let config = source.load()?;
    crate::sys::process::never_block_on_output();
    crate::sys::process::hold_little_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let stop = CancellationToken::new();
        // Whoever sends it means no harm.
        let _ignored = signal(SignalKind::user_defined1())?;
        let hangup = Hangup(signal(SignalKind::hangup())?);
        let serving = async {
            let registry = Registry::open(config).await?;
            registry.run(source.clone(), hangup, stop.clone()).await;
            Ok(())
        };
        until_signal(&stop, Box::pin(serving)).await?.unwrap_or(Ok(()))
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// SIGHUP, by which whoever changed the configuration says so.
struct Hangup(Signal);

impl Changed for Hangup {
    async fn wait(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
