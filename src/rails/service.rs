//! One request from its beginning to its end, and the routes.

use std::sync::{Arc, LazyLock};

use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tracing::Instrument as _;

use super::app::App;
use super::respond::{error, json};
use super::{events, jwt_auth, pages};
use crate::registry::oci::RepoName;
use crate::serve::access::{About, Entry};
use crate::serve::route::{Found, Params, Table, route};
use crate::serve::{Body, Peer};

/// Does what a request asks for.
type Run = for<'a> fn(&'a App, Request<Incoming>, &'a Peer, Params) -> BoxFuture<'a, Response<Body>>;

/// The route table.
static ROUTES: LazyLock<Table<Run>> = LazyLock::new(|| {
    let get = |run: Run| (Method::GET, run);
    let post = |run: Run| (Method::POST, run);
    let healthy: Run = |_, _, _, _| Box::pin(async { json(StatusCode::OK, &json!({"status": "ok"})) });
    Table::new(
        |path| path.trim_end_matches("/-").parse::<RepoName>().is_ok(),
        [
            route(
                "/jwt/auth",
                [
                    get(|app, request, peer, _| Box::pin(async move { jwt_auth::answer(app, &request, peer).await })),
                    post(|app, request, peer, _| Box::pin(jwt_auth::answer_form(app, request, peer))),
                ],
            ),
            route(
                "/api/v4/container_registry_event/events",
                [post(|app, request, _, _| Box::pin(events::receive(app, request)))],
            ),
            route("/-/health", [get(healthy)]),
            route("/-/liveness", [get(healthy)]),
            route("/-/readiness", [get(healthy)]),
            route(
                "/",
                [get(|app, request, peer, _| {
                    Box::pin(async move { pages::front(app, &request, peer).await })
                })],
            ),
            route(
                "/{path}/container_registry",
                [get(|app, request, peer, params| {
                    Box::pin(async move {
                        let project = params.get("path").trim_end_matches("/-");
                        pages::project(app, &request, peer, project).await
                    })
                })],
            ),
        ],
    )
});

/// Answers a request, whatever happens, and logs it.
pub async fn handle(app: Arc<App>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let about = About::of(&request, &peer, &app.proxies);
    let entry = Entry::begin(&about);
    let answering = async {
        let is_head = request.method() == Method::HEAD;
        let mut response = answer(&app, request, &peer).await;
        if is_head {
            *response.body_mut() = Body::empty();
        }
        entry.finish(&response);
        response
    };
    answering.instrument(about.span()).await
}

async fn answer(app: &App, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
    let nothing = || error(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing here");
    let root = app.config.relative_url_root.as_str();
    let full = request.uri().path();
    // `/prefix` itself is the front page, as with Rails.
    let Some(path) = full
        .strip_prefix(root)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    else {
        let reason = format!("this server lives under {root}/");
        return error(StatusCode::NOT_FOUND, "NOT_FOUND", &reason);
    };
    let path = if path.is_empty() { "/" } else { path };
    let Found::Resource(route, params) = ROUTES.find(path) else {
        return nothing();
    };
    match route.method(request.method()) {
        Some(run) => run(app, request, peer, params).await,
        None => nothing(),
    }
}
