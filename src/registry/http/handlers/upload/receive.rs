//! Taking in what comes, and making a blob of it.

use hyper::Response;
use hyper::header::CONTENT_RANGE;
use serde_json::json;

use super::answers::created;
use super::position::{announced, out_of_order};
use crate::registry::http::body::pieces;
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::range::ContentRange;
use crate::registry::oci::{Digest, ErrorCode, RepoName};
use crate::registry::storage::upload_state::UploadState;
use crate::registry::storage::uploads::{Incoming, Session, UploadError};
use crate::serve::Body;

/// Takes in a body, after the bytes that are there if the upload has begun;
/// returns how much there is afterwards.
pub async fn receive(
    context: &mut Context,
    session: &mut Session,
    name: &RepoName,
    state: &UploadState,
    (offset, begun): (u64, bool),
    digest: Option<&Digest>,
) -> Result<u64, ApiError> {
    let length = context
        .header(CONTENT_RANGE)
        .and_then(ContentRange::parse)
        .map(ContentRange::length)
        .or_else(|| announced(context));
    let uploads = context.shared.uploads.clone();
    let incoming = Incoming {
        announced: length,
        offset,
        algorithm: digest.map_or_else(|| state.algorithm(), Digest::algorithm),
        last: digest.is_some(),
        begun,
        body: pieces(context.request.body_mut()),
    };
    let taken = uploads.append(session, name, state, incoming).await;
    taken.map_err(|error| refused(&state.id, error))
}

/// Makes a blob of an upload.
pub async fn complete(
    context: Context,
    mut session: Session,
    name: &RepoName,
    id: &str,
    digest: &Digest,
) -> Result<Response<Body>, ApiError> {
    let shared = &context.shared;
    let staged = shared
        .uploads
        .finish(&mut session, name, id, digest)
        .await
        .map_err(|error| refused(id, error))?;
    let size = staged.size;
    shared.metadata.put_blob(name, staged).await?;
    shared.uploads.end(&mut session, name, id).await?;
    #[expect(clippy::cast_precision_loss, reason = "a histogram is not that precise")]
    shared.metrics.uploads.observe(size as f64);
    context
        .notify_change("push", name, |event| {
            event.media_type = "application/octet-stream".to_owned();
            event.digest = digest.to_string();
            event.size = Some(size);
            event.url = context.url(&format!("/v2/{name}/blobs/{digest}"));
        })
        .await;
    Ok(created(&context, name, digest))
}

fn refused(id: &str, error: UploadError) -> ApiError {
    match error {
        UploadError::Offset { size: 0 } => ApiError::new(ErrorCode::BlobUploadUnknown),
        UploadError::Offset { size } => out_of_order(id, size),
        UploadError::Storage(source) => source.into(),
        UploadError::Body(reason) => {
            tracing::warn!(error = %reason, "client went away during an upload");
            ApiError::new(ErrorCode::SizeInvalid).detail("the body ended early")
        }
        UploadError::Length { .. } => ApiError::new(ErrorCode::SizeInvalid).detail(error.to_string()),
        UploadError::Digest { computed } => {
            ApiError::new(ErrorCode::DigestInvalid).detail(json!({"computed": computed.to_string()}))
        }
    }
}
