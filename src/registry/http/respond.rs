//! Building answers, above all errors.

use std::borrow::Cow;

use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::registry::auth::Challenge;
use crate::registry::oci::ErrorCode;
use crate::serve::Body;

/// A request that cannot be answered as asked.
#[derive(Debug)]
pub struct Problem {
    code: ErrorCode,
    message: Option<Cow<'static, str>>,
    errors: Vec<Value>,
    challenge: Option<String>,
    headers: Vec<(&'static str, String)>,
}

impl Problem {
    /// Makes a problem.
    pub fn new(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
            errors: Vec::new(),
            challenge: None,
            headers: Vec::new(),
        }
    }

    /// Adds what exactly is wrong. Several details make several errors.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Value>) -> Self {
        self.errors.push(detail.into());
        self
    }

    /// Says something more exact than the code's own message.
    #[must_use]
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Makes the answer to a request that lacks rights.
    pub fn challenge(challenge: Challenge) -> Self {
        let missing: Vec<Value> = challenge
            .missing
            .iter()
            .flat_map(|scope| {
                scope
                    .actions
                    .iter()
                    .map(|action| json!({"Type": scope.kind, "Class": "", "Name": scope.name, "Action": action}))
            })
            .collect();
        let mut problem = Self::new(ErrorCode::Unauthorized).detail(missing);
        problem.challenge = Some(challenge.header());
        if let Some(reason) = challenge.reason {
            problem = problem.message(reason);
        }
        problem
    }

    /// Turns the problem into an answer.
    pub fn into_response(self) -> Response<Body> {
        let error = |detail: Option<Value>| {
            let mut error =
                json!({"code": self.code.code(), "message": self.message.as_deref().unwrap_or(self.code.message())});
            if let Some(detail) = detail {
                error["detail"] = detail;
            }
            error
        };
        let errors: Vec<Value> = if self.errors.is_empty() {
            vec![error(None)]
        } else {
            self.errors.iter().cloned().map(|detail| error(Some(detail))).collect()
        };
        let mut response = json(self.code.status(), &json!({"errors": errors}));
        let headers = response.headers_mut();
        if let Some(value) = self
            .challenge
            .as_deref()
            .and_then(|text| HeaderValue::from_str(text).ok())
        {
            headers.insert(WWW_AUTHENTICATE, value);
        }
        if self.code == ErrorCode::Unavailable {
            headers.insert(hyper::header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        for (name, value) in &self.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

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
