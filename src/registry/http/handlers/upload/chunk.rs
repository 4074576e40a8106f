//! Going on with uploads.

use hyper::{Response, StatusCode};

use super::answers::in_progress;
use super::position::{known_state, offset_of, upload_size};
use super::receive::receive;
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::row::UploadId;
use crate::registry::oci::RepoName;
use crate::serve::Body;

/// Takes the next piece of a blob.
pub async fn chunk(mut context: Context, name: &RepoName, id: &UploadId) -> Result<Response<Body>, ApiError> {
    let mut state = known_state(&context, name, id.as_str())?;
    let mut session = context.shared.uploads.session(id.as_str()).await;
    let size = upload_size(&context, name, &state).await?;
    let offset = offset_of(&context, &state, size.unwrap_or_default())?;
    let begun = size.is_some();
    state.offset = receive(&mut context, &mut session, name, &state, (offset, begun), None).await?;
    Ok(in_progress(&context, StatusCode::ACCEPTED, &state))
}
