//! Taking manifests.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::rules::{check_rules, moves};
use crate::registry::http::body::{BodyError, whole};
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::metadata::{Metadata as _, PutManifest};
use crate::registry::oci::manifest::{Descriptor, Manifest, ManifestError};
use crate::registry::oci::references::required;
use crate::registry::oci::{Algorithm, Digest, ErrorCode, ParsedManifest, Reference, RepoName, Tag, media_type};
use crate::serve::Body;

/// Largest manifest in bytes (OCI distribution-spec, "Pushing Manifests").
const LIMIT: usize = 4 << 20;
/// Tags that one push by digest may set.
const MAX_TAGS: usize = 100;

/// Stores a manifest whose references are all there.
pub async fn put(mut context: Context, name: &RepoName, reference: &Reference) -> Result<Response<Body>, ApiError> {
    let content = receive(&mut context).await?;
    let content_type = context.header(CONTENT_TYPE).map(media_type::essence);
    let manifest = Manifest::parse(&content, content_type.as_deref()).map_err(|error| match error {
        // Clients print the code and the message, as the documents quote it.
        ManifestError::Schema1 => ApiError::new(ErrorCode::ManifestInvalid).message("Schema 1 manifest not supported"),
        other => ApiError::new(ErrorCode::ManifestInvalid).detail(other.to_string()),
    })?;
    check_rules(&context, &manifest)?;
    let (digest, tags) = target(&context, reference, &content)?;
    let size = content.len() as u64;
    let parsed = ParsedManifest {
        digest,
        content,
        manifest,
    };
    let put = PutManifest {
        manifest: &parsed,
        required: &required(&parsed.manifest, &context.shared.config.validation.platforms),
        tags: &moves(&context, &tags)?,
    };
    context.shared.metadata.put_manifest(name, put).await?;
    let ParsedManifest { digest, manifest, .. } = parsed;
    let text = digest.to_string();
    let location = context.url(&format!("/v2/{name}/manifests/{text}"));
    let event = context.notify_change("push", name, |event| {
        if context.shared.config.include_references {
            event.references = manifest.descriptors().map(Descriptor::describe).collect();
        }
        event.media_type.clone_from(&manifest.media_type);
        event.digest.clone_from(&text);
        event.size = Some(size);
        event.tag = tags.first().map(ToString::to_string);
        event.url.clone_from(&location);
    });
    event.await;
    let mut response = respond::empty(
        StatusCode::CREATED,
        &[("location", &location), ("docker-content-digest", &text)],
    );
    if matches!(reference, Reference::Digest(_)) {
        for tag in &tags {
            if let Ok(value) = HeaderValue::from_str(tag.as_str()) {
                response.headers_mut().append("oci-tag", value);
            }
        }
    }
    if let Some(subject) = &manifest.subject {
        respond::set(&mut response, &[("oci-subject", &subject.digest.to_string())]);
    }
    Ok(response)
}

/// Takes a manifest in.
async fn receive(context: &mut Context) -> Result<Bytes, ApiError> {
    let body = whole(context.request.body_mut(), LIMIT).await;
    let content = body.map_err(|error| match error {
        BodyError::TooLarge(limit) => {
            ApiError::new(ErrorCode::ManifestTooLarge).detail(format!("a manifest has at most {limit} bytes"))
        }
        BodyError::Incomplete(reason) => ApiError::new(ErrorCode::ManifestInvalid).detail(reason),
    })?;
    let limit = context.shared.config.validation.size_limit;
    if let Some(limit) = limit.filter(|limit| content.len() > *limit) {
        return Err(
            ApiError::new(ErrorCode::ManifestSizeLimit).detail(format!("{} bytes, {limit} are allowed", content.len()))
        );
    }
    Ok(content)
}

/// Returns a manifest's digest, and the tags that are to stand for it.
fn target(context: &Context, reference: &Reference, content: &Bytes) -> Result<(Digest, Vec<Tag>), ApiError> {
    match reference {
        Reference::Tag(tag) => Ok((Digest::of(Algorithm::Sha256, content), vec![tag.clone()])),
        Reference::Digest(claimed) => {
            let computed = Digest::of(claimed.algorithm(), content);
            if computed != *claimed {
                return Err(ApiError::new(ErrorCode::DigestInvalid)
                    .detail(json!({"claimed": claimed.to_string(), "computed": computed.to_string()})));
            }
            Ok((computed, asked_tags(context)?))
        }
    }
}

/// Returns the tags that a push by digest asks for in its query.
fn asked_tags(context: &Context) -> Result<Vec<Tag>, ApiError> {
    let asked = context.query("tag");
    if asked.len() > MAX_TAGS {
        return Err(ApiError::new(ErrorCode::TooManyTags).detail(format!(
            "{} tags requested, at most {MAX_TAGS} are allowed",
            asked.len()
        )));
    }
    let mut tags: Vec<Tag> = Vec::with_capacity(asked.len());
    for text in asked {
        let tag = text
            .parse()
            .map_err(|error| ApiError::new(ErrorCode::TagInvalid).detail(format!("{text}: {error}")))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}
