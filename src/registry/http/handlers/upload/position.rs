//! Where an upload stands, and where a piece goes.

use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE};
use serde_json::json;

use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::oci::range::{ContentRange, upload_range};
use crate::registry::oci::{ErrorCode, RepoName};
use crate::registry::storage::upload_state::UploadState;

/// Returns how much of an upload is there, if it has begun; an error when it has ended.
pub async fn upload_size(context: &Context, name: &RepoName, state: &UploadState) -> Result<Option<u64>, ApiError> {
    let uploads = &context.shared.uploads;
    let size = uploads.size(name, &state.id).await?;
    if uploads.has_ended(&state.id) || (size.is_none() && state.offset > 0) {
        return Err(ApiError::new(ErrorCode::BlobUploadUnknown));
    }
    Ok(size)
}

/// Checks that the state in the URL is ours and belongs to this upload.
pub fn known_state(context: &Context, name: &RepoName, id: &str) -> Result<UploadState, ApiError> {
    let text = context
        .query_one("_state")
        .ok_or_else(|| ApiError::new(ErrorCode::BlobUploadUnknown))?;
    let state = context
        .shared
        .signer
        .verify(&text)
        .ok_or_else(|| ApiError::new(ErrorCode::BlobUploadInvalid))?;
    if state.name != name.as_str() || state.id != id {
        return Err(ApiError::new(ErrorCode::BlobUploadUnknown));
    }
    Ok(state)
}

/// Finds where a piece goes: where `Content-Range` says, which must be where
/// the upload ends. Without it, the state must be the latest.
pub fn offset_of(context: &Context, state: &UploadState, size: u64) -> Result<u64, ApiError> {
    let out_of_order = || out_of_order(&state.id, size);
    match context.header(CONTENT_RANGE) {
        None if state.offset == size => Ok(size),
        None => Err(out_of_order()),
        Some(header) => {
            let range = ContentRange::parse(header).ok_or_else(&out_of_order)?;
            if announced(context).is_some_and(|length| length != range.length()) {
                return Err(ApiError::new(ErrorCode::SizeInvalid).detail(json!({"content_range": header})));
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
pub fn out_of_order(id: &str, size: u64) -> ApiError {
    ApiError::new(ErrorCode::ContentRangeInvalid)
        .detail(json!({"received": size}))
        .header("range", upload_range(size))
        .header("docker-upload-uuid", id.to_owned())
}

/// Returns how long a body is said to be.
pub fn announced(context: &Context) -> Option<u64> {
    context.header(CONTENT_LENGTH)?.parse().ok()
}
