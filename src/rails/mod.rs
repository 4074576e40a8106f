//! The Rails stand-in: the few endpoints of KhulnaSoft's Rails application
//! that a container registry needs.
//!
//! * `/jwt/auth`: tokens for the registry ([`jwt_auth`]).
//! * `/api/v4/container_registry_event/events`: the registry's events ([`events`]).
//! * `/` and `/<project>/container_registry`: repositories and tags ([`pages`]).
//!
//! It reads the same `khulnasoft.yml` as Rails, and knows users and personal
//! access tokens from a file of its own ([`identity`]).

pub mod config;
pub mod events;
pub mod identity;
pub mod jwt_auth;
mod logins;
pub mod pages;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::serve::access::Entry;
use crate::serve::log::{Format, Level};
use crate::serve::{Body, Listener, Logger, Peer, TrustedProxies, log, tls};
use config::{Config, ConfigError};
use identity::{Caller, Identity};
use jwt_auth::TokenService;
use logins::{Logins, Refusal};

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key that signs tokens cannot be used.
    #[error(transparent)]
    Key(#[from] jwt_auth::KeyError),
    /// The server's certificate cannot be used, or its address not listened on.
    #[error("{0}")]
    Listen(#[from] std::io::Error),
}

/// What requests share.
pub struct App {
    config: Config,
    identity: Identity,
    logins: Logins,
    /// Those who are believed from where a client came: the registry beside it.
    proxies: TrustedProxies,
    tokens: Option<TokenService>,
    logger: Logger,
}

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
    let fixed = BTreeMap::from([("instance_id".to_owned(), Value::from(log::instance_id()))]);
    let logger = Logger::new(Level::Info, Format::Json, fixed);
    let tokens = config.registry.as_ref().map(TokenService::new).transpose()?;
    let acceptor = match &config.tls {
        None => None,
        Some((certificate, key)) => Some(tls::Tls::new(
            tls::Settings::new(certificate.clone(), key.clone()),
            logger.clone(),
        )?),
    };
    let listener = Listener::tcp(&config.listen).await?;
    logger.info(
        &format!(
            "listening on {listener}{}",
            if acceptor.is_some() { ", tls" } else { "" }
        ),
        vec![("url", config.url.as_str().into())],
    );
    let app = Arc::new(App {
        identity: Identity::new(&config.identity),
        logins: Logins::default(),
        proxies: TrustedProxies::beside(listener.address()),
        tokens,
        config,
        logger,
    });
    let stop = CancellationToken::new();
    let handler = {
        let app = Arc::clone(&app);
        move |request, peer| handle(Arc::clone(&app), request, peer)
    };
    let serving = crate::serve::run(listener, acceptor, false, handler, stop.clone(), Duration::from_secs(5));
    tokio::pin!(serving);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = &mut serving => return Ok(()),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    serving.await;
    app.logger.info("graceful shutdown successful", Vec::new());
    Ok(())
}

async fn handle(app: Arc<App>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let entry = Entry::begin(&request, &peer, &log::instance_id(), &app.logger);
    let head = request.method() == Method::HEAD;
    let Ok(mut response) = answer(&app, request, &peer).await;
    if head {
        *response.body_mut() = Body::empty();
    }
    entry.finish(&response);
    response
}

async fn answer(app: &App, request: Request<Incoming>, peer: &Peer) -> Result<Response<Body>, Infallible> {
    let full = request.uri().path().to_owned();
    let root = app.config.relative_url_root.as_str();
    // `/prefix` itself is the front page, as with Rails.
    let Some(path) = full
        .strip_prefix(root)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    else {
        return Ok(error(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            &format!("this server lives under {root}/"),
        ));
    };
    let method = request.method().clone();
    Ok(match (method, path) {
        (Method::GET, "/jwt/auth") => jwt_auth::answer(app, &request, peer).await,
        (Method::POST, "/jwt/auth") => jwt_auth::answer_form(app, request, peer).await,
        (Method::POST, "/api/v4/container_registry_event/events") => events::receive(app, request).await,
        (Method::GET | Method::HEAD, "/-/health" | "/-/liveness" | "/-/readiness") => {
            json(StatusCode::OK, &json!({"status": "ok"}))
        }
        (Method::GET | Method::HEAD, "" | "/") => pages::front(app, &request, peer).await,
        (Method::GET | Method::HEAD, page) => match page
            .strip_suffix("/container_registry")
            .map(|project| project.trim_start_matches('/'))
        {
            Some(project) if !project.is_empty() => {
                pages::project(app, &request, peer, project.trim_end_matches("/-")).await
            }
            _ => error(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing here"),
        },
        _ => error(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing here"),
    })
}

/// Finds out who makes a request, by HTTP Basic.
///
/// # Errors
/// The answer, when credentials were sent and are wrong.
async fn caller(app: &App, request: &Request<Incoming>, peer: &Peer) -> Result<Option<Caller>, Box<Response<Body>>> {
    let Some(header) = request.headers().get(AUTHORIZATION) else {
        return Ok(None);
    };
    let credentials = header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| data_encoding::BASE64.decode(encoded.trim().as_bytes()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((user, password)) = credentials.as_deref().and_then(|text| text.split_once(':')) else {
        return Err(Box::new(denied("the Authorization header is not HTTP Basic")));
    };
    let from = app.proxies.client(request, peer);
    app.login(from, user, password).await.map(Some)
}

impl App {
    /// Checks a name and a password or token.
    ///
    /// # Errors
    /// The answer, when they are wrong, or too many were wrong.
    async fn login(&self, from: Option<IpAddr>, user: &str, password: &str) -> Result<Caller, Box<Response<Body>>> {
        match self.logins.check(&self.identity, from, user, password).await {
            Ok(caller) => Ok(caller),
            Err(Refusal::Wrong) => {
                let from = from.map(|from| from.to_string()).unwrap_or_default();
                self.logger
                    .warn("login refused", vec![("user", user.into()), ("remote_ip", from.into())]);
                Err(Box::new(denied(
                    "HTTP Basic: Access denied. The password must be a personal access token (kdk token create), or the user's own.",
                )))
            }
            Err(Refusal::TooMany { seconds }) => {
                let mut response = error(
                    StatusCode::TOO_MANY_REQUESTS,
                    "TOOMANYREQUESTS",
                    &format!("too many logins; try again in {seconds} s"),
                );
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
                Err(Box::new(response))
            }
            Err(Refusal::Failed(reason)) => {
                self.logger
                    .error("cannot read users and tokens", vec![("error", reason.into())]);
                Err(Box::new(error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "UNKNOWN",
                    "users and tokens cannot be read: see the log",
                )))
            }
        }
    }
}

fn denied(message: &str) -> Response<Body> {
    let mut response = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
    response.headers_mut().insert(
        WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"KhulnaSoft\", charset=\"UTF-8\""),
    );
    response
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    json(status, &json!({"errors": [{"code": code, "message": message}]}))
}

fn json(status: StatusCode, body: &Value) -> Response<Body> {
    typed(status, "application/json", body.to_string())
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
        .headers_mut()
        .insert("cache-control", HeaderValue::from_static("no-store"));
    response
}
