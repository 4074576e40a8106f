//! Taking a blob over from another repository.

use hyper::Response;

use super::answers::created;
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::metadata::Metadata as _;
use crate::registry::oci::{Digest, RepoName};
use crate::serve::Body;

/// Mounts a blob; nothing where it cannot be, so that it is to be pushed.
pub async fn mount(context: &Context, name: &RepoName, digest: &str) -> Result<Option<Response<Body>>, ApiError> {
    let Ok(digest) = digest.parse::<Digest>() else {
        return Ok(None);
    };
    let Some(from) = context.query_one("from").and_then(|from| from.parse::<RepoName>().ok()) else {
        return Ok(None);
    };
    let Some(blob) = context.shared.metadata.mount_blob(name, &from, &digest).await? else {
        return Ok(None);
    };
    context
        .notify_change("mount", name, |event| {
            event.media_type = "application/octet-stream".to_owned();
            event.digest = digest.to_string();
            event.size = Some(blob.size);
            event.from_repository = Some(from.to_string());
            event.url = context.url(&format!("/v2/{name}/blobs/{digest}"));
        })
        .await;
    Ok(Some(created(context, name, &digest)))
}
