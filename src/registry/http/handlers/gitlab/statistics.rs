//! `/gitlab/v1/statistics/`.

use hyper::{Response, StatusCode};
use serde_json::json;

use super::base::database;
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::version::VERSION;
use crate::serve::Body;

/// Describes the registry.
pub async fn statistics(context: Context) -> Result<Response<Body>, ApiError> {
    let postgres = database(&context)?;
    let imports = postgres.imports().await?;
    let mut body = json!({
        "release": {"ext_features": "tag_delete", "version": VERSION},
        "database": {"enabled": true},
    });
    if let Some(imports) = imports {
        body["import"] = imports;
    }
    Ok(respond::json(StatusCode::OK, &body))
}
