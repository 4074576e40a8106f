//! `/gitlab/v1/`: GitLab's own API, which only a database can answer.

use std::sync::Arc;

use hyper::{Method, Response, StatusCode};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::registry::http::Context;
use crate::registry::http::respond::{self, Problem};
use crate::registry::metadata::postgres::gitlab::{Details, Extent, Marker, Order, Query, TagDetails, TagPage};
use crate::registry::metadata::{Postgres, Store};
use crate::registry::oci::{Digest, ErrorCode, GitlabRoute, RepoName, Tag};
use crate::serve::Body;

/// Entries of a page when nothing else is asked for, and at most.
const PAGE: (usize, usize) = (100, 1000);

/// Answers a request.
pub async fn dispatch(context: Context, route: &GitlabRoute) -> Result<Response<Body>, Problem> {
    let app = Arc::clone(&context.app);
    let Store::Database(postgres) = &app.metadata else {
        return Err(Problem::new(ErrorCode::NotImplemented));
    };
    if let GitlabRoute::Repository(name) = route
        && context.request.method() == Method::PATCH
    {
        return super::rename::rename(context, postgres, name).await;
    }
    let context = &context;
    match route {
        GitlabRoute::Base => Ok(respond::json(StatusCode::OK, &json!({}))),
        GitlabRoute::Statistics => statistics(context, postgres).await,
        GitlabRoute::Repository(name) => repository(context, postgres, name).await,
        GitlabRoute::Tags(name) => tags(context, postgres, name).await,
        GitlabRoute::Tag(name, wanted) => tag(context, postgres, name, wanted).await,
        GitlabRoute::Below(path) => below(context, postgres, path).await,
    }
}

fn invalid(parameter: &str, reason: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::InvalidQueryParameterValue).detail(json!({"parameter": parameter, "reason": reason.into()}))
}

fn unknown(name: &RepoName) -> Problem {
    Problem::new(ErrorCode::NameUnknown).detail(json!({"name": name.as_str()}))
}

/// Writes a time as GitLab's registry does: milliseconds, UTC.
fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string()
}

fn put_time(value: &mut Value, key: &str, at: Option<Timestamp>) {
    if let Some(at) = at {
        value[key] = time(at).into();
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn page_size(context: &Context) -> Result<usize, Problem> {
    let Some(text) = context.query_one("n") else {
        return Ok(PAGE.0);
    };
    let size: usize = text.parse().map_err(|_| {
        Problem::new(ErrorCode::InvalidQueryParameterType).detail(json!({"parameter": "n", "reason": "not a number"}))
    })?;
    if size == 0 || size > PAGE.1 {
        return Err(invalid("n", format!("must be between 1 and {}", PAGE.1)));
    }
    Ok(size)
}

async fn repository(context: &Context, postgres: &Postgres, name: &RepoName) -> Result<Response<Body>, Problem> {
    let extent = match context.query_one("size").as_deref() {
        None => None,
        Some("self") => Some(Extent::Own),
        Some("self_with_descendants") => Some(Extent::WithDescendants),
        Some(_) => return Err(invalid("size", "must be self or self_with_descendants")),
    };
    let details = postgres.details(name).await.map_err(|error| context.failed(error))?;
    let size = match extent {
        None => None,
        Some(extent) => postgres
            .size(name, extent)
            .await
            .map_err(|error| context.failed(error))?,
    };
    // What only has repositories below it has a size all the same.
    if details.is_none() && size.is_none() {
        return Err(unknown(name));
    }
    let mut body = described(name.as_str(), &details.unwrap_or_default());
    if let Some((bytes, exact)) = size {
        body["size_bytes"] = bytes.into();
        body["size_precision"] = if exact { "default" } else { "untagged" }.into();
    }
    Ok(respond::json(StatusCode::OK, &body))
}

fn described(path: &str, details: &Details) -> Value {
    let mut body = json!({"name": last_part(path), "path": path});
    put_time(&mut body, "created_at", details.created_at);
    put_time(&mut body, "updated_at", details.updated_at);
    put_time(&mut body, "last_published_at", details.last_published_at);
    body
}

/// Reads a place in a list: a name, or time and name in base64.
fn marker(parameter: &'static str, text: &str, order: Order) -> Result<Marker, Problem> {
    let broken = || invalid(parameter, "is no marker of this list");
    let checked = |name: &str| {
        let known = name.parse::<Tag>().map(|_| name.to_owned());
        known.map_err(|_| broken())
    };
    if !order.by_time {
        return Ok(Marker {
            name: checked(text)?,
            time: None,
        });
    }
    let bytes = data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| broken())?;
    let text = String::from_utf8(bytes).map_err(|_| broken())?;
    let (time, name) = text.split_once('|').ok_or_else(broken)?;
    Ok(Marker {
        name: checked(name)?,
        time: Some(time.parse().map_err(|_| broken())?),
    })
}

/// Writes a tag's place in a list.
fn marker_of(tag: &TagDetails, order: Order) -> String {
    if !order.by_time {
        return tag.name.clone();
    }
    let time = tag.published_at.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
    data_encoding::BASE64.encode(format!("{time}|{}", tag.name).as_bytes())
}

fn order(context: &Context) -> Result<Order, Problem> {
    let sort = context.query_one("sort").unwrap_or_else(|| "name".to_owned());
    let (descending, key) = sort.strip_prefix('-').map_or((false, sort.as_str()), |key| (true, key));
    match key {
        "name" | "published_at" => Ok(Order {
            by_time: key == "published_at",
            descending,
        }),
        _ => Err(invalid("sort", "must be name, -name, published_at or -published_at")),
    }
}

/// Reads which tags are asked for.
fn query(context: &Context) -> Result<Query, Problem> {
    let order = order(context)?;
    let wanted = |parameter: &'static str| match context.query_one(parameter).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if text.len() > 128 || !text.bytes().all(allowed) {
                return Err(invalid(parameter, "must match ^[a-zA-Z0-9._-]{1,128}$"));
            }
            Ok(Some(text))
        }
    };
    let name = match (wanted("name")?, wanted("name_exact")?) {
        (Some(_), Some(_)) => return Err(invalid("name_exact", "excludes name")),
        (Some(part), None) => Some((part, false)),
        (None, Some(whole)) => Some((whole, true)),
        (None, None) => None,
    };
    let place = |parameter: &'static str| match context.query_one(parameter) {
        None => Ok(None),
        Some(text) => marker(parameter, &text, order).map(Some),
    };
    let from = match (place("last")?, place("before")?) {
        (Some(_), Some(_)) => return Err(invalid("before", "excludes last")),
        (Some(last), None) => Some((last, true)),
        (None, Some(before)) => Some((before, false)),
        (None, None) => None,
    };
    Ok(Query {
        name,
        order,
        from,
        limit: page_size(context)?,
    })
}

async fn tags(context: &Context, postgres: &Postgres, name: &RepoName) -> Result<Response<Body>, Problem> {
    let query = query(context)?;
    let referrers = match context.query_one("referrers").as_deref() {
        None | Some("false" | "") => None,
        Some("true") => Some(context.query_one("referrer_type").unwrap_or_default()),
        Some(_) => return Err(invalid("referrers", "must be true or false")),
    };
    let page = postgres
        .tag_page(name, &query)
        .await
        .map_err(|error| context.failed(error))?;
    let page = page.ok_or_else(|| unknown(name))?;
    let attached = if referrers.is_some() {
        let digests: Vec<Digest> = page.tags.iter().filter_map(|tag| tag.digest.clone()).collect();
        let attached = postgres.attached(name, &digests).await;
        attached.map_err(|error| context.failed(error))?
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
                let of_kind = |kind: &Option<String>| {
                    kinds.is_empty() || kinds.split(',').any(|wanted| kind.as_deref() == Some(wanted.trim()))
                };
                item["referrers"] = attached
                    .iter()
                    .filter(|(subject, kind, _)| Some(subject) == tag.digest.as_ref() && of_kind(kind))
                    .map(|(_, kind, digest)| json!({"artifactType": kind, "digest": digest.to_string()}))
                    .collect();
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
    let path = context.url(context.request.uri().path());
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

/// Describes a manifest and its configuration.
fn image(tag: &TagDetails) -> Value {
    let mut manifest = json!({
        "digest": tag.digest.as_ref().map(ToString::to_string),
        "media_type": tag.media_type,
    });
    let mut image = json!({"size_bytes": tag.size});
    if let Some(config) = &tag.config_digest {
        let mut described = json!({"digest": config.to_string(), "media_type": tag.config_media_type});
        let read: Value = tag
            .configuration
            .as_deref()
            .and_then(|bytes| serde_json::from_slice(bytes).ok())
            .unwrap_or_default();
        if read["os"].is_string() || read["architecture"].is_string() {
            described["platform"] = json!({"architecture": read["architecture"], "os": read["os"]});
        }
        image["config"] = described;
    }
    image["manifest"] = std::mem::take(&mut manifest);
    image
}

async fn tag(context: &Context, postgres: &Postgres, name: &RepoName, wanted: &Tag) -> Result<Response<Body>, Problem> {
    let found = postgres
        .tag_details(name, wanted)
        .await
        .map_err(|error| context.failed(error))?;
    let Some((tag, children)) = found else {
        return Err(
            Problem::new(ErrorCode::ManifestUnknown).detail(json!({"name": name.as_str(), "tag": wanted.as_str()}))
        );
    };
    let mut image_of = image(&tag);
    if !children.is_empty() {
        image_of["manifest"]["references"] = children.iter().map(image).collect();
    }
    let mut body = json!({"repository": name.as_str(), "name": tag.name, "image": image_of});
    put_time(&mut body, "created_at", tag.created_at);
    put_time(&mut body, "updated_at", tag.updated_at);
    put_time(&mut body, "published_at", tag.published_at);
    Ok(respond::json(StatusCode::OK, &body))
}

async fn below(context: &Context, postgres: &Postgres, path: &RepoName) -> Result<Response<Body>, Problem> {
    let limit = page_size(context)?;
    let last = context.query_one("last");
    let (found, more) = postgres
        .repositories_below(path, last.as_deref(), limit)
        .await
        .map_err(|error| context.failed(error))?;
    let items = found.iter().map(|(path, details)| described(path, details)).collect();
    let mut response = respond::json(StatusCode::OK, &Value::Array(items));
    if more && let Some((last, _)) = found.last() {
        let url = context.url(context.request.uri().path());
        let last = utf8_percent_encode(last, NON_ALPHANUMERIC);
        respond::set(
            &mut response,
            &[("link", &format!("<{url}?last={last}&n={limit}>; rel=\"next\""))],
        );
    }
    Ok(response)
}

async fn statistics(context: &Context, postgres: &Postgres) -> Result<Response<Body>, Problem> {
    let imports = postgres.imports().await.map_err(|error| context.failed(error))?;
    Ok(respond::json(
        StatusCode::OK,
        &json!({
            "release": {"ext_features": "tag_delete", "version": crate::registry::VERSION},
            "database": {"enabled": true},
            "imports": imports,
        }),
    ))
}
