//! Taking blobs out of repositories.

use hyper::{Response, StatusCode};

use super::get::unknown;
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::{Digest, RepoName};
use crate::serve::Body;

/// Takes a blob out of the repository.
pub async fn delete(context: Context, name: &RepoName, digest: &Digest) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let shared = &context.shared;
    if !shared.metadata.unlink_blob(name, digest).await? {
        return Err(unknown(digest));
    }
    context
        .notify_change("delete", name, |event| event.digest = digest.to_string())
        .await;
    Ok(respond::empty(
        StatusCode::ACCEPTED,
        &[("docker-content-digest", &digest.to_string())],
    ))
}
