//! The registry API over HTTP: what happens to a request.

pub mod body;
pub mod handlers;
pub mod respond;

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use tokio_util::task::TaskTracker;

use super::auth::{Actor, Asked, Authorizer, Challenge};
use super::config::Config;
use super::gc::Gate;
use super::health::Health;
use super::metadata::{MetadataError, Store};
use super::metrics::Metrics;
use super::notify::{Event, Notifier};
use super::oci::{ErrorCode, GitlabRoute, RepoName, Route, RouteError};
use super::storage::upload_state::StateSigner;
use super::storage::{Blobs, Storage, StorageError, Uploads};
use super::token::Scope;
use crate::serve::access::Entry;
use crate::serve::{Body, Forward, Logger, Peer};
use crate::sys::clock::monotonic;
use respond::Problem;

/// Where clients ask for tokens, below the prefix. It needs no token, and
/// answers in every state.
const TOKENS: &str = "/jwt/auth";

/// All that requests share.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// The log.
    pub logger: Logger,
    /// The storage.
    pub driver: Storage,
    /// Blobs by digest.
    pub blobs: Blobs,
    /// Uploads under way.
    pub uploads: Uploads,
    /// What belongs to which repository.
    pub metadata: Store,
    /// Receivers of events.
    pub notifier: Notifier,
    /// Where pushes and a garbage collection pass each other.
    pub gate: Gate,
    /// Changes under way.
    pub tasks: TaskTracker,
    /// What the health checks found.
    pub health: Health,
    /// Numbers for Prometheus.
    pub metrics: Metrics,
    /// The token service, where clients reach it through this server.
    pub forward: Option<Forward>,
    authorizer: Authorizer,
    signer: StateSigner,
}

impl App {
    /// Puts the parts together.
    pub fn new(
        config: Config,
        driver: Storage,
        metadata: Store,
        authorizer: Authorizer,
        forward: Option<Forward>,
        secret: &str,
        logger: Logger,
    ) -> Self {
        let metrics = Metrics::default();
        let journals =
            (!config.storage.in_memory).then(|| super::control::directory(&config.storage.root).join("notifications"));
        Self {
            blobs: Blobs::new(driver.clone()),
            uploads: Uploads::new(driver.clone()),
            metadata,
            notifier: Notifier::start(&config.endpoints, journals.as_deref(), &metrics.notifications, &logger),
            gate: Gate::default(),
            tasks: TaskTracker::new(),
            health: Health::default(),
            metrics,
            signer: StateSigner::new(secret),
            forward,
            authorizer,
            driver,
            config,
            logger,
        }
    }

    /// Checks that the storage is there.
    ///
    /// Nothing is written: a full disk must not end pulls and deletions.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn check_storage(&self) -> Result<(), StorageError> {
        self.driver.probe().await
    }
}

/// A request on its way through a handler.
pub struct Context {
    /// What all requests share.
    pub app: Arc<App>,
    /// The request; handlers take the body out.
    pub request: Request<Incoming>,
    /// Who makes it.
    pub actor: Actor,
    /// Its id, on all its log lines.
    pub id: String,
    peer: Peer,
}

impl Context {
    /// Returns a header's text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.request.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the values of a query parameter, decoded.
    pub fn query(&self, name: &str) -> Vec<String> {
        let query = self.request.uri().query().unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .collect()
    }

    /// Returns the first value of a query parameter, decoded.
    pub fn query_one(&self, name: &str) -> Option<String> {
        self.query(name).into_iter().next()
    }

    /// Returns the host that was asked.
    pub fn host(&self) -> Option<&str> {
        // HTTP/2 has it in the URI.
        self.header(HOST)
            .or_else(|| self.request.uri().authority().map(hyper::http::uri::Authority::as_str))
    }

    /// Returns a path as clients write it, below the prefix.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.app.config.http.prefix)
    }

    /// Returns the URL by which this client reaches a path.
    pub fn url(&self, path: &str) -> String {
        let http = &self.app.config.http;
        let path = self.path(path);
        if http.relative_urls {
            return path;
        }
        if let Some(host) = &http.host {
            return format!("{}{path}", host.trim_end_matches('/'));
        }
        let forwarded = |name: &'static str| {
            let text = self.header(HeaderName::from_static(name))?;
            text.split(',').next().map(str::trim).filter(|text| !text.is_empty())
        };
        let scheme = match forwarded("x-forwarded-proto") {
            Some("https") => "https",
            Some("http") => "http",
            _ if self.peer.is_tls() => "https",
            _ => "http",
        };
        match forwarded("x-forwarded-host").or_else(|| self.host()) {
            Some(host) => format!("{scheme}://{host}{path}"),
            None => path,
        }
    }

    /// Turns a refusal into an answer. Where tokens are had from this server,
    /// clients are sent to the address by which they came: many send their
    /// password to no other.
    pub fn challenge(&self, mut challenge: Challenge) -> Problem {
        let http = &self.app.config.http;
        if self.app.forward.is_none() {
            return Problem::challenge(challenge);
        }
        let origin = http.host.as_ref().map(|host| host.trim_end_matches('/').to_owned());
        let origin = origin.or_else(|| http.trusted_proxies.origin(&self.request, &self.peer));
        if let Some(origin) = origin {
            challenge.realm = format!("{origin}{}", self.path(TOKENS));
        }
        Problem::challenge(challenge).header("cache-control", "no-store".to_owned())
    }

    /// Logs a failure of the server and answers without its cause.
    pub fn failed(&self, error: impl Into<MetadataError>) -> Problem {
        let error = error.into();
        let code = match &error {
            MetadataError::Referenced => return Problem::new(ErrorCode::ManifestReferenced),
            MetadataError::Missing(digests) => {
                return digests
                    .iter()
                    .fold(Problem::new(ErrorCode::ManifestBlobUnknown), |problem, digest| {
                        problem.detail(serde_json::json!({"digest": digest.to_string()}))
                    });
            }
            MetadataError::MediaType(name) => {
                return Problem::new(ErrorCode::ManifestInvalid).detail(format!("media type {name:?} cannot be kept"));
            }
            MetadataError::Database(error) if error.is_unavailable() => ErrorCode::Unavailable,
            MetadataError::Collected(_) => ErrorCode::Unavailable,
            MetadataError::Database(_) | MetadataError::Storage(_) | MetadataError::Import(_) => ErrorCode::Unknown,
        };
        let error: &dyn std::error::Error = &error;
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        self.app.logger.error(
            "request failed",
            vec![("correlation_id", self.id.as_str().into()), ("error", text.into())],
        );
        Problem::new(code)
    }

    /// Queues an event about content of a repository.
    pub fn notify(&self, action: &'static str, name: &RepoName, describe: impl FnOnce(&mut Event)) {
        if self.app.notifier.is_idle() {
            return;
        }
        let text = |name| self.header(name).unwrap_or_default().to_owned();
        let mut event = Event {
            action,
            repository: name.to_string(),
            media_type: String::new(),
            digest: String::new(),
            size: None,
            tag: None,
            from_repository: None,
            references: Vec::new(),
            rename: None,
            actor: self.actor.clone(),
            url: String::new(),
            request_id: self.id.clone(),
            request: [
                self.peer.to_string(),
                self.host().unwrap_or_default().to_owned(),
                self.request.method().to_string(),
                text(USER_AGENT),
            ],
        };
        describe(&mut event);
        self.app.notifier.send(&event);
    }
}

/// Answers a request, whatever happens, and logs it.
pub async fn handle(app: Arc<App>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return logged(app, request, peer).await;
    }
    // What changes something is carried through, also when its client goes
    // away in the middle: half a change helps nobody.
    let tasks = app.tasks.clone();
    let logger = app.logger.clone();
    tasks.spawn(logged(app, request, peer)).await.unwrap_or_else(|failure| {
        logger.error("request failed", vec![("error", failure.to_string().into())]);
        Problem::new(ErrorCode::Unknown).into_response()
    })
}

async fn logged(app: Arc<App>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let id = crate::serve::log::request_id();
    let entry = app
        .config
        .log
        .access
        .then(|| Entry::begin(&request, &peer, &id, &app.logger));
    let began = monotonic();
    let method = request.method().clone();
    let prefix = app.config.http.prefix.as_str();
    let path = request.uri().path();
    let path = path.strip_prefix(prefix).filter(|_| path != prefix);
    let api = path.is_some_and(|path| path.starts_with("/v2"));
    let tokens = app.forward.as_ref().filter(|_| path == Some(TOKENS));
    let route = match path {
        // Whether the process lives may be asked without a prefix, too.
        None if request.uri().path() == "/" => Ok(Route::Root),
        None => Err(RouteError::NotFound),
        Some(path) => Route::parse(path),
    };
    let label = match &route {
        _ if tokens.is_some() => TOKENS,
        Ok(route) => route.template(),
        Err(_) => "",
    };
    app.metrics.in_flight.inc();
    let mut response = if let Some(forward) = tokens {
        let proxies = &app.config.http.trusted_proxies;
        forward.answer(request, &peer, proxies, &app.logger, &id).await
    } else {
        answer(Arc::clone(&app), route, request, peer, id)
            .await
            .unwrap_or_else(Problem::into_response)
    };
    app.metrics.in_flight.dec();
    if app.config.http.metrics.is_some() {
        app.metrics
            .answered(label, method.as_str(), response.status().as_u16(), began.elapsed());
    }
    if api {
        let headers = response.headers_mut();
        headers.insert(
            "docker-distribution-api-version",
            HeaderValue::from_static("registry/2.0"),
        );
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        for (name, _) in &app.config.http.headers {
            headers.remove(name);
        }
        for (name, value) in &app.config.http.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.append(name, value);
            }
        }
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    if let Some(entry) = entry {
        entry.finish(&response);
    }
    response
}

async fn answer(
    app: Arc<App>,
    route: Result<Route, RouteError>,
    request: Request<Incoming>,
    peer: Peer,
    id: String,
) -> Result<Response<Body>, Problem> {
    if !app.health.is_well() && route != Ok(Route::Root) {
        return Err(Problem::new(ErrorCode::Unavailable).detail("health check failed: see the registry's log"));
    }
    let route = match route {
        Ok(route) => route,
        Err(error) => return lost(&app, &request, error),
    };
    // Rails asks whether this is GitLab's registry with a database.
    if matches!(route, Route::Gitlab(_)) && !app.metadata.is_database() {
        return lost(&app, &request, RouteError::NotFound);
    }
    if route == Route::Root {
        return Ok(respond::empty(StatusCode::OK, &[("cache-control", "no-cache")]));
    }
    let method = request.method().clone();
    if !route.methods().contains(&method.as_str()) {
        let mut response = respond::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        allow(&mut response, &allowed(&app, &route));
        return Ok(response);
    }
    let mut context = Context {
        app: Arc::clone(&app),
        request,
        actor: Actor::default(),
        id,
        peer,
    };
    let needed = needed_scopes(&route, &context);
    let asked = Asked {
        authorization: context.header(AUTHORIZATION),
        host: context.host(),
    };
    let actor = app.authorizer.check(asked, &needed, &app.logger).await;
    context.actor = actor.map_err(|challenge| context.challenge(challenge))?;
    if method == Method::OPTIONS {
        let mut response = respond::empty(StatusCode::OK, &[]);
        allow(&mut response, &allowed(&app, &route));
        return Ok(response);
    }
    if app.config.storage.readonly && !matches!(method, Method::GET | Method::HEAD) {
        return Err(Problem::new(ErrorCode::Unsupported)
            .detail("the registry is in read-only maintenance")
            .header("allow", allowed(&app, &route).join(", ")));
    }
    handlers::dispatch(route, context).await
}

/// Answers a path that is no resource.
fn lost(app: &App, request: &Request<Incoming>, error: RouteError) -> Result<Response<Body>, Problem> {
    match error {
        // Rails asks whether this is GitLab's registry with a database.
        RouteError::NotFound if request.uri().path().starts_with("/gitlab/v1/") => Ok(respond::empty(
            StatusCode::NOT_FOUND,
            &[("gitlab-container-registry-version", super::VERSION)],
        )),
        RouteError::NotFound => Ok(respond::text(StatusCode::NOT_FOUND, "404 page not found\n")),
        RouteError::Moved(path) => {
            let path = format!("{}{path}", app.config.http.prefix);
            let location = request
                .uri()
                .query()
                .map_or(path.clone(), |query| format!("{path}?{query}"));
            Ok(respond::empty(
                StatusCode::MOVED_PERMANENTLY,
                &[("location", &location)],
            ))
        }
        RouteError::Digest(reason) => Err(Problem::new(ErrorCode::DigestInvalid).detail(reason.to_string())),
        RouteError::Reference(reason) => {
            let code = match reason {
                super::oci::reference::ReferenceError::Digest(_) => ErrorCode::DigestInvalid,
                super::oci::reference::ReferenceError::Tag(_) => ErrorCode::TagInvalid,
            };
            Err(Problem::new(code).detail(reason.to_string()))
        }
    }
}

fn allowed(app: &App, route: &Route) -> Vec<&'static str> {
    let deletable = app.config.storage.delete;
    let content = matches!(route, Route::Manifest(..) | Route::Blob(..));
    route
        .methods()
        .iter()
        .copied()
        .filter(|method| matches!(*method, "GET" | "HEAD" | "OPTIONS") || !app.config.storage.readonly)
        .filter(|method| *method != "DELETE" || !content || deletable)
        .collect()
}

fn allow(response: &mut Response<Body>, methods: &[&str]) {
    if let Ok(value) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(hyper::header::ALLOW, value);
    }
}

/// Returns what a request takes (distribution, "Requesting a Token").
fn needed_scopes(route: &Route, context: &Context) -> Vec<Scope> {
    let method = context.request.method();
    if method == Method::OPTIONS {
        return Vec::new();
    }
    let below = match route {
        Route::Gitlab(GitlabRoute::Statistics) => {
            return vec![Scope {
                kind: "registry".to_owned(),
                name: "statistics".to_owned(),
                ..Scope::catalog()
            }];
        }
        Route::Gitlab(GitlabRoute::Below(_)) => true,
        Route::Gitlab(GitlabRoute::Repository(_)) => {
            method == Method::PATCH || context.query_one("size").as_deref() == Some("self_with_descendants")
        }
        _ => false,
    };
    let Some(name) = route.repository() else {
        return if *route == Route::Catalog {
            vec![Scope::catalog()]
        } else {
            Vec::new()
        };
    };
    let actions: &[&str] = match (route, method) {
        (Route::Upload(..), &Method::DELETE) => &["push"],
        (_, &Method::GET | &Method::HEAD) => &["pull"],
        (_, &Method::DELETE) => &["delete"],
        _ => &["pull", "push"],
    };
    let mut scopes = vec![Scope::repository(name.as_str(), actions)];
    if below {
        scopes.push(Scope::repository(&format!("{name}/*"), &["pull"]));
    }
    if matches!(route, Route::Uploads(_))
        && context.query_one("mount").is_some()
        && let Some(from) = context
            .query_one("from")
            .filter(|from| from != name.as_str() && from.parse::<RepoName>().is_ok())
    {
        scopes.push(Scope::repository(&from, &["pull"]));
    }
    scopes
}
