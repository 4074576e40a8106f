//! Deleting manifests and tags.

use hyper::{Response, StatusCode};

use super::rules::{check_protection, unknown};
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::{Reference, RepoName};
use crate::serve::Body;

/// Removes a tag, or a manifest with all its tags.
pub async fn delete(context: Context, name: &RepoName, reference: &Reference) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let shared = &context.shared;
    if context.actor.protection.limits_deletion() {
        check_protection(context, name, reference).await?;
    }
    let removed = match reference {
        Reference::Tag(tag) => shared.metadata.delete_tag(name, tag).await,
        Reference::Digest(digest) => shared.metadata.delete_manifest(name, digest).await,
    };
    if !removed? {
        return Err(unknown(name, reference));
    }
    context
        .notify_change("delete", name, |event| match reference {
            Reference::Tag(tag) => event.tag = Some(tag.to_string()),
            Reference::Digest(digest) => event.digest = digest.to_string(),
        })
        .await;
    Ok(respond::empty(StatusCode::ACCEPTED, &[]))
}
