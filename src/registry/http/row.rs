//! What a route of the registry is: an action, what it takes, and when there is one.

use futures_util::future::BoxFuture;
use hyper::{Method, Response};

use super::context::Context;
use super::error::ApiError;
use crate::registry::oci::reference::ReferenceError;
use crate::registry::oci::{Digest, ErrorCode, Reference, RepoName, Tag};
use crate::registry::token::Scope;
use crate::serve::Body;
use crate::serve::route::Params;

/// Does what a request asks for.
pub type Run = fn(Context, Params) -> BoxFuture<'static, Result<Response<Body>, ApiError>>;
/// Returns scopes that a request to a repository takes besides.
pub type Also = fn(&Context, &str) -> Vec<Scope>;

/// What a method does at a resource.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Does it.
    pub run: Run,
    /// What it takes.
    pub needs: Needs,
    /// What it takes besides.
    pub also: Option<Also>,
    /// When it can be had.
    pub when: When,
}

/// What an action takes (distribution, "Requesting a Token").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A login, where there are any.
    Login,
    /// Rights on something of the registry as a whole.
    Registry(&'static str),
    /// Rights on the repository that the path names.
    Repository(&'static [&'static str]),
}

/// When an action can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// When `storage.delete.enabled` says so.
    Deletion,
    /// When the metadata are in a database: else the resource is not there.
    Database,
}

impl Row {
    /// Makes an action that can always be had.
    pub fn new(run: Run, needs: Needs) -> Self {
        Self {
            run,
            needs,
            also: None,
            when: When::Always,
        }
    }

    /// Takes something besides.
    #[must_use]
    pub fn also(self, also: Also) -> Self {
        Self {
            also: Some(also),
            ..self
        }
    }

    /// Can be had at times only.
    #[must_use]
    pub fn when(self, when: When) -> Self {
        Self { when, ..self }
    }
}

/// What a placeholder of a path stands for.
pub trait FromParam: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// The answer to a request whose path cannot be meant.
    fn from_param(text: &str, context: &Context) -> Result<Self, ApiError>;
}

/// Names an upload, perhaps: whoever asks may name anything.
#[derive(Clone, Debug)]
pub struct UploadId(String);

impl UploadId {
    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether any registry would name an upload so.
    pub fn is_plausible(&self) -> bool {
        self.0.len() <= 64 && self.0.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    }
}

impl FromParam for UploadId {
    fn from_param(text: &str, _: &Context) -> Result<Self, ApiError> {
        Ok(Self(text.to_owned()))
    }
}

impl FromParam for RepoName {
    fn from_param(text: &str, _: &Context) -> Result<Self, ApiError> {
        text.parse()
            .map_err(|_| ApiError::new(ErrorCode::NameUnknown).detail(text.to_owned()))
    }
}

impl FromParam for Digest {
    fn from_param(text: &str, _: &Context) -> Result<Self, ApiError> {
        text.parse().map_err(digest_invalid)
    }
}

impl FromParam for Tag {
    fn from_param(text: &str, _: &Context) -> Result<Self, ApiError> {
        text.parse().map_err(|_| unknown(text))
    }
}

impl FromParam for Reference {
    fn from_param(text: &str, context: &Context) -> Result<Self, ApiError> {
        let is_put = context.request.method() == Method::PUT;
        text.parse().map_err(|error| match error {
            ReferenceError::Digest(error) => digest_invalid(error),
            ReferenceError::Tag(error) if is_put => ApiError::new(ErrorCode::TagInvalid).detail(error.to_string()),
            // What no tag can be called is not there.
            ReferenceError::Tag(_) => unknown(text),
        })
    }
}

fn digest_invalid(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::DigestInvalid).detail(error.to_string())
}

fn unknown(text: &str) -> ApiError {
    ApiError::new(ErrorCode::ManifestUnknown).detail(serde_json::json!({"reference": text}))
}

/// Makes a [`Run`] of a handler: reads what the placeholders of its parameters'
/// names stand for, and hands it over.
macro_rules! run {
    ($($handler:ident)::+ ($($param:ident),*)) => {{
        fn run(
            context: $crate::registry::http::context::Context,
            params: $crate::serve::route::Params,
        ) -> ::futures_util::future::BoxFuture<
            'static,
            Result<::hyper::Response<$crate::serve::Body>, $crate::registry::http::error::ApiError>,
        > {
            Box::pin(async move {
                $(let $param = $crate::registry::http::row::FromParam::from_param(
                    params.get(stringify!($param)),
                    &context,
                )?;)*
                let _ = params;
                $($handler)::+(context, $(&$param),*).await
            })
        }
        run
    }};
}
pub(super) use run;
