//! `/gitlab/v1/`.

use hyper::{Response, StatusCode};
use serde_json::json;

use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::metadata::{Postgres, Store};
use crate::registry::oci::ErrorCode;
use crate::serve::Body;

/// Returns the database, without which there are no routes here.
pub fn database(context: &Context) -> Result<&Postgres, ApiError> {
    match &context.shared.metadata {
        Store::Database(database) => Ok(database.rows()),
        Store::Files(_) => Err(ApiError::new(ErrorCode::NotImplemented)),
    }
}

/// Says that there is such an API.
pub async fn base(_: Context) -> Result<Response<Body>, ApiError> {
    Ok(respond::json(StatusCode::OK, &json!({})))
}
