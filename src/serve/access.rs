//! What the log says of requests, with the fields that the Go registry writes.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, REFERER, USER_AGENT};
use hyper::{Method, Request, Response, Uri, Version};
use tracing::Span;

use super::body::Body;
use super::id;
use super::listener::Peer;
use super::log::{self, Facts, Fields};
use super::origin::TrustedProxies;
use crate::sys::clock::monotonic;

/// What is known of a request before it is handled, and stands on all its lines.
#[derive(Clone, Debug)]
pub struct About(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    referrer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
    peer: Peer,
    client: Option<IpAddr>,
    user: OnceLock<String>,
}

impl About {
    /// Notes a request. Whoever it comes from is what trusted proxies say.
    pub fn of<B>(request: &Request<B>, peer: &Peer, proxies: &TrustedProxies) -> Self {
        let header = |name: HeaderName| request.headers().get(name).cloned();
        Self(Arc::new(Inner {
            id: id::of_request(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: header(HOST),
            referrer: header(REFERER),
            user_agent: header(USER_AGENT),
            traceparent: header(HeaderName::from_static("traceparent")),
            client: proxies.client(request, peer),
            peer: peer.clone(),
            user: OnceLock::new(),
        }))
    }

    /// Returns what joins the lines of the request.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Returns where the request comes from: the client's address, where a
    /// trusted proxy names it, else the peer's with its port.
    pub fn client(&self) -> String {
        let own = match &self.0.peer {
            Peer::Tcp { address, .. } => Some(address.ip().to_canonical()),
            Peer::Unix => None,
        };
        match self.0.client {
            Some(client) if Some(client) != own => client.to_string(),
            _ => self.0.peer.to_string(),
        }
    }

    /// Notes who makes the request.
    pub fn set_user(&self, name: &str) {
        if !name.is_empty() {
            // The first one counts: there is no other.
            let _ = self.0.user.set(name.to_owned());
        }
    }

    /// Makes the span that its lines are in.
    pub fn span(&self) -> Span {
        // Of the highest level: whatever is written belongs to it.
        let span = tracing::error_span!("request");
        log::attach(&span, Arc::clone(&self.0) as Arc<dyn Facts>);
        span
    }
}

fn text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Returns the trace that a request belongs to (W3C Trace Context, section 3.2).
fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (version, trace, parent) = (parts.next()?, parts.next()?, parts.next()?);
    let is_hex =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_right = is_hex(version, 2) && version != "ff" && is_hex(trace, 32) && is_hex(parent, 16);
    (is_right && trace.bytes().any(|byte| byte != b'0')).then_some(trace)
}

impl Facts for Inner {
    fn write(&self, fields: &mut Fields) {
        let uri = self.uri.path_and_query().map(|path| redact(path.as_str()));
        let client = self.client.map(|client| client.to_string());
        fields.extend([
            ("correlation_id", self.id.as_str().into()),
            ("method", self.method.as_str().into()),
            ("remote_addr", self.peer.to_string().into()),
            ("remote_ip", client.unwrap_or_default().into()),
            ("uri", uri.unwrap_or_default().into()),
        ]);
        if let Some(user) = self.user.get() {
            fields.push(("auth_user_name", user.as_str().into()));
        }
        if let Some(trace) = trace_id(text(self.traceparent.as_ref())) {
            fields.push(("trace_id", trace.into()));
        }
    }
}

/// The line that says how a request went.
///
/// One that is dropped before it is finished is that of a client which went
/// away; its line says 499, as other servers do.
#[derive(Debug)]
pub struct Entry {
    started: Instant,
    about: About,
    is_finished: bool,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_finished {
            let span = self.about.span();
            span.in_scope(|| self.write(499, "", 0));
        }
    }
}

impl Entry {
    /// Begins the line of a request.
    pub fn begin(about: &About) -> Self {
        Self {
            started: monotonic(),
            about: about.clone(),
            is_finished: false,
        }
    }

    /// Writes the line, in the request's span.
    pub fn finish(mut self, response: &Response<Body>) {
        use hyper::body::Body as _;
        let content_type = text(response.headers().get(CONTENT_TYPE));
        let written = response.body().size_hint().exact().unwrap_or_default();
        self.write(response.status().as_u16(), content_type, written);
        self.is_finished = true;
    }

    fn write(&self, status: u16, content_type: &str, written: u64) {
        let about = &self.about.0;
        // HTTP/2 has the host in the URI.
        let authority = about.uri.authority().map(hyper::http::uri::Authority::as_str);
        let host = about.host.as_ref().map_or(authority, |host| host.to_str().ok());
        tracing::info!(
            content_type,
            duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            host = host.unwrap_or_default(),
            proto = %format_args!("{:?}", about.version),
            referrer = text(about.referrer.as_ref()),
            status,
            system = "http",
            user_agent = text(about.user_agent.as_ref()),
            written_bytes = written,
            "access"
        );
    }
}

/// Path of the token service, whose queries say who asks for what.
const TOKENS: &str = "/jwt/auth";

/// Leaves out an upload's state token: whoever holds it may go on with the
/// upload; and what the token service was asked.
fn redact(uri: &str) -> String {
    if let Some((path, _)) = uri.split_once('?').filter(|(path, _)| path.ends_with(TOKENS)) {
        return path.to_owned();
    }
    match uri.split_once("_state=") {
        None => uri.to_owned(),
        Some((before, after)) => {
            let rest = after.find('&').map_or("", |at| &after[at..]);
            format!("{before}_state=[redacted]{rest}")
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_trace_is_read() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(super::trace_id(&parent), Some(trace));
        for wrong in [
            "",
            "00-x-y-01",
            &parent.replace("4bf", "4BF"),
            &parent.replace("00-4", "ff-4"),
        ] {
            assert_eq!(super::trace_id(wrong), None, "{wrong}");
        }
        let none = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        assert_eq!(super::trace_id(&none), None);
    }

    #[test]
    fn state_tokens_are_redacted() {
        assert_eq!(
            super::redact("/v2/a?_state=secret&digest=x"),
            "/v2/a?_state=[redacted]&digest=x"
        );
        assert_eq!(super::redact("/x/jwt/auth?account=anna&scope=s"), "/x/jwt/auth");
    }
}
