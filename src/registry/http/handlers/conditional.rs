//! Conditional requests (RFC 9110, section 13).

use crate::registry::http::context::Context;

/// Says whether `If-None-Match` names a digest, quoted or bare.
pub fn matches_etag(context: &Context, digest: &str) -> bool {
    context.header(hyper::header::IF_NONE_MATCH).is_some_and(|header| {
        header
            .split(',')
            .map(|item| item.trim().trim_start_matches("W/").trim_matches('"'))
            .any(|item| item == digest || item == "*")
    })
}
