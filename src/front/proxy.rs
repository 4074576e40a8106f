//! One request on its way through the front.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt as _, Empty, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tracing::Instrument as _;

use super::config::Config;
use crate::serve::access::{About, Entry};
use crate::serve::forward::{self, Forward};
use crate::serve::origin::FORWARDED_FOR;
use crate::serve::{Body, Peer, pace};

/// Where clients ask for tokens.
const TOKENS: &str = "/jwt/auth";
/// How long the registry may take to accept a connection: it is on this machine.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(5);
/// Bytes that are read ahead of a slow reader.
const BUFFER: usize = 2 << 20;
/// Headers that concern one connection only (RFC 9110, section 7.6.1).
const HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a client sends, at the pace that is asked of it.
type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// What requests share.
pub struct Front {
    config: Config,
    forward: Option<Forward>,
    client: Client<HttpConnector, Sent>,
}

impl Front {
    /// Puts the parts together.
    pub fn new(config: Config, forward: Option<Forward>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http1_max_buf_size(BUFFER)
            .build(connector);
        Self {
            config,
            forward,
            client,
        }
    }
}

/// Answers a request, whatever happens, and logs it.
pub async fn handle(front: Arc<Front>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let proxies = &front.config.trusted_proxies;
    let about = About::of(&request, &peer, proxies);
    let entry = Entry::begin(&about);
    let answering = async {
        let response = match &front.forward {
            Some(forward) if request.uri().path() == TOKENS => forward.answer(request, &peer, proxies).await,
            _ => pass_on(&front, request, &peer).await,
        };
        entry.finish(&response);
        response
    };
    answering.instrument(about.span()).await
}

/// Sends a request to the registry, and streams back what it answers.
async fn pass_on(front: &Front, mut request: Request<Incoming>, peer: &Peer) -> Response<Body> {
    let proxies = &front.config.trusted_proxies;
    let origin = proxies.origin(&request, peer);
    let client = proxies.client(&request, peer);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("http://{}{path}", front.config.upstream).parse::<Uri>() else {
        return forward::error(
            StatusCode::BAD_REQUEST,
            "NAME_INVALID",
            "the path is not valid in a URL",
        );
    };
    // HTTP/2 has the host in the URI.
    let authority = request.uri().authority().map(|host| host.as_str().to_owned());
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    drop_hop_by_hop(headers);
    // The server has answered it already.
    headers.remove(EXPECT);
    // What a client says of how it came counts for nothing: only the front knows.
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-forwarded-") || matches!(name.as_str(), "forwarded" | "x-real-ip"))
        .cloned()
        .collect();
    for name in claims {
        headers.remove(name);
    }
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if let Some(authority) = authority {
        set(HOST, &authority);
    }
    if let Some(client) = client {
        set(FORWARDED_FOR, &client.to_string());
    }
    if let Some((scheme, host)) = origin.as_deref().and_then(|origin| origin.split_once("://")) {
        set(HeaderName::from_static("x-forwarded-proto"), scheme);
        set(HeaderName::from_static("x-forwarded-host"), host);
    }
    let mut response = match front.client.request(request.map(in_time)).await {
        Ok(response) => response,
        Err(error) if !error.is_connect() && is_late(&error) => {
            return forward::error(
                StatusCode::REQUEST_TIMEOUT,
                "BLOB_UPLOAD_INVALID",
                "the body did not come, or came too slowly",
            );
        }
        Err(error) => {
            return unreachable(front, &error);
        }
    };
    let base = front.config.external_url.as_ref().map(|url| url.trim_end_matches('/'));
    if response.status() == StatusCode::UNAUTHORIZED
        && front.forward.is_some()
        && let Some(origin) = base.or(origin.as_deref())
    {
        lead_here(response.headers_mut(), &format!("{origin}{TOKENS}"));
    }
    drop_hop_by_hop(response.headers_mut());
    response.map(Body::Passed)
}

/// Says that the registry behind does not answer.
fn unreachable(front: &Front, error: &dyn std::error::Error) -> Response<Body> {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    tracing::error!(upstream = %front.config.upstream, error = %cause, "the registry behind does not answer");
    let mut response = forward::error(
        StatusCode::SERVICE_UNAVAILABLE,
        "UNAVAILABLE",
        "the registry behind this address does not answer; it may be starting, see: kdk status",
    );
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// Gives on a body as it comes, and ends one that comes too slowly.
fn in_time(body: Incoming) -> Sent {
    if body.is_end_stream() {
        return Empty::new().map_err(|never| match never {}).boxed_unsync();
    }
    let pieces = BodyDataStream::new(body).map_err(|error| error.to_string());
    let late = |reason| io::Error::new(io::ErrorKind::TimedOut, reason);
    let frames = pace::in_time(pieces.boxed()).map_ok(Frame::data).map_err(late);
    StreamBody::new(frames).boxed_unsync()
}

/// Says whether a request failed for want of its body.
fn is_late(error: &(dyn std::error::Error + 'static)) -> bool {
    let own = error.downcast_ref::<io::Error>();
    own.is_some_and(|own| own.kind() == io::ErrorKind::TimedOut && own.get_ref().is_some())
        || error.source().is_some_and(is_late)
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP) {
        headers.remove(name);
    }
}

/// Replaces the realm of a challenge.
fn lead_here(headers: &mut HeaderMap, realm: &str) {
    let challenge = headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    let replaced = challenge.and_then(|challenge| with_realm(challenge, realm));
    if let Some(value) = replaced.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(WWW_AUTHENTICATE, value);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

fn with_realm(challenge: &str, realm: &str) -> Option<String> {
    const REALM: &str = "realm=\"";
    let at = challenge.find(REALM)? + REALM.len();
    let end = at + challenge[at..].find('"')?;
    let bearer = challenge
        .split_once(' ')
        .is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    bearer.then(|| format!("{}{realm}{}", &challenge[..at], &challenge[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_realm_of_a_bearer_challenge_is_replaced() {
        let challenge = r#"Bearer realm="http://127.0.0.1:3000/jwt/auth",service="s",scope="repository:a:pull""#;
        assert_eq!(
            with_realm(challenge, "https://r.test/jwt/auth").as_deref(),
            Some(r#"Bearer realm="https://r.test/jwt/auth",service="s",scope="repository:a:pull""#)
        );
        assert_eq!(with_realm(r#"Basic realm="x""#, "y"), None);
        assert_eq!(with_realm("Bearer service=\"s\"", "y"), None);
    }

    #[test]
    fn headers_of_one_connection_stay_on_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("content-type", "a/b"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        drop_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 1, "{headers:?}");
    }
}
