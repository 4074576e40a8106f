//! Serving.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::app::App;
use super::config::Config;
use super::error::StartError;
use super::identity::Identity;
use super::jwt_auth::TokenService;
use super::logins::Logins;
use super::service;
use crate::serve::log::{Format, Level};
use crate::serve::{Listener, TrustedProxies, id, log, tls, until_signal};

/// How long requests under way may take at a stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `khulnasoft.yml` until SIGTERM or SIGINT. `own` holds what the
/// stand-in needs beside it.
///
/// # Errors
/// When the configuration cannot be used or the server cannot start.
pub fn serve(path: &Utf8Path, own: &Utf8Path) -> Result<(), StartError> {
    let config = Config::load(path, own)?;
    crate::sys::process::never_block_on_output();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run(config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn run(config: Config) -> Result<(), StartError> {
    let fixed = BTreeMap::from([("instance_id".to_owned(), Value::from(id::own()))]);
    log::init(Level::Info, Format::Json, fixed);
    let tokens = config.registry.as_ref().map(TokenService::new).transpose()?;
    let acceptor = match &config.tls {
        None => None,
        Some((certificate, key)) => Some(tls::Tls::new(tls::Settings::new(certificate.clone(), key.clone()))?),
    };
    let listener = Listener::tcp(&config.listen).await?;
    let suffix = if acceptor.is_some() { ", tls" } else { "" };
    tracing::info!(url = %config.url, "listening on {listener}{suffix}");
    let app = Arc::new(App {
        identity: Identity::new(&config.identity),
        logins: Logins::default(),
        proxies: TrustedProxies::beside(listener.address()),
        tokens,
        config,
    });
    let stop = CancellationToken::new();
    let handler = move |request, peer| service::handle(Arc::clone(&app), request, peer);
    let serving = crate::serve::run(listener, acceptor, false, handler, stop.clone(), DRAIN_TIMEOUT);
    until_signal(&stop, serving).await?;
    tracing::info!("graceful shutdown successful");
    Ok(())
}
