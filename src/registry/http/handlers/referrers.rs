//! `/v2/<name>/referrers/<digest>`.

use hyper::{Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::paging::page_size;
use crate::registry::http::respond;
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::manifest::Referrer;
use crate::registry::oci::{Digest, RepoName, Tag, media_type};
use crate::serve::Body;

/// Entries of a page of referrers.
const REFERRERS_LIMIT: usize = 1000;

/// Lists what refers to a manifest, whether that exists or not.
pub async fn get(context: Context, name: &RepoName, digest: &Digest) -> Result<Response<Body>, ApiError> {
    let (context, subject) = (&context, digest);
    let limit = page_size(context)?.unwrap_or(REFERRERS_LIMIT).min(REFERRERS_LIMIT);
    let metadata = &context.shared.metadata;
    let mut found: Vec<Referrer> = metadata
        .referrers(name, subject)
        .await?
        .iter()
        .filter_map(|(digest, stored)| Some(Referrer::of(digest, &stored.content, &stored.manifest()?)))
        .collect();
    // What a client put under the fallback tag before, or for want of this API.
    if let Some(index) = metadata.resolve(name, &Tag::fallback(subject)).await?
        && let Some(stored) = metadata.manifest(name, &index).await?
    {
        for mut entry in Referrer::of_fallback(&stored.content) {
            let Ok(digest) = entry.digest.parse::<Digest>() else {
                continue;
            };
            if found.iter().any(|known| known.digest == entry.digest) {
                continue;
            }
            // The index may name what was deleted since.
            let Some(stored) = metadata.manifest(name, &digest).await? else {
                continue;
            };
            if entry.artifact_type.is_none()
                && let Some(manifest) = stored.manifest()
            {
                entry.artifact_type = Referrer::of(&digest, &stored.content, &manifest).artifact_type;
            }
            found.push(entry);
        }
    }
    let wanted = context.query_one("artifactType").filter(|wanted| !wanted.is_empty());
    if let Some(wanted) = &wanted {
        found.retain(|referrer| referrer.artifact_type.as_ref() == Some(wanted));
    }
    found.sort_by(|a, b| a.digest.cmp(&b.digest));
    if let Some(last) = context.query_one("last") {
        found.retain(|referrer| referrer.digest > last);
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let body = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": found});
    let mut response = respond::bytes(StatusCode::OK, media_type::OCI_INDEX, body.to_string());
    if wanted.is_some() {
        respond::set(&mut response, &[("oci-filters-applied", "artifactType")]);
    }
    if more && let Some(last) = found.last() {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let filter = wanted.map_or(String::new(), |wanted| format!("artifactType={}&", encoded(&wanted)));
        let path = context.request.uri().path();
        let link = format!(
            "<{path}?{filter}last={}&n={limit}>; rel=\"next\"",
            encoded(&last.digest)
        );
        respond::set(&mut response, &[("link", &link)]);
    }
    Ok(response)
}
