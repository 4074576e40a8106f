//! `/gitlab/v1/repository-paths/<path>/repositories/list/`.

use hyper::{Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::base::database;
use super::json::{described, unknown};
use super::query::page_size;
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::oci::RepoName;
use crate::serve::Body;

/// Lists the repositories at a path and below it.
pub async fn below(context: Context, path: &RepoName) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let postgres = database(context)?;
    let limit = page_size(context)?;
    let last = context.query_one("last");
    let found = postgres.repositories_below(path, last.as_deref(), limit).await?;
    let (found, more) = found.ok_or_else(|| unknown(path))?;
    let items = found.iter().map(|(path, details)| described(path, details)).collect();
    let mut response = respond::json(StatusCode::OK, &Value::Array(items));
    if more && let Some((last, _)) = found.last() {
        let url = context.request.uri().path();
        let last = utf8_percent_encode(last, NON_ALPHANUMERIC);
        respond::set(
            &mut response,
            &[("link", &format!("<{url}?last={last}&n={limit}>; rel=\"next\""))],
        );
    }
    Ok(response)
}
