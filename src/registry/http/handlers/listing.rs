//! `/v2/_catalog`, `/v2/<name>/tags/list` and `/v2/<name>/referrers/<digest>`.

use hyper::{Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::registry::http::Context;
use crate::registry::http::respond::{self, Problem};
use crate::registry::metadata::{Metadata as _, Page};
use crate::registry::oci::manifest::Referrer;
use crate::registry::oci::{Digest, ErrorCode, RepoName, Tag, media_type};
use crate::serve::Body;

/// Entries of a page of referrers.
const REFERRERS_LIMIT: usize = 1000;

/// Reads `n`.
fn page_size(context: &Context) -> Result<Option<usize>, Problem> {
    match context.query_one("n") {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| Problem::new(ErrorCode::PaginationNumberInvalid).detail(json!({"n": text}))),
    }
}

fn with_link(mut response: Response<Body>, path: &str, page: &Page, limit: usize) -> Response<Body> {
    if page.more
        && let Some(last) = page.names.last()
    {
        let last = utf8_percent_encode(last, NON_ALPHANUMERIC);
        respond::set(
            &mut response,
            &[("link", &format!("<{path}?last={last}&n={limit}>; rel=\"next\""))],
        );
    }
    response
}

/// Lists repositories.
pub async fn catalog(context: &Context) -> Result<Response<Body>, Problem> {
    let most = context.app.config.catalog_limit;
    let limit = page_size(context)?.unwrap_or(most);
    if limit > most || limit == 0 {
        return Err(Problem::new(ErrorCode::PaginationNumberInvalid).detail(json!({"n": limit})));
    }
    let last = context.query_one("last");
    let page = context
        .app
        .metadata
        .repositories(last.as_deref(), limit)
        .await
        .map_err(|error| context.failed(error))?;
    let response = respond::json(StatusCode::OK, &json!({"repositories": page.names}));
    Ok(with_link(response, &context.path("/v2/_catalog"), &page, limit))
}

/// Lists a repository's tags.
pub async fn tags(context: &Context, name: &RepoName) -> Result<Response<Body>, Problem> {
    let asked = page_size(context)?;
    let limit = asked.map_or(usize::MAX, |n| n.min(context.app.config.tags_limit));
    let last = context.query_one("last");
    let page = context
        .app
        .metadata
        .tags(name, last.as_deref(), limit)
        .await
        .map_err(|error| context.failed(error))?;
    let page = page.ok_or_else(|| Problem::new(ErrorCode::NameUnknown).detail(json!({"name": name.as_str()})))?;
    let response = respond::json(StatusCode::OK, &json!({"name": name.as_str(), "tags": page.names}));
    Ok(with_link(response, context.request.uri().path(), &page, limit))
}

/// Lists what refers to a manifest, whether that exists or not.
pub async fn referrers(context: &Context, name: &RepoName, subject: &Digest) -> Result<Response<Body>, Problem> {
    let limit = page_size(context)?.unwrap_or(REFERRERS_LIMIT).min(REFERRERS_LIMIT);
    let metadata = &context.app.metadata;
    let mut found: Vec<Referrer> = metadata
        .referrers(name, subject)
        .await
        .map_err(|error| context.failed(error))?
        .iter()
        .filter_map(|(digest, stored)| Some(Referrer::of(digest, &stored.content, &stored.manifest()?)))
        .collect();
    // What a client put under the fallback tag before, or for want of this API.
    if let Some(index) = metadata
        .resolve(name, &Tag::fallback(subject))
        .await
        .map_err(|error| context.failed(error))?
        && let Some(stored) = metadata
            .manifest(name, &index)
            .await
            .map_err(|error| context.failed(error))?
    {
        for mut entry in Referrer::of_fallback(&stored.content) {
            let Ok(digest) = entry.digest.parse::<Digest>() else {
                continue;
            };
            if found.iter().any(|known| known.digest == entry.digest) {
                continue;
            }
            // The index may name what was deleted since.
            let Some(stored) = metadata
                .manifest(name, &digest)
                .await
                .map_err(|error| context.failed(error))?
            else {
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
