//! Finishing uploads.

use hyper::Response;

use super::answers::parse_digest;
use super::position::{known_state, offset_of, upload_size};
use super::receive::{complete, receive};
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::row::UploadId;
use crate::registry::oci::{ErrorCode, RepoName};
use crate::serve::Body;

/// Takes the last piece, which may be empty, and makes the upload a blob.
pub async fn finish(mut context: Context, name: &RepoName, id: &UploadId) -> Result<Response<Body>, ApiError> {
    let state = known_state(&context, name, id.as_str())?;
    let digest = context
        .query_one("digest")
        .ok_or_else(|| ApiError::new(ErrorCode::DigestInvalid).detail("digest missing"))?;
    let digest = parse_digest(&digest)?;
    let mut session = context.shared.uploads.session(id.as_str()).await;
    let size = upload_size(&context, name, &state).await?;
    if !context.request.body().is_at_end() {
        let offset = offset_of(&context, &state, size.unwrap_or_default())?;
        let from = (offset, size.is_some());
        receive(&mut context, &mut session, name, &state, from, Some(&digest)).await?;
    }
    complete(context, session, name, id.as_str(), &digest).await
}
