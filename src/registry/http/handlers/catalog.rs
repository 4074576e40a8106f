//! `/v2/_catalog`.

use hyper::{Response, StatusCode};
use serde_json::json;

use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::paging::{page_size, with_link};
use crate::registry::http::respond;
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::ErrorCode;
use crate::serve::Body;

/// Lists repositories.
pub async fn get(context: Context) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let most = context.shared.config.catalog_limit;
    let limit = page_size(context)?.unwrap_or(most);
    if limit > most || limit == 0 {
        return Err(ApiError::new(ErrorCode::PaginationNumberInvalid).detail(json!({"n": limit})));
    }
    let last = context.query_one("last");
    let page = context.shared.metadata.repositories(last.as_deref(), limit).await?;
    let response = respond::json(StatusCode::OK, &json!({"repositories": page.names}));
    Ok(with_link(response, &context.path("/v2/_catalog"), &page, limit))
}
