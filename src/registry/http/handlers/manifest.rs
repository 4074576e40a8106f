//! `/v2/<name>/manifests/<reference>`.

use std::collections::HashSet;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::client_has;
use crate::registry::config::Platforms;
use crate::registry::http::Context;
use crate::registry::http::respond::{self, Problem};
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::manifest::{Descriptor, Kind, Manifest, ManifestError};
use crate::registry::oci::media_type::{self, Accept};
use crate::registry::oci::{Algorithm, Digest, ErrorCode, Reference, RepoName, Tag};
use crate::serve::Body;

/// Largest manifest in bytes (OCI distribution-spec, "Pushing Manifests").
const LIMIT: usize = 4 << 20;
/// Errors that one answer holds at most.
const SHOWN_ERRORS: usize = 100;
/// Tags that one push by digest may set.
const MOST_TAGS: usize = 100;
/// The platform that a client without support for lists gets.
const DEFAULT_PLATFORM: (&str, &str) = ("linux", "amd64");

fn unknown(name: &RepoName, reference: &Reference) -> Problem {
    Problem::new(ErrorCode::ManifestUnknown).detail(json!({"name": name.as_str(), "reference": reference.to_string()}))
}

/// Sends a manifest exactly as it was stored.
pub async fn get(context: &Context, name: &RepoName, reference: &Reference) -> Result<Response<Body>, Problem> {
    let metadata = &context.app.metadata;
    let found = match reference {
        Reference::Digest(digest) => {
            let stored = metadata.manifest(name, digest).await;
            stored.map(|stored| stored.map(|stored| (digest.clone(), stored)))
        }
        Reference::Tag(tag) => metadata.tagged(name, tag).await,
    };
    let found = found.map_err(|error| context.failed(error))?;
    let (mut digest, mut stored) = found.ok_or_else(|| unknown(name, reference))?;
    // A client from before manifest lists asks by tag and wants an image.
    if matches!(reference, Reference::Tag(_))
        && stored.media_type == media_type::DOCKER_LIST
        && let accept = accepted(context)
        && accept.names(media_type::DOCKER_MANIFEST)
        && !accept.names(media_type::DOCKER_LIST)
        && let Some(list) = stored.manifest()
        && let Some(entry) = list.for_platform(DEFAULT_PLATFORM.0, DEFAULT_PLATFORM.1)
    {
        digest = entry.digest.clone();
        stored = metadata
            .manifest(name, &digest)
            .await
            .map_err(|error| context.failed(error))?
            .ok_or_else(|| unknown(name, reference))?;
    }
    let (content, media_type) = (&stored.content, &stored.media_type);
    let text = digest.to_string();
    let etag = format!("\"{text}\"");
    if client_has(context, &text) {
        return Ok(respond::empty(
            StatusCode::NOT_MODIFIED,
            &[("etag", &etag), ("docker-content-digest", &text)],
        ));
    }
    context.notify("pull", name, |event| {
        event.media_type = media_type.to_string();
        event.digest.clone_from(&text);
        event.size = Some(content.len() as u64);
        event.url = context.url(&format!("/v2/{name}/manifests/{text}"));
        if let Reference::Tag(tag) = reference {
            event.tag = Some(tag.to_string());
        }
    });
    let mut response = respond::bytes(StatusCode::OK, media_type, content.clone());
    respond::set(&mut response, &[("docker-content-digest", &text), ("etag", &etag)]);
    Ok(response)
}

fn accepted(context: &Context) -> Accept {
    let lines = context.request.headers().get_all(ACCEPT);
    Accept::parse(lines.iter().filter_map(|value| value.to_str().ok()))
}

/// Stores a manifest whose references are all there.
pub async fn put(mut context: Context, name: &RepoName, reference: &Reference) -> Result<Response<Body>, Problem> {
    let body = Limited::new(context.request.body_mut(), LIMIT).collect().await;
    let content = match body {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(
                Problem::new(ErrorCode::ManifestTooLarge).detail(format!("a manifest has at most {LIMIT} bytes"))
            );
        }
        Err(error) => return Err(Problem::new(ErrorCode::ManifestInvalid).detail(error.to_string())),
    };
    let rules = &context.app.config.validation;
    if let Some(limit) = rules.size_limit.filter(|limit| content.len() > *limit) {
        return Err(
            Problem::new(ErrorCode::ManifestSizeLimit).detail(format!("{} bytes, {limit} are allowed", content.len()))
        );
    }
    let content_type = context.header(CONTENT_TYPE).map(media_type::essence);
    let manifest = Manifest::parse(&content, content_type.as_deref()).map_err(|error| match error {
        // Clients print the code and the message, as the documents quote it.
        ManifestError::Schema1 => Problem::new(ErrorCode::ManifestInvalid).message("Schema 1 manifest not supported"),
        other => Problem::new(ErrorCode::ManifestInvalid).detail(other.to_string()),
    })?;
    check_rules(&context, &manifest)?;
    let (digest, tags): (Digest, Vec<Tag>) = match reference {
        Reference::Tag(tag) => (Digest::of(Algorithm::Sha256, &content), vec![tag.clone()]),
        Reference::Digest(claimed) => {
            let computed = Digest::of(claimed.algorithm(), &content);
            if computed != *claimed {
                return Err(Problem::new(ErrorCode::DigestInvalid)
                    .detail(json!({"claimed": claimed.to_string(), "computed": computed.to_string()})));
            }
            (computed, asked_tags(&context)?)
        }
    };
    let _passing = context.app.gate.pass().await;
    let missing = missing_references(&context, name, &manifest).await?;
    if !missing.is_empty() {
        return Err(missing
            .into_iter()
            .fold(Problem::new(ErrorCode::ManifestBlobUnknown), |problem, digest| {
                problem.detail(json!({"digest": digest.to_string()}))
            }));
    }
    for tag in &tags {
        let protection = &context.actor.protection;
        let mut moves = false;
        if protection.limits_moves() {
            let now = context.app.metadata.resolve(name, tag).await;
            let now = now.map_err(|error| context.failed(error))?;
            moves = now.is_some_and(|now| now != digest);
        }
        if protection.denies_push(tag.as_str(), moves) {
            return Err(Problem::new(ErrorCode::ProtectedTag).detail(json!({"tag": tag.as_str()})));
        }
    }
    context
        .app
        .gate
        .note([&digest].into_iter().chain(manifest.references()));
    let size = content.len() as u64;
    context
        .app
        .metadata
        .put_manifest(name, &digest, content, &tags)
        .await
        .map_err(|error| context.failed(error))?;
    let text = digest.to_string();
    let location = context.url(&format!("/v2/{name}/manifests/{text}"));
    context.notify("push", name, |event| {
        if context.app.config.include_references {
            event.references = manifest.descriptors().map(Descriptor::describe).collect();
        }
        event.media_type.clone_from(&manifest.media_type);
        event.digest.clone_from(&text);
        event.size = Some(size);
        event.tag = tags.first().map(ToString::to_string);
        event.url.clone_from(&location);
    });
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

/// Checks a manifest against the limits and patterns of the configuration.
fn check_rules(context: &Context, manifest: &Manifest) -> Result<(), Problem> {
    let rules = &context.app.config.validation;
    let count = manifest.references().count();
    if let Some(limit) = rules.reference_limit.filter(|limit| count > *limit) {
        return Err(
            Problem::new(ErrorCode::ManifestReferenceLimit).detail(format!("{count} references, {limit} are allowed"))
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
            return Err(Problem::new(ErrorCode::ManifestInvalid).detail(format!("invalid URL on layer: {url}")));
        }
    }
    Ok(())
}

/// Returns the tags that a push by digest asks for in its query.
fn asked_tags(context: &Context) -> Result<Vec<Tag>, Problem> {
    let asked = context.query("tag");
    if asked.len() > MOST_TAGS {
        return Err(Problem::new(ErrorCode::TooManyTags).detail(format!(
            "{} tags are asked for, at most {MOST_TAGS} are taken",
            asked.len()
        )));
    }
    let mut tags: Vec<Tag> = Vec::with_capacity(asked.len());
    for text in asked {
        let tag = text
            .parse()
            .map_err(|error| Problem::new(ErrorCode::TagInvalid).detail(format!("{text}: {error}")))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// Returns what a manifest refers to and the repository does not hold, as much
/// of it as anybody can use.
async fn missing_references(context: &Context, name: &RepoName, manifest: &Manifest) -> Result<Vec<Digest>, Problem> {
    let metadata = &context.app.metadata;
    let (descriptors, is_index): (Vec<&Descriptor>, bool) = match &manifest.kind {
        // A layer with URLs may be fetched from elsewhere.
        Kind::Image { config, layers } => (
            std::iter::once(config)
                .chain(layers.iter().filter(|layer| layer.urls.is_empty()))
                .collect(),
            false,
        ),
        Kind::Index { manifests } => {
            let required = |entry: &&Descriptor| match &context.app.config.validation.platforms {
                Platforms::All => true,
                Platforms::None => false,
                Platforms::Listed(listed) => entry
                    .platform
                    .as_ref()
                    .is_some_and(|platform| listed.contains(platform)),
            };
            (manifests.iter().filter(required).collect(), true)
        }
    };
    let mut seen = HashSet::new();
    let digests: Vec<Digest> = descriptors
        .into_iter()
        .map(|descriptor| descriptor.digest.clone())
        .filter(|digest| seen.insert(digest.clone()))
        .collect();
    // Build caches are indexes of blobs.
    let missing = metadata.missing(name, &digests, is_index).await;
    let mut missing = missing.map_err(|error| context.failed(error))?;
    missing.truncate(SHOWN_ERRORS);
    Ok(missing)
}

/// Refuses the deletion of a protected tag, or of a manifest that has one.
async fn check_protection(context: &Context, name: &RepoName, reference: &Reference) -> Result<(), Problem> {
    let protection = &context.actor.protection;
    let metadata = &context.app.metadata;
    match reference {
        Reference::Tag(tag) if protection.denies_delete(tag.as_str()) => {
            Err(Problem::new(ErrorCode::ProtectedTag).detail(json!({"tag": tag.as_str()})))
        }
        Reference::Tag(_) => Ok(()),
        Reference::Digest(digest) => {
            let page = metadata
                .tags(name, None, usize::MAX)
                .await
                .map_err(|error| context.failed(error))?;
            for text in page.iter().flat_map(|page| &page.names) {
                let Ok(tag) = text.parse::<Tag>() else { continue };
                if protection.denies_delete(text)
                    && metadata
                        .resolve(name, &tag)
                        .await
                        .map_err(|error| context.failed(error))?
                        .as_ref()
                        == Some(digest)
                {
                    return Err(Problem::new(ErrorCode::ProtectedManifest).detail(json!({"tag": text})));
                }
            }
            Ok(())
        }
    }
}

/// Removes a tag, or a manifest with all its tags.
pub async fn delete(context: &Context, name: &RepoName, reference: &Reference) -> Result<Response<Body>, Problem> {
    let app = &context.app;
    if !app.config.storage.delete {
        return Err(Problem::new(ErrorCode::Unsupported).header("allow", "GET, HEAD, OPTIONS, PUT".to_owned()));
    }
    if context.actor.protection.limits_deletion() {
        check_protection(context, name, reference).await?;
    }
    let removed = match reference {
        Reference::Tag(tag) => app.metadata.delete_tag(name, tag).await,
        Reference::Digest(digest) => app.metadata.delete_manifest(name, digest).await,
    };
    if !removed.map_err(|error| context.failed(error))? {
        return Err(unknown(name, reference));
    }
    context.notify("delete", name, |event| match reference {
        Reference::Tag(tag) => event.tag = Some(tag.to_string()),
        Reference::Digest(digest) => event.digest = digest.to_string(),
    });
    Ok(respond::empty(StatusCode::ACCEPTED, &[]))
}
