//! Sending blobs.

use hyper::header::{IF_RANGE, RANGE};
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::parts::{BLOB_TYPE, multipart, part_of};
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::handlers::conditional::matches_etag;
use crate::registry::http::respond;
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::range::ByteRange;
use crate::registry::oci::{Digest, ErrorCode, RepoName};
use crate::registry::storage::object::Object;
use crate::serve::Body;

/// How long a blob may be kept: a year, since what a digest names never changes.
const KEPT: &str = "max-age=31536000";

/// Answers that there is no such blob.
pub fn unknown(digest: &Digest) -> ApiError {
    ApiError::new(ErrorCode::BlobUnknown).detail(json!({"digest": digest.to_string()}))
}

/// Sends a blob or a part of it.
pub async fn get(context: Context, name: &RepoName, digest: &Digest) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let shared = &context.shared;
    let blob = shared.metadata.blob(name, digest).await?;
    let blob = blob.ok_or_else(|| unknown(digest))?;
    let place = blob.alias_of.as_ref().unwrap_or(digest);
    let text = digest.to_string();
    let etag = format!("\"{text}\"");
    if matches_etag(context, &text) {
        return Ok(respond::empty(
            StatusCode::NOT_MODIFIED,
            // RFC 9110, section 15.4.5: what a 200 would say of how long it may be kept.
            &[
                ("etag", &etag),
                ("docker-content-digest", &text),
                ("cache-control", KEPT),
            ],
        ));
    }
    if context.request.method() == Method::HEAD && context.header(RANGE).is_none() {
        let mut response = Response::new(Body::empty());
        describe(&mut response, BLOB_TYPE, blob.size, &text, &etag);
        return Ok(response);
    }
    let content = shared.blobs.open(place).await?.ok_or_else(|| unknown(digest))?;
    let size = content.size;
    let mut response = match wanted(context, &content, &text) {
        ByteRange::Unsatisfiable => {
            return Ok(respond::empty(
                StatusCode::RANGE_NOT_SATISFIABLE,
                &[("content-range", &format!("bytes */{size}"))],
            ));
        }
        range => answer(&content, &range, &text, &etag),
    };
    if context.request.method() != Method::GET {
        *response.body_mut() = Body::empty();
        return Ok(response);
    }
    context.notify("pull", name, |event| {
        event.media_type = BLOB_TYPE.to_owned();
        event.digest = text;
        event.size = Some(size);
        event.url = context.url(&format!("/v2/{name}/blobs/{digest}"));
    });
    let length = hyper::body::Body::size_hint(response.body())
        .exact()
        .unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a histogram is not that precise")]
    shared.metrics.downloads.observe(length as f64);
    Ok(response)
}

/// Returns the parts that are asked for.
fn wanted(context: &Context, content: &Object, digest: &str) -> ByteRange {
    let is_same = context
        .header(IF_RANGE)
        .is_none_or(|condition| condition.trim().trim_matches('"') == digest);
    let range = context.header(RANGE).filter(|_| is_same);
    ByteRange::parse(range, content.size)
}

/// Makes an answer of a blob, or of parts of it.
fn answer(content: &Object, range: &ByteRange, digest: &str, etag: &str) -> Response<Body> {
    let size = content.size;
    let parts = match range {
        ByteRange::Parts(parts) => Some(parts.as_slice()),
        ByteRange::Whole | ByteRange::Unsatisfiable => None,
    };
    let (kind, extent, body) = match parts {
        None => (BLOB_TYPE.to_owned(), None, Body::stream(content.read(0..size), size)),
        Some([part]) => (
            BLOB_TYPE.to_owned(),
            Some(format!("bytes {}-{}/{size}", part.first, part.last)),
            part_of(content, *part),
        ),
        Some(parts) => {
            let boundary = crate::serve::id::random();
            let body = multipart(content, parts, &boundary);
            (format!("multipart/byteranges; boundary={boundary}"), None, body)
        }
    };
    let length = hyper::body::Body::size_hint(&body).exact().unwrap_or_default();
    let mut response = Response::new(body);
    if parts.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    describe(&mut response, &kind, length, digest, etag);
    if let Some(extent) = extent {
        respond::set(&mut response, &[("content-range", &extent)]);
    }
    response
}

/// Sets the headers of a blob.
fn describe(response: &mut Response<Body>, kind: &str, length: u64, digest: &str, etag: &str) {
    respond::set(
        response,
        &[
            ("content-type", kind),
            ("content-length", &length.to_string()),
            ("docker-content-digest", digest),
            ("etag", etag),
            ("accept-ranges", "bytes"),
            ("cache-control", KEPT),
        ],
    );
}
