//! Starting uploads.

use hyper::{Response, StatusCode};

use super::answers::{in_progress, parse_digest};
use super::mount::mount;
use super::receive::{complete, receive};
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::oci::{Algorithm, ErrorCode, RepoName};
use crate::registry::storage::upload_state::UploadState;
use crate::serve::Body;
use crate::sys::clock::Clock;

/// Starts an upload, mounts a blob from another repository, or takes a whole
/// blob in one request.
pub async fn start(mut context: Context, name: &RepoName) -> Result<Response<Body>, ApiError> {
    if let Some(digest) = context.query_one("mount")
        && let Some(response) = mount(&context, name, &digest).await?
    {
        return Ok(response);
    }
    let algorithm = match context.query_one("digest-algorithm") {
        None => None,
        Some(name) => {
            let known = name.parse::<Algorithm>();
            known.map_err(|error| ApiError::new(ErrorCode::DigestInvalid).detail(format!("{name}: {error}")))?;
            Some(name)
        }
    };
    let state = UploadState {
        algorithm,
        name: name.to_string(),
        id: crate::serve::id::random(),
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
            let mut session = context.shared.uploads.session(&state.id).await;
            if let Err(problem) = receive(&mut context, &mut session, name, &state, (0, false), Some(&digest)).await {
                // Nobody knows the upload's address.
                let cancelled = context.shared.uploads.end(&mut session, name, &state.id).await;
                cancelled?;
                return Err(problem);
            }
            complete(context, session, name, &state.id, &digest).await
        }
    }
}
