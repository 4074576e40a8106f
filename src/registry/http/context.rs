//! One request on its way through a handler.

use std::sync::Arc;

use hyper::Request;
use hyper::header::{HOST, HeaderName, USER_AGENT};

use super::body::RequestBody;
use super::error::ApiError;
use super::shared::{Shared, TOKENS};
use crate::registry::auth::{Actor, Challenge, Refusal};
use crate::registry::notify::Event;
use crate::registry::oci::{ErrorCode, RepoName};
use crate::serve::Peer;
use crate::serve::access::About;
use crate::serve::origin::own_origin;

/// A request on its way through a handler.
pub struct Context {
    /// What all requests share.
    pub shared: Arc<Shared>,
    /// The request; handlers take the body out.
    pub request: Request<RequestBody>,
    /// Who makes it.
    pub actor: Actor,
    /// What the log says of it.
    pub about: About,
    /// Who sent it.
    pub peer: Peer,
}

impl Context {
    /// Returns a header's text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.request.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the values of a query parameter, decoded.
    pub fn query(&self, name: &str) -> Vec<String> {
        let query = self.request.uri().query().unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .collect()
    }

    /// Returns the first value of a query parameter, decoded.
    pub fn query_one(&self, name: &str) -> Option<String> {
        self.query(name).into_iter().next()
    }

    /// Returns the host that was asked.
    pub fn host(&self) -> Option<&str> {
        // HTTP/2 has it in the URI.
        self.header(HOST)
            .or_else(|| self.request.uri().authority().map(hyper::http::uri::Authority::as_str))
    }

    /// Returns a path as clients write it, below the prefix.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.shared.config.http.prefix)
    }

    /// Returns the URL by which this client reaches a path.
    pub fn url(&self, path: &str) -> String {
        let http = &self.shared.config.http;
        let path = self.path(path);
        if http.relative_urls {
            return path;
        }
        if let Some(host) = &http.host {
            return format!("{}{path}", host.trim_end_matches('/'));
        }
        let origin = own_origin(&self.request, &self.peer).unwrap_or_default();
        format!("{origin}{path}")
    }

    /// Turns a refusal into an answer.
    pub fn refused(&self, refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::Challenge(challenge) => self.challenge(challenge),
            Refusal::Busy => ApiError::new(ErrorCode::TooManyRequests)
                .detail("too many passwords wait to be checked")
                .header("retry-after", "1".to_owned()),
        }
    }

    /// Turns a challenge into an answer. Where tokens are had from this server,
    /// clients are sent to the address by which they came: many send their
    /// password to no other.
    pub fn challenge(&self, mut challenge: Challenge) -> ApiError {
        let http = &self.shared.config.http;
        if self.shared.forward.is_none() {
            return ApiError::challenge(challenge);
        }
        let origin = http.host.as_ref().map(|host| host.trim_end_matches('/').to_owned());
        let origin = origin.or_else(|| http.trusted_proxies.origin(&self.request, &self.peer));
        if let Some(origin) = origin {
            challenge.realm = format!("{origin}{}", self.path(TOKENS));
        }
        ApiError::challenge(challenge).header("cache-control", "no-store".to_owned())
    }

    /// Queues an event about content of a repository that was pulled.
    pub fn notify(&self, action: &'static str, name: &RepoName, describe: impl FnOnce(&mut Event)) {
        if !self.shared.notifier.is_idle() {
            self.shared.notifier.send(&self.event(action, name, describe));
        }
    }

    /// Queues an event about a change, and waits until it is kept.
    pub async fn notify_change(&self, action: &'static str, name: &RepoName, describe: impl FnOnce(&mut Event)) {
        if !self.shared.notifier.is_idle() {
            let event = self.event(action, name, describe);
            self.shared.notifier.send_kept(&event).await;
        }
    }

    fn event(&self, action: &'static str, name: &RepoName, describe: impl FnOnce(&mut Event)) -> Event {
        let text = |name| self.header(name).unwrap_or_default().to_owned();
        let mut event = Event {
            action,
            repository: name.to_string(),
            media_type: String::new(),
            digest: String::new(),
            size: None,
            tag: None,
            from_repository: None,
            references: Vec::new(),
            rename: None,
            actor: self.actor.clone(),
            url: String::new(),
            request_id: self.about.id().to_owned(),
            request: [
                self.about.client(),
                self.host().unwrap_or_default().to_owned(),
                self.request.method().to_string(),
                text(USER_AGENT),
            ],
        };
        describe(&mut event);
        event
    }
}
