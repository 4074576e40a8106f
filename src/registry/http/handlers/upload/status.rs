//! How far uploads are.

use hyper::{Response, StatusCode};

use super::answers::in_progress;
use super::position::{known_state, upload_size};
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::row::UploadId;
use crate::registry::oci::{ErrorCode, RepoName};
use crate::registry::storage::upload_state::UploadState;
use crate::serve::Body;
use crate::sys::clock::Clock;

/// Tells how far an upload is.
pub async fn status(context: Context, name: &RepoName, id: &UploadId) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let mut state = if context.query_one("_state").is_some() {
        known_state(context, name, id.as_str())?
    } else {
        // Distribution tells it without, too; something must have arrived.
        let there = id.is_plausible() && context.shared.uploads.size(name, id.as_str()).await?.is_some();
        if !there {
            return Err(ApiError::new(ErrorCode::BlobUploadUnknown));
        }
        UploadState {
            name: name.to_string(),
            id: id.as_str().to_owned(),
            offset: 0,
            started_at: Clock::System.now(),
            algorithm: None,
        }
    };
    state.offset = upload_size(context, name, &state).await?.unwrap_or_default();
    Ok(in_progress(context, StatusCode::NO_CONTENT, &state))
}
