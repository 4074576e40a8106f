//! What manifests and tags must keep to.

use serde_json::json;

use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::metadata::Moves;
use crate::registry::oci::manifest::{Kind, Manifest};
use crate::registry::oci::{ErrorCode, Reference, RepoName, Tag};

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

/// Says of each tag whether it may be moved to a manifest, where it may be set at all.
pub fn moves(context: &Context, tags: &[Tag]) -> Result<Vec<(Tag, Moves)>, ApiError> {
    let protection = &context.actor.protection;
    if !tags.is_empty() {
        protection.check_push()?;
    }
    let judged = tags.iter().map(|tag| {
        let name = tag.as_str();
        if let Some(denial) = protection.denies_push(name, false) {
            return Err(ApiError::new(denial.into()).detail(json!({"tag": name})));
        }
        let moves = if protection.denies_push(name, true).is_some() {
            Moves::Refused
        } else {
            Moves::Allowed
        };
        Ok((tag.clone(), moves))
    });
    judged.collect()
}
