//! What proxies say in headers of how a client came to them.

use hyper::Request;
use hyper::header::HeaderName;

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What the first proxy says of how a client came.
#[derive(Debug, Default)]
pub struct Forwarded {
    /// Whether it came by HTTPS.
    pub is_https: Option<bool>,
    /// Which host it asked; nobody has checked that it is one.
    pub host: Option<String>,
}

impl Forwarded {
    /// Reads `Forwarded` (RFC 7239), or else `X-Forwarded-Proto` and `-Host`.
    pub fn of<B>(request: &Request<B>) -> Self {
        let text = |name: HeaderName| request.headers().get(name)?.to_str().ok();
        let is_https = |proto: &str| match proto {
            _ if proto.eq_ignore_ascii_case("https") => Some(true),
            _ if proto.eq_ignore_ascii_case("http") => Some(false),
            _ => None,
        };
        if let Some(all) = text(FORWARDED) {
            let first = forwarded_pairs(all);
            let value = |name: &str| {
                let found = first.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
            };
            return Self {
                is_https: value("proto").and_then(|proto| is_https(&proto)),
                host: value("host"),
            };
        }
        let first = |name: HeaderName| {
            let first = text(name)?.split(',').next()?.trim();
            (!first.is_empty()).then(|| first.to_owned())
        };
        Self {
            is_https: first(FORWARDED_PROTO).and_then(|proto| is_https(&proto)),
            host: first(FORWARDED_HOST),
        }
    }
}

/// Reads the pairs of the first element of a `Forwarded` header; a value may
/// be quoted (RFC 7239, section 4).
fn forwarded_pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let (mut name, mut value) = (String::new(), None::<String>);
    let (mut quoted, mut escaped) = (false, false);
    for letter in text.chars().chain([',']) {
        match letter {
            '\\' if quoted && !escaped => {
                escaped = true;
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            '=' if !quoted && value.is_none() => value = Some(String::new()),
            ';' | ',' if !quoted => {
                let value = value.take().unwrap_or_default();
                pairs.push((std::mem::take(&mut name).trim().to_owned(), value.trim().to_owned()));
                if letter == ',' {
                    break;
                }
            }
            _ => value.as_mut().unwrap_or(&mut name).push(letter),
        }
        escaped = false;
    }
    pairs
}
