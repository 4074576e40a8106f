//! What is answered about uploads.

use hyper::{Response, StatusCode};

use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::oci::range::upload_range;
use crate::registry::oci::{Digest, ErrorCode, RepoName};
use crate::registry::storage::upload_state::UploadState;
use crate::serve::Body;

/// Reads a digest of a query.
pub fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse()
        .map_err(|error| ApiError::new(ErrorCode::DigestInvalid).detail(format!("{text}: {error}")))
}

/// Answers where an upload goes on.
pub fn in_progress(context: &Context, status: StatusCode, state: &UploadState) -> Response<Body> {
    let signed = context.shared.signer.sign(state);
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

/// Answers that a blob is there.
pub fn created(context: &Context, name: &RepoName, digest: &Digest) -> Response<Body> {
    let text = digest.to_string();
    let location = context.url(&format!("/v2/{name}/blobs/{text}"));
    respond::empty(
        StatusCode::CREATED,
        &[("location", &location), ("docker-content-digest", &text)],
    )
}
