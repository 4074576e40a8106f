//! What each resource answers, a file per kind.

mod blob;
mod gitlab;
mod listing;
mod manifest;
mod rename;
mod upload;

use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::Context;
use super::respond::{self, Problem};
use crate::registry::oci::Route;
use crate::serve::Body;

/// Hands a request to its handler. Methods that a route does not have were refused before.
pub async fn dispatch(route: Route, context: Context) -> Result<Response<Body>, Problem> {
    let method = context.request.method().clone();
    match route {
        Route::Root | Route::Base => {
            let mut response = respond::json(StatusCode::OK, &json!({}));
            respond::set(
                &mut response,
                &[
                    ("gitlab-container-registry-version", crate::registry::VERSION),
                    ("gitlab-container-registry-features", "tag_delete"),
                    (
                        "gitlab-container-registry-database-enabled",
                        if context.app.metadata.is_database() {
                            "true"
                        } else {
                            "false"
                        },
                    ),
                ],
            );
            Ok(response)
        }
        Route::Gitlab(route) => {
            let mut response = gitlab::dispatch(context, &route).await?;
            respond::set(
                &mut response,
                &[("gitlab-container-registry-version", crate::registry::VERSION)],
            );
            Ok(response)
        }
        Route::Catalog => listing::catalog(&context).await,
        Route::Tags(name) => listing::tags(&context, &name).await,
        Route::Manifest(name, reference) => match method {
            Method::PUT => manifest::put(context, &name, &reference).await,
            Method::DELETE => manifest::delete(&context, &name, &reference).await,
            _ => manifest::get(&context, &name, &reference).await,
        },
        Route::Blob(name, digest) => match method {
            Method::DELETE => blob::delete(&context, &name, &digest).await,
            _ => blob::get(&context, &name, &digest).await,
        },
        Route::Referrers(name, digest) => listing::referrers(&context, &name, &digest).await,
        Route::Uploads(name) => upload::start(context, &name).await,
        Route::Upload(name, id) => match method {
            Method::PATCH => upload::chunk(context, &name, &id).await,
            Method::PUT => upload::finish(context, &name, &id).await,
            Method::DELETE => upload::cancel(&context, &name, &id).await,
            _ => upload::status(&context, &name, &id).await,
        },
    }
}

/// Says whether `If-None-Match` names a digest, quoted or bare.
fn client_has(context: &Context, digest: &str) -> bool {
    context.header(hyper::header::IF_NONE_MATCH).is_some_and(|header| {
        header
            .split(',')
            .map(|item| item.trim().trim_start_matches("W/").trim_matches('"'))
            .any(|item| item == digest || item == "*")
    })
}
