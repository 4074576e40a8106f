//! How things are written in answers.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::registry::http::error::ApiError;
use crate::registry::metadata::postgres::gitlab::{Details, TagDetails};
use crate::registry::oci::{ErrorCode, RepoName};

/// Answers that a parameter has no such value.
pub fn invalid(parameter: &str, reason: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidQueryParameterValue)
        .detail(json!({"parameter": parameter, "reason": reason.into()}))
}

/// Answers that there is no such repository.
pub fn unknown(name: &RepoName) -> ApiError {
    ApiError::new(ErrorCode::NameUnknown).detail(json!({"name": name.as_str()}))
}

/// Writes a time as GitLab's registry does: milliseconds, UTC.
pub fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Writes a time, where there is one.
pub fn put_time(value: &mut Value, key: &str, at: Option<Timestamp>) {
    if let Some(at) = at {
        value[key] = time(at).into();
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Describes a repository.
pub fn described(path: &str, details: &Details) -> Value {
    let mut body = json!({"name": last_part(path), "path": path});
    put_time(&mut body, "created_at", details.created_at);
    put_time(&mut body, "updated_at", details.updated_at);
    put_time(&mut body, "last_published_at", details.last_published_at);
    body
}

/// Describes a manifest and its configuration.
pub fn image(tag: &TagDetails) -> Value {
    let mut manifest = json!({
        "digest": tag.digest.as_ref().map(ToString::to_string),
        "media_type": tag.media_type,
    });
    let mut image = json!({"size_bytes": tag.size});
    if let Some(config) = &tag.config_digest {
        let mut described = json!({"digest": config.to_string(), "media_type": tag.config_media_type});
        let read = tag.configuration.as_deref().unwrap_or(b"null");
        // One that is no JSON names no platform, not even an unknown one.
        if let Ok(read) = serde_json::from_slice::<Value>(read) {
            let part = |name: &str| read[name].as_str().unwrap_or_default();
            described["platform"] = json!({"architecture": part("architecture"), "os": part("os")});
        }
        image["config"] = described;
    }
    image["manifest"] = std::mem::take(&mut manifest);
    image
}
