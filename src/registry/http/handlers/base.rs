//! `/v2/`: the version check, by which clients find out whether they must log in.

use hyper::{Response, StatusCode};
use serde_json::json;

use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::version::VERSION;
use crate::serve::Body;

/// Says that this is a registry.
#[expect(clippy::unused_async, reason = "handlers are")]
pub async fn get(context: Context) -> Result<Response<Body>, ApiError> {
    let mut response = respond::json(StatusCode::OK, &json!({}));
    let is_database = context.shared.metadata.is_database();
    respond::set(
        &mut response,
        &[
            ("gitlab-container-registry-version", VERSION),
            ("gitlab-container-registry-features", "tag_delete"),
            (
                "gitlab-container-registry-database-enabled",
                if is_database { "true" } else { "false" },
            ),
        ],
    );
    Ok(response)
}
