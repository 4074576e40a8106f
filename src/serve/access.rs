//! Access log lines, with the fields that the Go registry writes.

use hyper::header::{CONTENT_TYPE, HOST, REFERER, USER_AGENT};
use hyper::{Request, Response};

use super::body::Body;
use super::listener::Peer;
use super::log::{Fields, Logger};
use crate::sys::clock::monotonic;

/// What is known of a request before it is handled.
///
/// One that is dropped before it is finished is that of a client which went
/// away; its line says 499, as other servers do.
#[derive(Debug)]
pub struct Entry {
    started: std::time::Instant,
    fields: Fields,
    logger: Logger,
    finished: bool,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.finished {
            self.write(499, "", 0);
        }
    }
}

impl Entry {
    /// Notes a request. `correlation_id` joins the lines of one request.
    pub fn begin<B>(request: &Request<B>, peer: &Peer, correlation_id: &str, logger: &Logger) -> Self {
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
            logger: logger.clone(),
            finished: false,
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
    pub fn finish(mut self, response: &Response<Body>) {
        use hyper::body::Body as _;
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let written = response.body().size_hint().exact().unwrap_or_default();
        self.write(response.status().as_u16(), content_type.unwrap_or_default(), written);
        self.finished = true;
    }

    fn write(&mut self, status: u16, content_type: &str, written: u64) {
        let mut fields = std::mem::take(&mut self.fields);
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        fields.extend([
            ("content_type", content_type.into()),
            ("duration_ms", milliseconds.into()),
            ("status", status.into()),
            ("written_bytes", written.into()),
        ]);
        self.logger.info("access", fields);
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
    fn state_tokens_are_redacted() {
        assert_eq!(
            super::redact("/v2/a?_state=secret&digest=x"),
            "/v2/a?_state=[redacted]&digest=x"
        );
        assert_eq!(super::redact("/x/jwt/auth?account=anna&scope=s"), "/x/jwt/auth");
    }
}
