//! A front for another registry than the built-in one: one address for it and
//! for the token service, with TLS, since current clients take no other.
//!
//! The registry behind it listens on loopback. The front streams requests and
//! answers, says how clients came, answers `/jwt/auth` by asking the token
//! service, and sends clients to itself for tokens.

pub mod config;
mod proxy;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::serve::forward::ForwardError;
use crate::serve::log::{Format, Level};
use crate::serve::{Forward, Listener, id, log, tls, until_signal};
use config::{Config, ConfigError};
use proxy::Front;

/// How long requests under way may take at a stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the front cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Requests for tokens cannot be sent on.
    #[error("token_service: {0}")]
    Forward(#[from] ForwardError),
    /// The certificate cannot be used, or the address not listened on.
    #[error("{0}")]
    Listen(#[from] io::Error),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the configuration cannot be used or the server cannot start.
pub fn serve(path: &Utf8Path) -> Result<(), StartError> {
    let config = Config::load(path)?;
    crate::sys::process::never_block_on_output();
    crate::sys::process::hold_little_memory();
    // One thread: what passes is only handed on, and handing it from one
    // thread to another costs more than a second one gains.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(run(config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn run(config: Config) -> Result<(), StartError> {
    let fixed = BTreeMap::from([("instance_id".to_owned(), Value::from(id::own()))]);
    log::init(Level::Info, Format::Json, fixed);
    let forward = match &config.token_service {
        None => None,
        Some(service) => Some(Forward::new(
            Forward::target(service)?,
            config.token_service_ca.as_deref(),
            config.tls.is_some(),
        )?),
    };
    let acceptor = match &config.tls {
        None => None,
        Some((certificate, key)) => {
            let settings = tls::Settings {
                http2: true,
                ..tls::Settings::new(certificate.clone(), key.clone())
            };
            Some(tls::Tls::new(settings)?)
        }
    };
    let listener = Listener::tcp(&config.listen).await?;
    if let Some(forward) = &forward {
        forward.check(listener.address())?;
    }
    let suffix = if acceptor.is_some() { ", tls" } else { "" };
    tracing::info!(upstream = %config.upstream, "listening on {listener}{suffix}");
    let front = Arc::new(Front::new(config, forward));
    let stop = CancellationToken::new();
    let handler = move |request, peer| proxy::handle(Arc::clone(&front), request, peer);
    let serving = crate::serve::run(listener, acceptor, false, handler, stop.clone(), DRAIN);
    until_signal(&stop, serving).await?;
    tracing::info!("graceful shutdown successful");
    Ok(())
}
