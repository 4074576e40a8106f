//! Giving uploads up.

use hyper::{Response, StatusCode};

use super::position::{known_state, upload_size};
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::http::row::UploadId;
use crate::registry::oci::RepoName;
use crate::serve::Body;

/// Gives an upload up.
pub async fn cancel(context: Context, name: &RepoName, id: &UploadId) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let state = known_state(context, name, id.as_str())?;
    let mut session = context.shared.uploads.session(id.as_str()).await;
    upload_size(context, name, &state).await?;
    context.shared.uploads.end(&mut session, name, id.as_str()).await?;
    Ok(respond::empty(
        StatusCode::NO_CONTENT,
        &[("docker-upload-uuid", id.as_str())],
    ))
}
