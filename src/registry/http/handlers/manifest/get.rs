//! Sending manifests.

use hyper::header::ACCEPT;
use hyper::{Response, StatusCode};

use super::rules::unknown;
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::handlers::conditional::matches_etag;
use crate::registry::http::respond;
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::manifest::{Descriptor, Manifest};
use crate::registry::oci::media_type::{self, Accept};
use crate::registry::oci::{Reference, RepoName};
use crate::serve::Body;

/// The platform that a client without support for lists gets.
const DEFAULT_PLATFORM: (&str, &str) = ("linux", "amd64");

/// Sends a manifest exactly as it was stored.
pub async fn get(context: Context, name: &RepoName, reference: &Reference) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let metadata = &context.shared.metadata;
    let found = match reference {
        Reference::Digest(digest) => {
            let stored = metadata.manifest(name, digest).await;
            stored.map(|stored| stored.map(|stored| (digest.clone(), stored)))
        }
        Reference::Tag(tag) => metadata.tagged(name, tag).await,
    };
    let found = found?;
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
            .await?
            .ok_or_else(|| unknown(name, reference))?;
    }
    let (content, media_type) = (&stored.content, &stored.media_type);
    let text = digest.to_string();
    let etag = format!("\"{text}\"");
    if matches_etag(context, &text) {
        return Ok(respond::empty(
            StatusCode::NOT_MODIFIED,
            &[("etag", &etag), ("docker-content-digest", &text)],
        ));
    }
    context.notify("pull", name, |event| {
        if context.shared.config.include_references {
            let manifest = stored.manifest();
            event.references = (manifest.iter().flat_map(Manifest::descriptors))
                .map(Descriptor::describe)
                .collect();
        }
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
