//! `/v2/<name>/blobs/<digest>`.

use std::collections::VecDeque;

use hyper::header::{IF_RANGE, RANGE};
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::client_has;
use crate::registry::http::Context;
use crate::registry::http::respond::{self, Problem};
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::range::{ByteRange, Part};
use crate::registry::oci::{Digest, ErrorCode, RepoName};
use crate::registry::storage::object::Object;
use crate::serve::Body;

/// Type of every blob: nobody but the client knows what it is.
const BLOB_TYPE: &str = "application/octet-stream";
/// How long a blob may be kept: a year, since what a digest names never changes.
const KEPT: &str = "max-age=31536000";

fn unknown(digest: &Digest) -> Problem {
    Problem::new(ErrorCode::BlobUnknown).detail(json!({"digest": digest.to_string()}))
}

/// Sends a blob or a part of it.
pub async fn get(context: &Context, name: &RepoName, digest: &Digest) -> Result<Response<Body>, Problem> {
    let app = &context.app;
    if !app
        .metadata
        .has_blob(name, digest)
        .await
        .map_err(|error| context.failed(error))?
    {
        return Err(unknown(digest));
    }
    // Whoever asks may be about to push a manifest that names it.
    app.gate.note([digest]);
    let text = digest.to_string();
    let etag = format!("\"{text}\"");
    if client_has(context, &text) {
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
        let size = app.blobs.head(digest).await.map_err(|error| context.failed(error))?;
        let size = size.ok_or_else(|| unknown(digest))?;
        let mut response = Response::new(Body::empty());
        describe(&mut response, BLOB_TYPE, size, &text, &etag);
        return Ok(response);
    }
    let content = app
        .blobs
        .open(digest)
        .await
        .map_err(|error| context.failed(error))?
        .ok_or_else(|| unknown(digest))?;
    let same = context
        .header(IF_RANGE)
        .is_none_or(|condition| condition.trim().trim_matches('"') == text);
    let range = context.header(RANGE).filter(|_| same);
    let parts = match ByteRange::parse(range, content.size) {
        ByteRange::Whole => None,
        ByteRange::Parts(parts) => Some(parts),
        ByteRange::Unsatisfiable => {
            return Ok(respond::empty(
                StatusCode::RANGE_NOT_SATISFIABLE,
                &[("content-range", &format!("bytes */{}", content.size))],
            ));
        }
    };
    let size = content.size;
    let (kind, extent, body) = match parts.as_deref() {
        None => (BLOB_TYPE.to_owned(), None, Body::stream(content.read(0..size), size)),
        Some([part]) => (
            BLOB_TYPE.to_owned(),
            Some(format!("bytes {}-{}/{size}", part.first, part.last)),
            part_of(&content, *part),
        ),
        Some(parts) => {
            let boundary = crate::serve::log::instance_id();
            let body = multipart(&content, parts, &boundary);
            (format!("multipart/byteranges; boundary={boundary}"), None, body)
        }
    };
    let length = hyper::body::Body::size_hint(&body).exact().unwrap_or_default();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = if parts.is_some() {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    describe(&mut response, &kind, length, &text, &etag);
    if let Some(extent) = extent {
        respond::set(&mut response, &[("content-range", &extent)]);
    }
    if context.request.method() == Method::GET {
        context.notify("pull", name, |event| {
            event.media_type = BLOB_TYPE.to_owned();
            event.digest = text;
            event.size = Some(size);
            event.url = context.url(&format!("/v2/{name}/blobs/{digest}"));
        });
        #[expect(clippy::cast_precision_loss, reason = "a histogram is not that precise")]
        app.metrics.downloads.observe(length as f64);
        *response.body_mut() = body;
    }
    Ok(response)
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

/// Makes a body of a part of an object.
fn part_of(content: &Object, part: Part) -> Body {
    Body::stream(content.read(part.first..part.last + 1), part.length())
}

/// Makes a `multipart/byteranges` body (RFC 9110, section 14.6).
fn multipart(content: &Object, parts: &[Part], boundary: &str) -> Body {
    let mut bodies = VecDeque::new();
    for (number, part) in parts.iter().enumerate() {
        let line = if number == 0 { "" } else { "\r\n" };
        bodies.push_back(Body::from(format!(
            "{line}--{boundary}\r\nContent-Type: {BLOB_TYPE}\r\nContent-Range: bytes {}-{}/{}\r\n\r\n",
            part.first, part.last, content.size
        )));
        bodies.push_back(part_of(content, *part));
    }
    bodies.push_back(Body::from(format!("\r\n--{boundary}--\r\n")));
    Body::Chain(bodies)
}

/// Takes a blob out of the repository.
pub async fn delete(context: &Context, name: &RepoName, digest: &Digest) -> Result<Response<Body>, Problem> {
    let app = &context.app;
    if !app.config.storage.delete {
        return Err(Problem::new(ErrorCode::Unsupported).header("allow", "GET, HEAD, OPTIONS".to_owned()));
    }
    if !app
        .metadata
        .unlink_blob(name, digest)
        .await
        .map_err(|error| context.failed(error))?
    {
        return Err(unknown(digest));
    }
    context.notify("delete", name, |event| event.digest = digest.to_string());
    Ok(respond::empty(
        StatusCode::ACCEPTED,
        &[("docker-content-digest", &digest.to_string())],
    ))
}
