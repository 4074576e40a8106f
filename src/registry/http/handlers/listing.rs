//! `/v2/_catalog` and `/v2/<name>/tags/list`.

use hyper::{Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::registry::http::Context;
use crate::registry::http::respond::{self, Problem};
use crate::registry::metadata::{Metadata as _, Page};
use crate::registry::oci::{ErrorCode, RepoName};
use crate::serve::Body;

/// Entries of a catalog page without `n`, and the most that `n` may ask for.
const CATALOG_LIMIT: usize = 1000;
/// The most tags that one page holds; without `n` all are listed.
const TAGS_LIMIT: usize = 10_000;

/// Reads `n`.
fn page_size(context: &Context) -> Result<Option<usize>, Problem> {
    match context.query_one("n") {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| Problem::new(ErrorCode::PaginationNumberInvalid).detail(json!({"n": text}))),
    }
}

fn with_link(mut response: Response<Body>, path: &str, page: &Page, limit: usize) -> Response<Body> {
    if page.more
        && let Some(last) = page.names.last()
    {
        let last = utf8_percent_encode(last, NON_ALPHANUMERIC);
        respond::set(
            &mut response,
            &[("link", &format!("<{path}?last={last}&n={limit}>; rel=\"next\""))],
        );
    }
    response
}

/// Lists repositories.
pub async fn catalog(context: &Context) -> Result<Response<Body>, Problem> {
    let limit = page_size(context)?.unwrap_or(CATALOG_LIMIT);
    if limit > CATALOG_LIMIT || limit == 0 {
        return Err(Problem::new(ErrorCode::PaginationNumberInvalid).detail(json!({"n": limit})));
    }
    let last = context.query_one("last");
    let page = context
        .app
        .metadata
        .repositories(last.as_deref(), limit)
        .await
        .map_err(|error| context.failed(&error))?;
    let response = respond::json(StatusCode::OK, &json!({"repositories": page.names}));
    Ok(with_link(response, "/v2/_catalog", &page, limit))
}

/// Lists a repository's tags.
pub async fn tags(context: &Context, name: &RepoName) -> Result<Response<Body>, Problem> {
    let asked = page_size(context)?;
    let limit = asked.map_or(usize::MAX, |n| n.min(TAGS_LIMIT));
    let last = context.query_one("last");
    let page = context
        .app
        .metadata
        .tags(name, last.as_deref(), limit)
        .await
        .map_err(|error| context.failed(&error))?;
    let page = page.ok_or_else(|| Problem::new(ErrorCode::NameUnknown).detail(json!({"name": name.as_str()})))?;
    let response = respond::json(StatusCode::OK, &json!({"name": name.as_str(), "tags": page.names}));
    Ok(with_link(response, context.request.uri().path(), &page, limit))
}
