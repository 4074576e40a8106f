//! What happens to a request, from its beginning to its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, WARNING};
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::metrics::gauge::Gauge;
use tracing::Instrument as _;

use super::authorize::{allow, allowed, required_scopes};
use super::context::Context;
use super::error::{ApiError, in_full};
use super::handlers::{ROUTES, VERSION_CHECK};
use super::respond;
use super::row::{Row, When};
use super::shared::{Shared, TOKENS};
use crate::registry::auth::{Actor, Asked};
use crate::registry::health::Health;
use crate::registry::oci::ErrorCode;
use crate::registry::version::VERSION;
use crate::serve::access::{About, Entry};
use crate::serve::route::{Found, Route};
use crate::serve::{Body, Peer};
use crate::sys::clock::monotonic;

/// Answers a request, whatever happens, and logs it.
pub async fn handle(shared: Arc<Shared>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let about = About::of(&request, &peer, &shared.config.http.trusted_proxies);
    let span = about.span();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let tasks = shared.tasks.clone();
    let serving = serve_request(shared, request, peer, about);
    // A panic is logged where it happens; it must cost nobody a connection.
    let serving = AssertUnwindSafe(serving.instrument(span)).catch_unwind();
    let answer = if is_read {
        serving.await.ok()
    } else {
        // What changes something is carried through, also when its client goes
        // away in the middle: half a change helps nobody.
        tasks.spawn(serving).await.ok().and_then(Result::ok)
    };
    answer.unwrap_or_else(|| ApiError::new(ErrorCode::Unknown).into_response())
}

/// A request under way, also when it is given up.
struct InFlight<'a>(&'a Gauge);

impl<'a> InFlight<'a> {
    fn begin(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn serve_request(shared: Arc<Shared>, request: Request<Incoming>, peer: Peer, about: About) -> Response<Body> {
    let entry = shared.config.log.access.then(|| Entry::begin(&about));
    let began = monotonic();
    let method = request.method().clone();
    let http = &shared.config.http;
    let path = request.uri().path();
    let path = path.strip_prefix(http.prefix.as_str()).filter(|_| path != http.prefix);
    let is_api = path.is_some_and(|path| path.starts_with("/v2"));
    let tokens = shared.forward.as_ref().filter(|_| path == Some(TOKENS));
    // Whether the process lives may be asked without a prefix, too.
    let is_root = path == Some("/") || path.is_none() && request.uri().path() == "/";
    let found = path.map_or(Found::Nothing, |path| ROUTES.find(path));
    let label = match &found {
        _ if tokens.is_some() => TOKENS,
        _ if is_root => "/",
        Found::Resource(route, _) => route.template(),
        Found::Moved(_) | Found::Nothing => "",
    };
    let in_flight = InFlight::begin(&shared.metrics.in_flight);
    let mut response = if let Some(forward) = tokens {
        forward.answer(request, &peer, &http.trusted_proxies).await
    } else if is_root {
        respond::empty(StatusCode::OK, &[("cache-control", "no-cache")])
    } else {
        let answered = answer(Arc::clone(&shared), found, request, peer, about).await;
        answered.unwrap_or_else(|mut error| {
            if let Some(cause) = error.take_cause() {
                let cause = in_full(&*cause);
                tracing::error!(error = %cause, route = label, "request failed");
                if let Some(trouble) = error.trouble() {
                    shared.health.note(trouble, cause);
                }
            }
            error.into_response()
        })
    };
    drop(in_flight);
    if http.metrics.is_some() {
        let status = response.status().as_u16();
        shared.metrics.answered(label, method.as_str(), status, began.elapsed());
    }
    if label == VERSION_CHECK {
        warn(&mut response, &shared.health);
    }
    if is_api {
        set_headers(&mut response, &http.headers);
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    if let Some(entry) = entry {
        entry.finish(&response);
    }
    response
}

/// Says what is wrong with the registry, as clients may show it to their user
/// (OCI distribution-spec 1.1, "Warnings").
fn warn(response: &mut Response<Body>, health: &Health) {
    for (trouble, _) in health.troubles() {
        if let Ok(value) = HeaderValue::try_from(format!("299 - \"{}\"", trouble.words())) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// Sets the headers that all answers of the API have.
fn set_headers(response: &mut Response<Body>, configured: &[(String, String)]) {
    let headers = response.headers_mut();
    headers.insert(
        "docker-distribution-api-version",
        HeaderValue::from_static("registry/2.0"),
    );
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    for (name, _) in configured {
        headers.remove(name);
    }
    for (name, value) in configured {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    found: Found<'static, Row>,
    request: Request<Incoming>,
    peer: Peer,
    about: About,
) -> Result<Response<Body>, ApiError> {
    if !shared.health.is_healthy() {
        return Err(ApiError::new(ErrorCode::Unavailable).detail("health check failed: see the registry's log"));
    }
    let (route, params) = match found {
        Found::Resource(route, params) => (route, params),
        Found::Moved(path) => return Ok(moved(&shared, &request, &path)),
        Found::Nothing => return Ok(not_found(&request)),
    };
    let needs_database = route.methods().any(|(_, row)| row.when == When::Database);
    if needs_database && !shared.metadata.is_database() {
        return Ok(not_found(&request));
    }
    let method = request.method().clone();
    let row = route.method(&method);
    if row.is_none() && method != Method::OPTIONS {
        let mut response = respond::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        allow(&mut response, &allowed(&shared, route));
        return Ok(response);
    }
    let mut context = Context {
        shared: Arc::clone(&shared),
        request,
        actor: Actor::default(),
        about,
        peer,
    };
    let needed = row.map_or_else(Vec::new, |row| required_scopes(row, &params, &context));
    let asked = Asked {
        authorization: context.header(AUTHORIZATION),
        host: context.host(),
    };
    let actor = shared.authorizer.check(asked, &needed).await;
    context.actor = actor.map_err(|challenge| context.challenge(challenge))?;
    context.about.set_user(&context.actor.name);
    let Some(row) = row else {
        let mut response = respond::empty(StatusCode::OK, &[]);
        allow(&mut response, &allowed(&shared, route));
        return Ok(response);
    };
    let _change;
    if !matches!(method, Method::GET | Method::HEAD) {
        // Whoever comes when changes are refused waits for nobody.
        check_changes(&shared, route, row)?;
        _change = shared.changes.read().await;
        check_changes(&shared, route, row)?;
    }
    let mut response = (row.run)(context, params).await?;
    if needs_database {
        respond::set(&mut response, &[("gitlab-container-registry-version", VERSION)]);
    }
    Ok(response)
}

/// Checks that something may be changed now.
fn check_changes(shared: &Shared, route: &Route<Row>, row: &Row) -> Result<(), ApiError> {
    let refused = || {
        let methods = allowed(shared, route).join(", ");
        ApiError::new(ErrorCode::Unsupported).header("allow", methods)
    };
    if shared.is_readonly() {
        return Err(refused().detail("the registry is in read-only maintenance"));
    }
    if row.when == When::Deletion && !shared.config.storage.delete {
        return Err(refused());
    }
    Ok(())
}

/// Answers a path that is no resource.
fn not_found(request: &Request<Incoming>) -> Response<Body> {
    // Rails asks whether this is GitLab's registry with a database.
    if request.uri().path().starts_with("/gitlab/v1/") {
        return respond::empty(StatusCode::NOT_FOUND, &[("gitlab-container-registry-version", VERSION)]);
    }
    respond::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Answers a path with a slash too many, or one too few.
fn moved(shared: &Shared, request: &Request<Incoming>, path: &str) -> Response<Body> {
    let path = format!("{}{path}", shared.config.http.prefix);
    let query = request.uri().query();
    let location = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    respond::empty(StatusCode::MOVED_PERMANENTLY, &[("location", &location)])
}
