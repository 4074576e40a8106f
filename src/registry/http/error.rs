//! Requests that cannot be answered as asked, and how each failure answers.

use std::borrow::Cow;
use std::error::Error;

use hyper::Response;
use hyper::header::{HeaderName, HeaderValue, WWW_AUTHENTICATE};
use serde_json::{Value, json};

use super::respond;
use crate::registry::auth::{Challenge, Denial, PatternError};
use crate::registry::health::Trouble;
use crate::registry::metadata::{DatabaseError, MetadataError};
use crate::registry::oci::ErrorCode;
use crate::registry::storage::{StorageError, StorageErrorKind};
use crate::serve::Body;

/// Why a write is refused that has no room; the one cause that clients hear,
/// since whoever can do something about it may be at their end.
const NO_SPACE: &str = "no space left on the registry's storage";

/// Errors that one answer holds at most.
const SHOWN_ERRORS: usize = 100;

/// A request that cannot be answered as asked.
#[derive(Debug)]
pub struct ApiError {
    code: ErrorCode,
    message: Option<Cow<'static, str>>,
    errors: Vec<Value>,
    challenge: Option<String>,
    headers: Vec<(&'static str, String)>,
    /// What failed in the server: for its log, and for nobody else.
    cause: Option<Cause>,
    /// What is wrong with the registry, not with the request alone.
    trouble: Option<Trouble>,
}

/// What failed in the server.
pub type Cause = Box<dyn Error + Send + Sync>;

impl ApiError {
    /// Makes an error.
    pub fn new(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
            errors: Vec::new(),
            challenge: None,
            headers: Vec::new(),
            cause: None,
            trouble: None,
        }
    }

    /// Adds what failed in the server.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    fn means(mut self, trouble: Option<Trouble>) -> Self {
        self.trouble = trouble;
        self
    }

    /// Takes out what failed in the server, so that it can be logged.
    pub fn take_cause(&mut self) -> Option<Cause> {
        self.cause.take()
    }

    /// Returns what is wrong with the registry, not with the request alone.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble
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
        let mut error = Self::new(ErrorCode::Unauthorized).detail(missing);
        error.challenge = Some(challenge.header());
        if let Some(reason) = challenge.reason {
            error = error.message(reason);
        }
        error
    }

    /// Turns the error into an answer.
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
        let mut response = respond::json(self.code.status(), &json!({"errors": errors}));
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

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        let answer = match error.kind() {
            StorageErrorKind::NoSpace => Self::new(ErrorCode::NoSpace).detail(NO_SPACE),
            StorageErrorKind::ReadOnly => Self::new(ErrorCode::Unavailable).detail("the storage is read-only for now"),
            StorageErrorKind::Unavailable => Self::new(ErrorCode::Unavailable),
            StorageErrorKind::Conflict | StorageErrorKind::Denied | StorageErrorKind::Other => {
                Self::new(ErrorCode::Unknown)
            }
        };
        let trouble = trouble_of(&error);
        answer.caused_by(error).means(trouble)
    }
}

/// Says what a failure of the storage means for the registry as a whole.
pub fn trouble_of(error: &StorageError) -> Option<Trouble> {
    match error.kind() {
        StorageErrorKind::NoSpace => Some(Trouble::NoSpace),
        StorageErrorKind::ReadOnly => Some(Trouble::ReadOnlyStorage),
        StorageErrorKind::Conflict => None,
        StorageErrorKind::Unavailable | StorageErrorKind::Denied | StorageErrorKind::Other => Some(Trouble::Storage),
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        let (code, trouble) = if error.is_unavailable() {
            (ErrorCode::Unavailable, Some(Trouble::Database))
        } else if error.is_passing() {
            // Others were in the way each time.
            (ErrorCode::Unavailable, None)
        } else {
            (ErrorCode::Unknown, None)
        };
        Self::new(code).caused_by(error).means(trouble)
    }
}

impl From<PatternError> for ApiError {
    fn from(error: PatternError) -> Self {
        let code = match error {
            PatternError::Protection(_) => ErrorCode::TagProtectionPatternInvalid,
            PatternError::Immutability(_) => ErrorCode::TagImmutabilityPatternInvalid,
            PatternError::TooMany(_) => ErrorCode::TagPatternCountLimit,
        };
        Self::new(code).detail(error.to_string())
    }
}

impl From<Denial> for ErrorCode {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Protected => Self::ProtectedTag,
            Denial::Immutable => Self::ImmutableTag,
        }
    }
}

impl From<MetadataError> for ApiError {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Referenced => Self::new(ErrorCode::ManifestReferenced),
            MetadataError::Missing(digests) => digests
                .iter()
                .take(SHOWN_ERRORS)
                .fold(Self::new(ErrorCode::ManifestBlobUnknown), |error, digest| {
                    error.detail(json!({"digest": digest.to_string()}))
                }),
            error @ (MetadataError::WrongSize { .. } | MetadataError::ManyMediaTypes(..)) => {
                Self::new(ErrorCode::ManifestInvalid).detail(error.to_string())
            }
            MetadataError::Immutable(tag) => Self::new(ErrorCode::ImmutableTag).detail(json!({"tag": tag.as_str()})),
            MetadataError::MediaType(name) => {
                Self::new(ErrorCode::ManifestInvalid).detail(format!("media type {name:?} cannot be kept"))
            }
            MetadataError::Storage(error) => error.into(),
            MetadataError::Database(error) => error.into(),
            error @ MetadataError::Collected(_) => Self::new(ErrorCode::Unavailable).caused_by(error),
            error @ MetadataError::Import(_) => Self::new(ErrorCode::Unknown).caused_by(error),
        }
    }
}

/// Writes an error with what it came from.
pub fn in_full(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
