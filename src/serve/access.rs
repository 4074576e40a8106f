//! Access log lines, with the fields that the Go registry writes.

use hyper::header::{CONTENT_TYPE, HOST, REFERER, USER_AGENT};
use hyper::{Request, Response};

use super::body::Body;
use super::listener::Peer;
use super::log::{Fields, Logger};
use crate::sys::clock::monotonic;

/// What is known of a request before it is handled.
#[derive(Debug)]
pub struct Entry {
    started: std::time::Instant,
    fields: Fields,
}

impl Entry {
    /// Notes a request. `correlation_id` joins the lines of one request.
    pub fn begin<B>(request: &Request<B>, peer: &Peer, correlation_id: &str) -> Self {
        let header = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let uri = request
            .uri()
            .path_and_query()
            .map(|path| redact(path.as_str()))
            .unwrap_or_default();
        Self {
            started: monotonic(),
            fields: vec![
                ("correlation_id", correlation_id.into()),
                ("host", header(HOST).into()),
                ("method", request.method().as_str().into()),
                ("proto", format!("{:?}", request.version()).into()),
                ("referrer", header(REFERER).into()),
                ("remote_addr", peer.to_string().into()),
                ("remote_ip", peer.ip().into()),
                ("system", "http".into()),
                ("uri", uri.into()),
                ("user_agent", header(USER_AGENT).into()),
            ],
        }
    }

    /// Writes the line.
    pub fn finish(mut self, logger: &Logger, response: &Response<Body>) {
        use hyper::body::Body as _;
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.fields.extend([
            ("content_type", content_type.unwrap_or_default().into()),
            ("duration_ms", milliseconds.into()),
            ("status", response.status().as_u16().into()),
            (
                "written_bytes",
                response.body().size_hint().exact().unwrap_or_default().into(),
            ),
        ]);
        logger.info("access", self.fields);
    }
}

/// Leaves out an upload's state token: whoever holds it may go on with the upload.
fn redact(uri: &str) -> String {
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
    fn state_tokens_are_redacted() {
        assert_eq!(
            super::redact("/v2/a?_state=secret&digest=x"),
            "/v2/a?_state=[redacted]&digest=x"
        );
    }
}
