//! Sending a request on to another server, as little of it as that one needs.
//!
//! What goes along either way is listed here: no cookie, no redirect, nothing
//! that a client may have put there to be mistaken for the proxy's word.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use camino::{Utf8Path, Utf8PathBuf};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT, VIA, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use url::Url;

use super::body::Body;
use super::id;
use super::listener::Peer;
use super::origin::{FORWARDED_FOR, TrustedProxies};

/// Largest body that is sent on, in bytes.
const REQUEST_LIMIT: usize = 64 << 10;
/// Largest answer that is passed back, in bytes.
const ANSWER_LIMIT: usize = 1 << 20;
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Headers of a request that go along.
const ALONG: [HeaderName; 4] = [AUTHORIZATION, ACCEPT, CONTENT_TYPE, USER_AGENT];
/// Headers of an answer that come back.
const BACK: [HeaderName; 4] = [CONTENT_TYPE, CACHE_CONTROL, WWW_AUTHENTICATE, RETRY_AFTER];

/// Why nothing can be sent on.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// It is no address of a server.
    #[error("{0:?} is no URL such as http://127.0.0.1:3000/jwt/auth, without user, query and fragment")]
    Url(String),
    /// The certificates to check the other server with cannot be used.
    #[error("cannot use the certificates in {path}: {reason}")]
    Certificates {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The other server is this one.
    #[error("{0} is this server itself; write the other server's own address")]
    Itself(Url),
    /// What comes encrypted would go on in plain text.
    #[error(
        "{0} is plain HTTP to another machine, or to a host that cannot be identified, while this server uses HTTPS; use an https URL"
    )]
    Plain(Url),
    /// The system gives no client.
    #[error("cannot send requests on: {0}")]
    Client(#[source] reqwest::Error),
}

/// Why one request was not answered.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It went round in a circle.
    #[error("forwarding loop: the request came back to this server")]
    Loop,
    /// Its body is too large.
    #[error("the body has more than {REQUEST_LIMIT} bytes")]
    TooLarge,
    /// Its body did not come in time.
    #[error("the body did not come within {} s", PATIENCE.as_secs())]
    Slow,
    /// Its body did not come whole.
    #[error("the body is incomplete: {0}")]
    Incomplete(String),
    /// The other server did not answer, or not in a way that can be passed on.
    #[error("{target}: {reason}")]
    Unreachable {
        /// The other server.
        target: Url,
        /// What is wrong.
        reason: String,
    },
}

/// Another server, to which requests are sent on.
#[derive(Clone, Debug)]
pub struct Forward {
    target: Url,
    client: reqwest::Client,
    /// What this server calls itself in `Via` (RFC 9110, section 7.6.3).
    name: String,
}

impl Forward {
    /// Reads the address of the other server.
    ///
    /// # Errors
    /// When it is none.
    pub fn target(text: &str) -> Result<Url, ForwardError> {
        Url::parse(text)
            .ok()
            .filter(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.query().is_none()
                    && url.fragment().is_none()
            })
            .ok_or_else(|| ForwardError::Url(text.to_owned()))
    }

    /// Prepares to send requests on. An https server is checked against the
    /// system's certificates, and those in `authority` where given. With `tls`
    /// requests come encrypted: then a plain server must be on this machine,
    /// and its name means for good what it means now.
    ///
    /// # Errors
    /// When the certificates cannot be used, or the server may not be used.
    pub fn new(target: Url, authority: Option<&Utf8Path>, tls: bool) -> Result<Self, ForwardError> {
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .http1_only();
        if tls && target.scheme() == "http" {
            let addresses = target.socket_addrs(|| None).unwrap_or_default();
            if addresses.is_empty() || !addresses.iter().all(|address| is_here(*address)) {
                return Err(ForwardError::Plain(target));
            }
            client = client.resolve_to_addrs(target.host_str().unwrap_or_default(), &addresses);
        }
        if let Some(path) = authority {
            let wrong = |reason: String| ForwardError::Certificates {
                path: path.to_owned(),
                reason,
            };
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
            if certificates.is_empty() {
                return Err(wrong("it holds no certificate".to_owned()));
            }
            client = client.tls_certs_merge(certificates);
        }
        Ok(Self {
            target,
            client: client.build().map_err(ForwardError::Client)?,
            name: format!("1.1 kdk-{}", id::random()),
        })
    }

    /// Checks that the other server is not the one that listens here.
    ///
    /// # Errors
    /// When it is.
    pub fn check(&self, listening: Option<SocketAddr>) -> Result<(), ForwardError> {
        // A name that does not resolve leads nowhere, not back here; and what
        // comes back all the same is known by its `Via`.
        let addresses = self.target.socket_addrs(|| None).unwrap_or_default();
        let itself = |address: &SocketAddr| {
            listening.is_some_and(|own| {
                own.port() == address.port()
                    && (address.ip().is_unspecified()
                        || own.ip().to_canonical() == address.ip().to_canonical()
                        || (own.ip().is_unspecified() && is_here(*address)))
            })
        };
        if addresses.iter().any(itself) {
            return Err(ForwardError::Itself(self.target.clone()));
        }
        Ok(())
    }

    /// Answers a request by what the other server says: GET and POST only.
    /// Why there is no answer goes to the log, not to the client.
    pub async fn answer(&self, request: Request<Incoming>, peer: &Peer, proxies: &TrustedProxies) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::POST) {
            let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "use GET or POST");
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, POST"));
            return response;
        }
        let failure = match self.send(request, peer, proxies).await {
            Ok(response) => return response,
            Err(failure) => failure,
        };
        let status = match &failure {
            Failure::Loop => StatusCode::LOOP_DETECTED,
            Failure::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Failure::Slow => StatusCode::REQUEST_TIMEOUT,
            Failure::Incomplete(_) => StatusCode::BAD_REQUEST,
            Failure::Unreachable { .. } => {
                tracing::error!(error = %failure, "the token service does not answer: nobody can log in");
                let mut response = error(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "UNAVAILABLE",
                    "the token service does not answer: see the registry's log",
                );
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from_static("10"));
                return response;
            }
        };
        error(status, "UNSUPPORTED", &failure.to_string())
    }

    /// Sends a request on, and passes the answer back.
    ///
    /// # Errors
    /// Why there is no answer.
    async fn send(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
        proxies: &TrustedProxies,
    ) -> Result<Response<Body>, Failure> {
        let mut headers = self.headers(&request, peer, proxies)?;
        let mut url = self.target.clone();
        url.set_query(request.uri().query());
        let method = request.method().clone();
        let body = if method == Method::POST {
            let reading = read(request.into_body(), REQUEST_LIMIT);
            crate::sys::task::timeout(PATIENCE, reading)
                .await
                .unwrap_or(Err(Failure::Slow))?
        } else {
            headers.remove(CONTENT_TYPE);
            Bytes::new()
        };
        let sending = async {
            let mut sent = self.client.request(method, url).headers(headers);
            if !body.is_empty() {
                sent = sent.body(body);
            }
            let answer = sent.send().await.map_err(|error| self.unreachable(&error))?;
            self.read_answer(answer).await
        };
        match crate::sys::task::timeout(PATIENCE, sending).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.failed(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    fn headers(
        &self,
        request: &Request<Incoming>,
        peer: &Peer,
        proxies: &TrustedProxies,
    ) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for name in ALONG {
            if let Some(value) = request.headers().get(&name) {
                headers.insert(name, value.clone());
            }
        }
        for value in request.headers().get_all(VIA) {
            let passed = value.to_str().unwrap_or_default();
            if passed.split(',').any(|one| one.trim() == self.name) {
                return Err(Failure::Loop);
            }
            headers.append(VIA, value.clone());
        }
        if let Ok(own) = HeaderValue::from_str(&self.name) {
            headers.append(VIA, own);
        }
        let client = proxies.client(request, peer);
        if let Some(client) = client.and_then(|client| HeaderValue::from_str(&client.to_string()).ok()) {
            headers.insert(FORWARDED_FOR, client);
        }
        Ok(headers)
    }

    async fn read_answer(&self, mut answer: reqwest::Response) -> Result<Response<Body>, Failure> {
        let status = answer.status();
        if status.is_redirection() {
            return Err(self.failed(format!("it redirects ({status}), which is not followed")));
        }
        let mut content = BytesMut::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            if content.len() + piece.len() > ANSWER_LIMIT {
                return Err(self.failed(format!("its answer has more than {ANSWER_LIMIT} bytes")));
            }
            content.extend_from_slice(&piece);
        }
        let mut response = Response::new(Body::from(content.freeze()));
        *response.status_mut() = StatusCode::from_u16(status.as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
        for name in BACK {
            if let Some(value) = answer.headers().get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    }

    fn failed(&self, reason: String) -> Failure {
        Failure::Unreachable {
            target: self.target.clone(),
            reason,
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        // The last cause says it: connection refused, certificate unknown.
        let mut cause: &dyn std::error::Error = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        self.failed(cause.to_string())
    }
}

/// Answers with an error in the form of the registry API.
pub fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Says whether an address belongs to this machine: what is sent there
/// crosses no network.
fn is_here(address: SocketAddr) -> bool {
    address.ip().is_loopback() || TcpListener::bind((address.ip(), 0)).is_ok()
}

async fn read(body: Incoming, limit: usize) -> Result<Bytes, Failure> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::TooLarge),
        Err(error) => Err(Failure::Incomplete(error.to_string())),
    }
}
