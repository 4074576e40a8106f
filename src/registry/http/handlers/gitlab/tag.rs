//! `/gitlab/v1/repositories/<path>/tags/detail/<tag>/`.

use hyper::{Response, StatusCode};
use serde_json::json;

use super::base::database;
use super::json::{image, put_time, unknown};
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::oci::{ErrorCode, RepoName, Tag};
use crate::serve::Body;

/// Describes what a tag stands for.
pub async fn tag(context: Context, name: &RepoName, wanted: &Tag) -> Result<Response<Body>, ApiError> {
    let postgres = database(&context)?;
    let found = postgres.tag_details(name, wanted).await?;
    let Some((tag, children)) = found.ok_or_else(|| unknown(name))? else {
        return Err(ApiError::new(ErrorCode::TagUnknown).detail(json!({"name": name.as_str(), "tag": wanted.as_str()})));
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
