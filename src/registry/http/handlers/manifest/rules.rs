//! What manifests and tags must keep to.

use serde_json::json;

use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::manifest::{Kind, Manifest};
use crate::registry::oci::{Digest, ErrorCode, Reference, RepoName, Tag};

/// Answers that there is no such manifest.
pub fn unknown(name: &RepoName, reference: &Reference) -> ApiError {
    ApiError::new(ErrorCode::ManifestUnknown).detail(json!({"name": name.as_str(), "reference": reference.to_string()}))
}

/// Checks a manifest against the limits and patterns of the configuration.
pub fn check_rules(context: &Context, manifest: &Manifest) -> Result<(), ApiError> {
    let rules = &context.shared.config.validation;
    let count = manifest.references().count();
    if let Some(limit) = rules.reference_limit.filter(|limit| count > *limit) {
        return Err(
            ApiError::new(ErrorCode::ManifestReferenceLimit).detail(format!("{count} references, {limit} are allowed"))
        );
    }
    let Kind::Image { layers, .. } = &manifest.kind else {
        return Ok(());
    };
    for url in layers.iter().flat_map(|layer| &layer.urls) {
        // A layer is fetched from there: nothing but the web, and all of it.
        let parsed = url::Url::parse(url).ok();
        let web = parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.fragment().is_none());
        let permitted = rules.urls.as_ref().is_none_or(|rules| rules.permit(url));
        if !web || !permitted {
            return Err(ApiError::new(ErrorCode::ManifestInvalid).detail(format!("invalid URL on layer: {url}")));
        }
    }
    Ok(())
}

/// Checks that tags may be moved to a manifest.
pub async fn check_moves(context: &Context, name: &RepoName, digest: &Digest, tags: &[Tag]) -> Result<(), ApiError> {
    let protection = &context.actor.protection;
    for tag in tags {
        let mut moves = false;
        if protection.limits_moves() {
            let now = context.shared.metadata.resolve(name, tag).await?;
            moves = now.is_some_and(|now| now != *digest);
        }
        if protection.denies_push(tag.as_str(), moves) {
            return Err(ApiError::new(ErrorCode::ProtectedTag).detail(json!({"tag": tag.as_str()})));
        }
    }
    Ok(())
}

/// Refuses the deletion of a protected tag, or of a manifest that has one.
pub async fn check_protection(context: &Context, name: &RepoName, reference: &Reference) -> Result<(), ApiError> {
    let protection = &context.actor.protection;
    let metadata = &context.shared.metadata;
    match reference {
        Reference::Tag(tag) if protection.denies_delete(tag.as_str()) => {
            Err(ApiError::new(ErrorCode::ProtectedTag).detail(json!({"tag": tag.as_str()})))
        }
        Reference::Tag(_) => Ok(()),
        Reference::Digest(digest) => {
            let page = metadata.tags(name, None, usize::MAX).await?;
            for text in page.iter().flat_map(|page| &page.names) {
                let Ok(tag) = text.parse::<Tag>() else { continue };
                if protection.denies_delete(text) && metadata.resolve(name, &tag).await?.as_ref() == Some(digest) {
                    return Err(ApiError::new(ErrorCode::ProtectedManifest).detail(json!({"tag": text})));
                }
            }
            Ok(())
        }
    }
}
