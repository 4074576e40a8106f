//! Pages of lists (distribution, "Pagination").

use hyper::Response;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::context::Context;
use super::error::ApiError;
use super::respond;
use crate::registry::metadata::Page;
use crate::registry::oci::ErrorCode;
use crate::serve::Body;

/// Reads `n`.
pub fn page_size(context: &Context) -> Result<Option<usize>, ApiError> {
    match context.query_one("n").filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| ApiError::new(ErrorCode::PaginationNumberInvalid).detail(json!({"n": text}))),
    }
}

/// Says where the next page is.
pub fn with_link(mut response: Response<Body>, path: &str, page: &Page, limit: usize) -> Response<Body> {
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
