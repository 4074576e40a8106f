//! What is asked for in queries.

use super::json::invalid;
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::metadata::postgres::gitlab::TagDetails;
use crate::registry::metadata::postgres::tag_page::{Marker, Order, Query};
use crate::registry::oci::{ErrorCode, Tag};
use serde_json::json;

/// Entries of a page when nothing else is asked for, and at most.
const PAGE: (usize, usize) = (100, 1000);

/// Reads how many entries a page is to have.
pub fn page_size(context: &Context) -> Result<usize, ApiError> {
    let Some(text) = context.query_one("n") else {
        return Ok(PAGE.0);
    };
    let size: i64 = text.parse().map_err(|_| {
        ApiError::new(ErrorCode::InvalidQueryParameterType).detail(json!({"parameter": "n", "reason": "not a number"}))
    })?;
    let size = usize::try_from(size).ok().filter(|size| (1..=PAGE.1).contains(size));
    size.ok_or_else(|| invalid("n", format!("must be between 1 and {}", PAGE.1)))
}

/// Reads a place in a list: a name, or time and name in base64, whatever the
/// order is. Without a time, those of all times count by their names.
fn marker(parameter: &'static str, text: &str, order: Order) -> Result<Marker, ApiError> {
    let decoded = data_encoding::BASE64.decode(text.as_bytes()).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let with_time = decoded.as_deref().and_then(|text| {
        let (time, name) = text.split_once('|')?;
        Some((time.parse().ok()?, name))
    });
    let (time, name) = with_time.map_or((None, text), |(time, name)| (Some(time), name));
    let known = name.parse::<Tag>();
    let known = known.map_err(|_| invalid(parameter, "is no marker of this list"))?;
    Ok(Marker {
        name: known.to_string(),
        time: time.filter(|_| order.by_time),
    })
}

/// Writes a tag's place in a list.
pub fn marker_of(tag: &TagDetails, order: Order) -> String {
    if !order.by_time {
        return tag.name.clone();
    }
    let time = tag.published_at.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
    data_encoding::BASE64.encode(format!("{time}|{}", tag.name).as_bytes())
}

fn order(context: &Context) -> Result<Order, ApiError> {
    let sort = context.query_one("sort").unwrap_or_default();
    let sort = sort.trim().to_ascii_lowercase();
    let (descending, key) = sort.strip_prefix('-').map_or((false, sort.as_str()), |key| (true, key));
    match key {
        "" | "name" | "published_at" => Ok(Order {
            by_time: key == "published_at",
            descending,
        }),
        _ => Err(invalid("sort", "must be name, -name, published_at or -published_at")),
    }
}

/// Reads which tags are asked for.
pub fn query(context: &Context) -> Result<Query, ApiError> {
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
    let limit = page_size(context)?;
    // One tag is no list of several pages.
    let is_exact = matches!(name, Some((_, true)));
    Ok(Query {
        name,
        order,
        from: from.filter(|_| !is_exact),
        limit,
    })
}
