//! Building answers.

use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::serve::Body;

/// Answers without a body.
pub fn empty(status: StatusCode, headers: &[(&'static str, &str)]) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let map = response.headers_mut();
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        map.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    set(&mut response, headers);
    response
}

/// Answers with JSON.
pub fn json(status: StatusCode, body: &Value) -> Response<Body> {
    bytes(status, "application/json", format!("{body}\n").into_bytes())
}

/// Answers with plain text.
pub fn text(status: StatusCode, body: &str) -> Response<Body> {
    bytes(status, "text/plain; charset=utf-8", body.as_bytes().to_vec())
}

/// Answers with bytes of a type. The length is announced even where the body
/// is cut off later, as for HEAD.
pub fn bytes(status: StatusCode, content_type: &str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let body: bytes::Bytes = body.into();
    let length = body.len();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    response
}

/// Sets headers on an answer; values that HTTP cannot carry are left out.
pub fn set(response: &mut Response<Body>, headers: &[(&'static str, &str)]) {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}
