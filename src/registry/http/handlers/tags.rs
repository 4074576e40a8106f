//! `/v2/<name>/tags/list`.

use hyper::{Response, StatusCode};
use serde_json::json;

use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::paging::{page_size, with_link};
use crate::registry::http::respond;
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::{ErrorCode, RepoName};
use crate::serve::Body;

/// Lists a repository's tags.
pub async fn get(context: Context, name: &RepoName) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let asked = page_size(context)?;
    let limit = asked.map_or(usize::MAX, |n| n.min(context.shared.config.tags_limit));
    let last = context.query_one("last");
    let page = context.shared.metadata.tags(name, last.as_deref(), limit).await?;
    let page = page.ok_or_else(|| ApiError::new(ErrorCode::NameUnknown).detail(json!({"name": name.as_str()})))?;
    let response = respond::json(StatusCode::OK, &json!({"name": name.as_str(), "tags": page.names}));
    Ok(with_link(response, context.request.uri().path(), &page, limit))
}
