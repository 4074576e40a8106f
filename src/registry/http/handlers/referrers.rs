//! `/v2/<name>/referrers/<digest>`.

use std::collections::HashSet;

use hyper::{Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::paging::page_size;
use crate::registry::http::respond;
use crate::registry::metadata::{Metadata as _, ReferrerPage, Referrers};
use crate::registry::oci::referrer::Referrer;
use crate::registry::oci::{Digest, ErrorCode, RepoName, Tag, media_type};
use crate::serve::Body;

/// Entries of a page of referrers.
const REFERRERS_LIMIT: usize = 1000;
/// How many entries that clients keep may be looked up in vain for one page.
const SPARE_LOOKS: usize = 100;

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'a [Referrer],
}

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
    let mut kept = kept_by_clients(context, name, subject).await?;
    // Where more follows, what comes after it is not on this page.
    let end = attached.found.last().filter(|_| attached.more);
    let end = end.map(|last| last.digest.clone());
    let known: HashSet<&str> = attached.found.iter().map(|entry| entry.digest.as_str()).collect();
    let mut kept_once = HashSet::new();
    kept.retain(|entry| {
        // What is of another type need not be looked up.
        let is_of_type = |wanted: &str| entry.artifact_type.as_deref().is_none_or(|own| own == wanted);
        let is_on_page =
            end.as_ref().is_none_or(|end| entry.digest < *end) && last.as_ref().is_none_or(|last| entry.digest > *last);
        is_on_page
            && wanted.as_deref().is_none_or(is_of_type)
            && !known.contains(entry.digest.as_str())
            && kept_once.insert(entry.digest.clone())
    });
    let mut all: Vec<(Referrer, bool)> = attached.found.into_iter().map(|entry| (entry, true)).collect();
    all.extend(kept.into_iter().map(|entry| (entry, false)));
    all.sort_by(|(a, _), (b, _)| a.digest.cmp(&b.digest));
    let mut merged = Referrers::default();
    let mut looks = 0;
    // Where the page ends before its last entry, the next one begins.
    let mut passed = None;
    for (mut referrer, is_there) in all {
        if !is_there {
            // What clients keep may name what was deleted; it is looked for as long as there is room.
            if looks == limit + SPARE_LOOKS {
                merged.more = true;
                break;
            }
            looks += 1;
            if !complete(context, name, &mut referrer).await? {
                passed = Some(referrer.digest);
                continue;
            }
        }
        let digest = referrer.digest.clone();
        if !merged.add(page, referrer) {
            break;
        }
        passed = Some(digest);
    }
    let (found, more) = (merged.found, merged.more || attached.more);
    let index = Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX,
        manifests: &found,
    };
    let body = serde_json::to_vec(&index).map_err(|error| ApiError::new(ErrorCode::Unknown).caused_by(error))?;
    let mut response = respond::bytes(StatusCode::OK, media_type::OCI_INDEX, body);
    if wanted.is_some() {
        respond::set(&mut response, &[("oci-filters-applied", "artifactType")]);
    }
    if more && let Some(last) = passed {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let filter = wanted.map_or(String::new(), |wanted| format!("artifactType={}&", encoded(&wanted)));
        let path = context.request.uri().path();
        let link = format!("<{path}?{filter}last={}&n={limit}>; rel=\"next\"", encoded(&last));
        respond::set(&mut response, &[("link", &link)]);
    }
    Ok(response)
}

/// Returns what a client put under the fallback tag before, or for want of
/// this API. It may name what was deleted since.
async fn kept_by_clients(context: &Context, name: &RepoName, subject: &Digest) -> Result<Vec<Referrer>, ApiError> {
    let metadata = &context.shared.metadata;
    let found = metadata.tagged(name, &Tag::fallback(subject)).await?;
    Ok(found.map_or_else(Vec::new, |(_, index)| Referrer::of_fallback(&index.content)))
}

/// Adds to an entry what its manifest says; says whether that is there.
async fn complete(context: &Context, name: &RepoName, entry: &mut Referrer) -> Result<bool, ApiError> {
    let Ok(digest) = entry.digest.parse::<Digest>() else {
        return Ok(false);
    };
    let Some(stored) = context.shared.metadata.manifest(name, &digest).await? else {
        return Ok(false);
    };
    if entry.artifact_type.is_none()
        && let Some(manifest) = stored.manifest()
    {
        entry.artifact_type = Referrer::of(&digest, &stored.content, &manifest).artifact_type;
    }
    Ok(true)
}
