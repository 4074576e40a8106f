//! `/gitlab/v1/repositories/<path>/tags/list/`.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::base::database;
use super::json::{invalid, put_time, unknown};
use super::query::{marker_of, query};
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::metadata::postgres::attached::Attached;
use crate::registry::metadata::postgres::gitlab::TagDetails;
use crate::registry::metadata::postgres::tag_page::{Query, TagPage};
use crate::registry::oci::{Digest, RepoName};
use crate::serve::Body;

/// Lists tags with what they stand for.
pub async fn tags(context: Context, name: &RepoName) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let postgres = database(context)?;
    let query = query(context)?;
    let referrers = match context.query_one("referrers").as_deref() {
        None | Some("false" | "") => None,
        Some("true") => Some(context.query_one("referrer_type").unwrap_or_default()),
        Some(_) => return Err(invalid("referrers", "must be true or false")),
    };
    let page = postgres.tag_page(name, &query).await?;
    let page = page.ok_or_else(|| unknown(name))?;
    let attached = if referrers.is_some() {
        let digests: Vec<Digest> = page.tags.iter().filter_map(|tag| tag.digest.clone()).collect();
        let attached = postgres.attached(name, &digests).await;
        attached?
    } else {
        Vec::new()
    };
    let items: Vec<Value> = page
        .tags
        .iter()
        .map(|tag| {
            let mut item = json!({
                "name": tag.name,
                "digest": tag.digest.as_ref().map(ToString::to_string),
                "media_type": tag.media_type,
                "size_bytes": tag.size,
            });
            if let Some(config) = &tag.config_digest {
                item["config_digest"] = config.to_string().into();
            }
            put_time(&mut item, "created_at", tag.created_at);
            put_time(&mut item, "updated_at", tag.updated_at);
            put_time(&mut item, "published_at", tag.published_at);
            if let Some(kinds) = &referrers {
                let of_kind =
                    |one: &Attached| kinds.is_empty() || kinds.split(',').any(|wanted| one.is_of(wanted.trim()));
                let own = attached
                    .iter()
                    .filter(|one| Some(&one.subject) == tag.digest.as_ref() && of_kind(one));
                let described: Vec<Value> = own
                    .map(|one| json!({"artifactType": one.kind(), "digest": one.digest.to_string()}))
                    .collect();
                if !described.is_empty() {
                    item["referrers"] = described.into();
                }
            }
            item
        })
        .collect();
    let mut response = respond::json(StatusCode::OK, &Value::Array(items));
    let link = links(context, &page, &query);
    if !link.is_empty() {
        respond::set(&mut response, &[("link", &link)]);
    }
    Ok(response)
}

/// Writes where the pages before and after are.
fn links(context: &Context, page: &TagPage, query: &Query) -> String {
    // As GitLab's registry writes them: as they were asked for, prefix and all.
    let path = context.request.uri().path();
    let kept: Vec<(String, String)> = ["name", "name_exact", "sort", "referrers", "referrer_type"]
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), context.query_one(key)?)))
        .collect();
    let link = |key: &str, tag: &TagDetails, relation: &str| {
        let mut parameters = url::form_urlencoded::Serializer::new(String::new());
        parameters.append_pair(key, &marker_of(tag, query.order));
        parameters.append_pair("n", &query.limit.to_string());
        parameters.extend_pairs(&kept);
        format!("<{path}?{}>; rel=\"{relation}\"", parameters.finish())
    };
    let before = page.tags.first().filter(|_| page.before);
    let after = page.tags.last().filter(|_| page.after);
    let mut all = Vec::new();
    all.extend(before.map(|tag| link("before", tag, "previous")));
    all.extend(after.map(|tag| link("last", tag, "next")));
    all.join(", ")
}
