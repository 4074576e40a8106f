//! `/gitlab/v1/repositories/<path>/`.

use hyper::{Response, StatusCode};

use super::base::database;
use super::json::{described, invalid, unknown};
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::metadata::postgres::gitlab::Extent;
use crate::registry::oci::RepoName;
use crate::serve::Body;

/// Describes a repository, with its size where that is asked for.
pub async fn repository(context: Context, name: &RepoName) -> Result<Response<Body>, ApiError> {
    let context = &context;
    let postgres = database(context)?;
    let extent = match context.query_one("size").as_deref() {
        None | Some("") => None,
        Some("self") => Some(Extent::Own),
        Some("self_with_descendants") => Some(Extent::WithDescendants),
        Some(_) => return Err(invalid("size", "must be self or self_with_descendants")),
    };
    let details = postgres.details(name).await?;
    let size = match extent {
        None => None,
        Some(extent) => postgres.size(name, extent).await?,
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
