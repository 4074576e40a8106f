//! `/v2/<name>/blobs/<digest>`.

use hyper::header::RANGE;
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::client_has;
use crate::registry::http::Context;
use crate::registry::http::respond::{self, Problem};
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::range::ByteRange;
use crate::registry::oci::{Digest, ErrorCode, RepoName};
use crate::serve::Body;

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
        .map_err(|error| context.failed(&error))?
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
            &[("etag", &etag), ("docker-content-digest", &text)],
        ));
    }
    let content = app
        .blobs
        .open(digest)
        .await
        .map_err(|error| context.failed(&error))?
        .ok_or_else(|| unknown(digest))?;
    let (status, first, length) = match ByteRange::parse(context.header(RANGE), content.size) {
        ByteRange::Whole => (StatusCode::OK, 0, content.size),
        ByteRange::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        ByteRange::Unsatisfiable => {
            return Ok(respond::empty(
                StatusCode::RANGE_NOT_SATISFIABLE,
                &[("content-range", &format!("bytes */{}", content.size))],
            ));
        }
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    respond::set(
        &mut response,
        &[
            ("content-type", "application/octet-stream"),
            ("content-length", &length.to_string()),
            ("docker-content-digest", &text),
            ("etag", &etag),
            ("accept-ranges", "bytes"),
            ("cache-control", "max-age=31536000"),
        ],
    );
    if status == StatusCode::PARTIAL_CONTENT {
        respond::set(
            &mut response,
            &[(
                "content-range",
                &format!("bytes {first}-{}/{}", first + length - 1, content.size),
            )],
        );
    }
    if context.request.method() == Method::GET {
        context.notify("pull", name, |event| {
            event.media_type = "application/octet-stream".to_owned();
            event.digest = text;
            event.size = Some(content.size);
            event.url = context.url(context.request.uri().path());
        });
        *response.body_mut() = Body::file(content.file, first, length);
    }
    Ok(response)
}

/// Takes a blob out of the repository.
pub async fn delete(context: &Context, name: &RepoName, digest: &Digest) -> Result<Response<Body>, Problem> {
    let app = &context.app;
    if !app.config.storage.delete {
        return Err(Problem::new(ErrorCode::Unsupported));
    }
    if !app
        .metadata
        .unlink_blob(name, digest)
        .await
        .map_err(|error| context.failed(&error))?
    {
        return Err(unknown(digest));
    }
    context.notify("delete", name, |event| event.digest = digest.to_string());
    Ok(respond::empty(
        StatusCode::ACCEPTED,
        &[("docker-content-digest", &digest.to_string())],
    ))
}
