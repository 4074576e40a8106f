//! What happens to a request, from its beginning to its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, WARNING};
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::metrics::gauge::Gauge;
use tracing::Instrument as _;

use super::authorize::{allow, allowed, required_scopes};
use super::body::RequestBody;
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
use crate::serve::route::{Found, Params, Route};
use crate::serve::{Body, Peer};
use crate::sys::clock::monotonic;

/// Answers a request, whatever happens, and logs it.
pub async fn handle(shared: Arc<Shared>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let about = About::of(&request, &peer, &shared.config.http.trusted_proxies);
    let span = about.span();
    let serving = serve_request(shared, request, peer, about);
    // A panic is logged where it happens; it must cost nobody a connection.
    let answer = AssertUnwindSafe(serving.instrument(span)).catch_unwind().await;
    answer.unwrap_or_else(|_| ApiError::new(ErrorCode::Unknown).into_response())
}

/// A request under way, also when it is given up.
struct InFlight(Gauge);

impl InFlight {
    fn begin(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is done with an answer, whoever waits for it.
struct Exchange {
    shared: Arc<Shared>,
    entry: Option<Entry>,
    began: Instant,
    method: Method,
    label: &'static str,
    is_api: bool,
    in_flight: InFlight,
}

impl Exchange {
    /// Completes an answer, and writes down that it was given.
    fn end(self, answer: Result<Response<Body>, ApiError>) -> Response<Body> {
        let Self {
            shared,
            entry,
            began,
            method,
            label,
            is_api,
            in_flight,
        } = self;
        let mut response = answer.unwrap_or_else(|mut error| {
            if let Some(cause) = error.take_cause() {
                let cause = in_full(&*cause);
                tracing::error!(error = %cause, route = label, "request failed");
                if let Some(trouble) = error.trouble() {
                    shared.health.note(trouble, cause);
                }
            }
            error.into_response()
        });
        drop(in_flight);
        let http = &shared.config.http;
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
}

async fn serve_request(shared: Arc<Shared>, request: Request<Incoming>, peer: Peer, about: About) -> Response<Body> {
    let http = &shared.config.http;
    let path = request.uri().path();
    let path = path.strip_prefix(http.prefix.as_str()).filter(|_| path != http.prefix);
    let tokens = shared.forward.as_ref().filter(|_| path == Some(TOKENS));
    // Whether the process lives may be asked without a prefix, too.
    let is_root = path == Some("/") || path.is_none() && request.uri().path() == "/";
    let found = path.map_or(Found::Nothing, |path| ROUTES.find(path));
    let exchange = Exchange {
        entry: shared.config.log.access.then(|| Entry::begin(&about)),
        began: monotonic(),
        method: request.method().clone(),
        label: match &found {
            _ if tokens.is_some() => TOKENS,
            _ if is_root => "/",
            Found::Resource(route, _) => route.template(),
            Found::Moved(_) | Found::Nothing => "",
        },
        is_api: path.is_some_and(|path| path.starts_with("/v2")),
        in_flight: InFlight::begin(&shared.metrics.in_flight),
        shared: Arc::clone(&shared),
    };
    if let Some(forward) = tokens {
        let answer = forward.answer(request, &peer, &http.trusted_proxies).await;
        return exchange.end(Ok(answer));
    }
    if is_root {
        return exchange.end(Ok(respond::empty(StatusCode::OK, &[("cache-control", "no-cache")])));
    }
    let (head, body) = request.into_parts();
    let body = RequestBody::new(body, &head.headers);
    let request = Request::from_parts(head, body);
    let call = match begin(Arc::clone(&shared), found, request, peer, about).await {
        Ok(Begun::Call(call)) => call,
        Ok(Begun::Answered(answer)) => return exchange.end(Ok(answer)),
        Err(error) => return exchange.end(Err(error)),
    };
    if matches!(exchange.method, Method::GET | Method::HEAD) {
        return exchange.end(call.guarded().await);
    }
    // What changes something is carried through, also when its client goes
    // away in the middle: half a change helps nobody.
    let changing = async move { exchange.end(call.guarded().await) };
    let answer = shared.tasks.spawn(changing.in_current_span()).await;
    answer.unwrap_or_else(|_| ApiError::new(ErrorCode::Unknown).into_response())
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

/// A request whose sender may make it.
struct Call {
    context: Context,
    params: Params,
    route: &'static Route<Row>,
    row: &'static Row,
}

enum Begun {
    Call(Box<Call>),
    Answered(Response<Body>),
}

/// Finds what a request asks for, and checks who asks.
async fn begin(
    shared: Arc<Shared>,
    found: Found<'static, Row>,
    request: Request<RequestBody>,
    peer: Peer,
    about: About,
) -> Result<Begun, ApiError> {
    if !shared.health.is_healthy() {
        return Err(ApiError::new(ErrorCode::Unavailable).detail("health check failed: see the registry's log"));
    }
    let (route, params) = match found {
        Found::Resource(route, params) => (route, params),
        Found::Moved(path) => return Ok(Begun::Answered(moved(&shared, &request, &path))),
        Found::Nothing => return Ok(Begun::Answered(not_found(&request))),
    };
    if needs_database(route) && !shared.metadata.is_database() {
        return Ok(Begun::Answered(not_found(&request)));
    }
    let method = request.method().clone();
    let row = route.method(&method);
    if row.is_none() && method != Method::OPTIONS {
        let mut response = respond::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        allow(&mut response, &allowed(&shared, route));
        return Ok(Begun::Answered(response));
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
    context.actor = actor.map_err(|refusal| context.refused(refusal))?;
    context.about.set_user(&context.actor.name);
    let Some(row) = row else {
        let mut response = respond::empty(StatusCode::OK, &[]);
        allow(&mut response, &allowed(&shared, route));
        return Ok(Begun::Answered(response));
    };
    Ok(Begun::Call(Box::new(Call {
        context,
        params,
        route,
        row,
    })))
}

impl Call {
    /// Answers, also when that panics: it is logged where it happens, and must
    /// cost nobody a connection.
    async fn guarded(self: Box<Self>) -> Result<Response<Body>, ApiError> {
        let answer = AssertUnwindSafe(self.answer()).catch_unwind().await;
        answer.unwrap_or_else(|_| Err(ApiError::new(ErrorCode::Unknown)))
    }

    async fn answer(self: Box<Self>) -> Result<Response<Body>, ApiError> {
        let (route, row) = (self.route, self.row);
        let shared = Arc::clone(&self.context.shared);
        let _change;
        if !matches!(*self.context.request.method(), Method::GET | Method::HEAD) {
            // Whoever comes when changes are refused waits for nobody.
            check_changes(&shared, route, row)?;
            _change = shared.changes.read().await;
            check_changes(&shared, route, row)?;
        }
        crate::sys::failpoint::pass("http:answer");
        let mut response = (row.run)(self.context, self.params).await?;
        if needs_database(route) {
            respond::set(&mut response, &[("gitlab-container-registry-version", VERSION)]);
        }
        Ok(response)
    }
}

fn needs_database(route: &Route<Row>) -> bool {
    route.methods().any(|(_, row)| row.when == When::Database)
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
fn not_found(request: &Request<RequestBody>) -> Response<Body> {
    // Rails asks whether this is GitLab's registry with a database.
    if request.uri().path().starts_with("/gitlab/v1/") {
        return respond::empty(StatusCode::NOT_FOUND, &[("gitlab-container-registry-version", VERSION)]);
    }
    respond::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Answers a path with a slash too many, or one too few.
fn moved(shared: &Shared, request: &Request<RequestBody>, path: &str) -> Response<Body> {
    let path = format!("{}{path}", shared.config.http.prefix);
    let query = request.uri().query();
    let location = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    respond::empty(StatusCode::MOVED_PERMANENTLY, &[("location", &location)])
}
