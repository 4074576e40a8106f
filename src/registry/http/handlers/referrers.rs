//! `/v2/<name>/referrers/<digest>`.

use hyper::{Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::paging::page_size;
use crate::registry::http::respond;
use crate::registry::metadata::{Metadata as _, ReferrerPage, Referrers};
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
    let wanted = context.query_one("artifactType").filter(|wanted| !wanted.is_empty());
    let last = context.query_one("last");
    let page = ReferrerPage {
        artifact_type: wanted.as_deref(),
        after: last.as_deref(),
        limit,
    };
    let attached = metadata.referrers(name, subject, page).await?;
    let kept = kept_by_clients(context, name, subject).await?;
    // Where more follows, what comes after it is not on this page.
    let end = attached.found.last().filter(|_| attached.more);
    let end = end.map(|last| last.digest.clone());
    let mut all = attached.found;
    for entry in kept {
        let is_on_page = end.as_ref().is_none_or(|end| entry.digest < *end);
        if is_on_page && !all.iter().any(|known| known.digest == entry.digest) {
            all.push(entry);
        }
    }
    all.sort_by(|a, b| a.digest.cmp(&b.digest));
    let mut merged = Referrers::default();
    for referrer in all {
        if !merged.add(page, referrer) {
            break;
        }
    }
    let (found, more) = (merged.found, merged.more || attached.more);
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

/// Returns what a client put under the fallback tag before, or for want of this API.
async fn kept_by_clients(context: &Context, name: &RepoName, subject: &Digest) -> Result<Vec<Referrer>, ApiError> {
    let metadata = &context.shared.metadata;
    let Some((_, index)) = metadata.tagged(name, &Tag::fallback(subject)).await? else {
        return Ok(Vec::new());
    };
    let mut kept = Vec::new();
    for mut entry in Referrer::of_fallback(&index.content) {
        let Ok(digest) = entry.digest.parse::<Digest>() else {
            continue;
        };
        // The index may name what was deleted since.
        let Some(stored) = metadata.manifest(name, &digest).await? else {
            continue;
        };
        if entry.artifact_type.is_none()
            && let Some(manifest) = stored.manifest()
        {
            entry.artifact_type = Referrer::of(&digest, &stored.content, &manifest).artifact_type;
        }
        kept.push(entry);
    }
    Ok(kept)
}
