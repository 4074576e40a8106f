//! Deleting manifests and tags.

use hyper::{Response, StatusCode};
use serde_json::json;

use super::rules::unknown;
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::metadata::{Deleted, IsProtected, Metadata as _};
use crate::registry::oci::{ErrorCode, Reference, RepoName};
use crate::serve::Body;

/// Removes a tag, or a manifest with all its tags.
pub async fn delete(context: Context, name: &RepoName, reference: &Reference) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let shared = &context.shared;
    let protection = &context.actor.protection;
    protection.check_delete()?;
    let protects = |tag: &str| protection.denies_delete(tag).is_some();
    let mut tags = Vec::new();
    let removed = match reference {
        Reference::Tag(tag) => {
            if let Some(denial) = protection.denies_delete(tag.as_str()) {
                return Err(ApiError::new(denial.into()).detail(json!({"tag": tag.as_str()})));
            }
            shared.metadata.delete_tag(name, tag).await?
        }
        Reference::Digest(digest) => {
            let is_protected: IsProtected<'_> = if protection.limits_deletion() {
                Some(&protects)
            } else {
                None
            };
            match shared.metadata.delete_manifest(name, digest, &is_protected).await? {
                Deleted::Yes(with) => {
                    tags = with;
                    true
                }
                Deleted::Absent => false,
                Deleted::Protected(tag) => {
                    return Err(ApiError::new(ErrorCode::ProtectedManifest).detail(json!({"tag": tag})));
                }
            }
        }
    };
    if !removed {
        return Err(unknown(name, reference));
    }
    let gone = tags.into_iter().map(Reference::Tag).chain([reference.clone()]);
    for reference in gone {
        context
            .notify_change("delete", name, |event| match reference {
                Reference::Tag(tag) => event.tag = Some(tag.to_string()),
                Reference::Digest(digest) => event.digest = digest.to_string(),
            })
            .await;
    }
    Ok(respond::empty(StatusCode::ACCEPTED, &[]))
}
