//! `/v2/<name>/blobs/uploads/…`: blobs on their way in.

use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::registry::http::Context;
use crate::registry::http::body::pieces;
use crate::registry::http::respond::{self, Problem};
use crate::registry::metadata::{Metadata as _, MetadataError};
use crate::registry::oci::range::{ContentRange, upload_range};
use crate::registry::oci::{Algorithm, Digest, ErrorCode, RepoName};
use crate::registry::storage::upload_state::UploadState;
use crate::registry::storage::uploads::{Incoming, Session, UploadError};
use crate::serve::Body;
use crate::sys::clock::Clock;

/// Starts an upload, mounts a blob from another repository, or takes a whole
/// blob in one request.
pub async fn start(mut context: Context, name: &RepoName) -> Result<Response<Body>, Problem> {
    if let Some(digest) = context.query_one("mount")
        && let Some(response) = mount(&context, name, &digest).await?
    {
        return Ok(response);
    }
    let algorithm = match context.query_one("digest-algorithm") {
        None => None,
        Some(name) => {
            let known = name.parse::<Algorithm>();
            known.map_err(|error| Problem::new(ErrorCode::DigestInvalid).detail(format!("{name}: {error}")))?;
            Some(name)
        }
    };
    let state = UploadState {
        algorithm,
        name: name.to_string(),
        id: crate::serve::log::instance_id(),
        offset: 0,
        started_at: Clock::System.now(),
    };
    match context.query_one("digest") {
        None => {
            let mut response = in_progress(&context, StatusCode::ACCEPTED, &state);
            // Chunks of every size are taken.
            respond::set(&mut response, &[("oci-chunk-min-length", "0")]);
            Ok(response)
        }
        Some(digest) => {
            let digest = parse_digest(&digest)?;
            let mut session = context.app.uploads.session(&state.id).await;
            if let Err(problem) = receive(&mut context, &mut session, name, &state, 0, Some(&digest)).await {
                // Nobody knows the upload's address.
                let cancelled = context.app.uploads.end(&mut session, name, &state.id).await;
                cancelled.map_err(|error| context.failed(error))?;
                return Err(problem);
            }
            complete(context, session, name, &state.id, &digest).await
        }
    }
}

async fn mount(context: &Context, name: &RepoName, digest: &str) -> Result<Option<Response<Body>>, Problem> {
    let Ok(digest) = digest.parse::<Digest>() else {
        return Ok(None);
    };
    let Some(from) = context.query_one("from").and_then(|from| from.parse::<RepoName>().ok()) else {
        return Ok(None);
    };
    let metadata = &context.app.metadata;
    let _passing = context.app.gate.pass().await;
    let size = context
        .app
        .blobs
        .head(&digest)
        .await
        .map_err(|error| context.failed(error))?;
    let Some(size) = size else { return Ok(None) };
    if !metadata
        .has_blob(&from, &digest)
        .await
        .map_err(|error| context.failed(error))?
    {
        return Ok(None);
    }
    context.app.gate.note([&digest]);
    match metadata.put_blob(name, &digest, None).await {
        // It was removed this moment.
        Err(MetadataError::Missing(_)) => return Ok(None),
        other => other.map_err(|error| context.failed(error))?,
    }
    context.notify("mount", name, |event| {
        event.media_type = "application/octet-stream".to_owned();
        event.digest = digest.to_string();
        event.size = Some(size);
        event.from_repository = Some(from.to_string());
        event.url = context.url(&format!("/v2/{name}/blobs/{digest}"));
    });
    Ok(Some(created(context, name, &digest)))
}

/// Takes the next piece of a blob.
pub async fn chunk(mut context: Context, name: &RepoName, id: &str) -> Result<Response<Body>, Problem> {
    let mut state = known_state(&context, name, id)?;
    let mut session = context.app.uploads.session(id).await;
    let size = arrived(&context, name, &state).await?;
    let offset = offset_of(&context, &state, size)?;
    state.offset = receive(&mut context, &mut session, name, &state, offset, None).await?;
    Ok(in_progress(&context, StatusCode::ACCEPTED, &state))
}

/// Takes the last piece, which may be empty, and makes the upload a blob.
pub async fn finish(mut context: Context, name: &RepoName, id: &str) -> Result<Response<Body>, Problem> {
    let state = known_state(&context, name, id)?;
    let digest = context
        .query_one("digest")
        .ok_or_else(|| Problem::new(ErrorCode::DigestInvalid).detail("digest missing"))?;
    let digest = parse_digest(&digest)?;
    let mut session = context.app.uploads.session(id).await;
    let size = arrived(&context, name, &state).await?;
    let has_body = !hyper::body::Body::is_end_stream(context.request.body());
    if has_body {
        let offset = offset_of(&context, &state, size)?;
        receive(&mut context, &mut session, name, &state, offset, Some(&digest)).await?;
    }
    complete(context, session, name, id, &digest).await
}

/// Tells how far an upload is.
pub async fn status(context: &Context, name: &RepoName, id: &str) -> Result<Response<Body>, Problem> {
    let mut state = if context.query_one("_state").is_some() {
        known_state(context, name, id)?
    } else {
        // Distribution tells it without, too; something must have arrived.
        let known = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let there = known
            && context
                .app
                .uploads
                .size(name, id)
                .await
                .is_ok_and(|size| size.is_some());
        if !there {
            return Err(Problem::new(ErrorCode::BlobUploadUnknown));
        }
        UploadState {
            name: name.to_string(),
            id: id.to_owned(),
            offset: 0,
            started_at: Clock::System.now(),
            algorithm: None,
        }
    };
    state.offset = arrived(context, name, &state).await?;
    Ok(in_progress(context, StatusCode::NO_CONTENT, &state))
}

/// Gives an upload up.
pub async fn cancel(context: &Context, name: &RepoName, id: &str) -> Result<Response<Body>, Problem> {
    let state = known_state(context, name, id)?;
    let mut session = context.app.uploads.session(id).await;
    arrived(context, name, &state).await?;
    context
        .app
        .uploads
        .end(&mut session, name, id)
        .await
        .map_err(|error| context.failed(error))?;
    Ok(respond::empty(StatusCode::NO_CONTENT, &[("docker-upload-uuid", id)]))
}

/// Returns how much of an upload is there; an error when it has ended.
async fn arrived(context: &Context, name: &RepoName, state: &UploadState) -> Result<u64, Problem> {
    let uploads = &context.app.uploads;
    let size = uploads
        .size(name, &state.id)
        .await
        .map_err(|error| context.failed(error))?;
    if uploads.has_ended(&state.id) || (size.is_none() && state.offset > 0) {
        return Err(Problem::new(ErrorCode::BlobUploadUnknown));
    }
    Ok(size.unwrap_or_default())
}

/// Checks that the state in the URL is ours and belongs to this upload.
fn known_state(context: &Context, name: &RepoName, id: &str) -> Result<UploadState, Problem> {
    let text = context
        .query_one("_state")
        .ok_or_else(|| Problem::new(ErrorCode::BlobUploadUnknown))?;
    let state = context
        .app
        .signer
        .verify(&text)
        .ok_or_else(|| Problem::new(ErrorCode::BlobUploadInvalid))?;
    if state.name != name.as_str() || state.id != id {
        return Err(Problem::new(ErrorCode::BlobUploadUnknown));
    }
    Ok(state)
}

/// Finds where a piece goes: where `Content-Range` says, which must be where
/// the upload ends. Without it, the state must be the latest.
fn offset_of(context: &Context, state: &UploadState, size: u64) -> Result<u64, Problem> {
    let out_of_order = || out_of_order(&state.id, size);
    match context.header(CONTENT_RANGE) {
        None if state.offset == size => Ok(size),
        None => Err(out_of_order()),
        Some(header) => {
            let range = ContentRange::parse(header).ok_or_else(&out_of_order)?;
            if announced(context).is_some_and(|length| length != range.length()) {
                return Err(Problem::new(ErrorCode::SizeInvalid).detail(json!({"content_range": header})));
            }
            if range.first == size {
                Ok(size)
            } else {
                Err(out_of_order())
            }
        }
    }
}

/// Answers what goes elsewhere than where the upload ends.
fn out_of_order(id: &str, size: u64) -> Problem {
    Problem::new(ErrorCode::ContentRangeInvalid)
        .detail(json!({"received": size}))
        .header("range", upload_range(size))
        .header("docker-upload-uuid", id.to_owned())
}

fn announced(context: &Context) -> Option<u64> {
    context.header(CONTENT_LENGTH)?.parse().ok()
}

async fn receive(
    context: &mut Context,
    session: &mut Session,
    name: &RepoName,
    state: &UploadState,
    offset: u64,
    digest: Option<&Digest>,
) -> Result<u64, Problem> {
    let length = context
        .header(CONTENT_RANGE)
        .and_then(ContentRange::parse)
        .map(ContentRange::length)
        .or_else(|| announced(context));
    let uploads = context.app.uploads.clone();
    let incoming = Incoming {
        announced: length,
        offset,
        algorithm: digest.map_or_else(|| state.algorithm(), Digest::algorithm),
        last: digest.is_some(),
        body: pieces(context.request.body_mut()),
    };
    let taken = uploads.append(session, name, state, incoming).await;
    taken.map_err(|error| upload_problem(context, &state.id, error))
}

async fn complete(
    context: Context,
    mut session: Session,
    name: &RepoName,
    id: &str,
    digest: &Digest,
) -> Result<Response<Body>, Problem> {
    let app = &context.app;
    let finished = app
        .uploads
        .finish(&mut session, name, id, digest)
        .await
        .map_err(|error| upload_problem(&context, id, error))?;
    {
        let _passing = app.gate.pass().await;
        app.gate.note([digest]);
        app.metadata
            .put_blob(name, digest, Some(finished.change))
            .await
            .map_err(|error| context.failed(error))?;
    }
    app.uploads
        .end(&mut session, name, id)
        .await
        .map_err(|error| context.failed(error))?;
    #[expect(clippy::cast_precision_loss, reason = "a histogram is not that precise")]
    app.metrics.uploads.observe(finished.size as f64);
    context.notify("push", name, |event| {
        event.media_type = "application/octet-stream".to_owned();
        event.digest = digest.to_string();
        event.size = Some(finished.size);
        event.url = context.url(&format!("/v2/{name}/blobs/{digest}"));
    });
    Ok(created(&context, name, digest))
}

fn upload_problem(context: &Context, id: &str, error: UploadError) -> Problem {
    match error {
        UploadError::Offset { size: 0 } => Problem::new(ErrorCode::BlobUploadUnknown),
        UploadError::Offset { size } => out_of_order(id, size),
        UploadError::Storage(source) => context.failed(source),
        UploadError::Body(reason) => {
            context.app.logger.warn(
                "client went away during an upload",
                vec![
                    ("correlation_id", context.id.as_str().into()),
                    ("error", reason.as_str().into()),
                ],
            );
            Problem::new(ErrorCode::SizeInvalid).detail("the body ended early")
        }
        UploadError::Length { .. } => Problem::new(ErrorCode::SizeInvalid).detail(error.to_string()),
        UploadError::Digest { computed } => {
            Problem::new(ErrorCode::DigestInvalid).detail(json!({"computed": computed.to_string()}))
        }
    }
}

fn parse_digest(text: &str) -> Result<Digest, Problem> {
    text.parse()
        .map_err(|error| Problem::new(ErrorCode::DigestInvalid).detail(format!("{text}: {error}")))
}

fn in_progress(context: &Context, status: StatusCode, state: &UploadState) -> Response<Body> {
    let signed = context.app.signer.sign(state);
    let location = context.url(&format!(
        "/v2/{}/blobs/uploads/{}?_state={signed}",
        state.name, state.id
    ));
    respond::empty(
        status,
        &[
            ("location", &location),
            ("docker-upload-uuid", &state.id),
            ("range", &upload_range(state.offset)),
        ],
    )
}

fn created(context: &Context, name: &RepoName, digest: &Digest) -> Response<Body> {
    let text = digest.to_string();
    let location = context.url(&format!("/v2/{name}/blobs/{text}"));
    respond::empty(
        StatusCode::CREATED,
        &[("location", &location), ("docker-content-digest", &text)],
    )
}
