//! Under which address a client came, and from which; through proxies whose
//! word counts, too.

use std::net::{IpAddr, SocketAddr};

use hyper::Request;
use hyper::header::{HOST, HeaderName};
use ipnet::IpNet;

use super::forwarded::Forwarded;
use super::listener::Peer;

/// `X-Forwarded-For`: the clients that a request came through, the first one first.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Proxies whose `X-Forwarded-*` headers are believed.
#[derive(Clone, Debug)]
pub struct TrustedProxies(Vec<IpNet>);

impl Default for TrustedProxies {
    /// Those on this machine.
    fn default() -> Self {
        Self(vec![
            IpNet::new_assert([127, 0, 0, 0].into(), 8),
            IpNet::new_assert(std::net::Ipv6Addr::LOCALHOST.into(), 128),
        ])
    }
}

impl TrustedProxies {
    /// Those on this machine, for a server that listens on an address of it.
    pub fn beside(listening: Option<SocketAddr>) -> Self {
        let mut all = Self::default();
        let own = listening.map(|own| own.ip().to_canonical());
        all.0.extend(own.filter(|own| !own.is_unspecified()).map(IpNet::from));
        all
    }

    /// Reads addresses and networks, such as `10.0.0.7` and `10.0.0.0/8`.
    ///
    /// # Errors
    /// The text that is neither.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let read = |text: &String| {
            let net = text.parse::<IpNet>().ok();
            net.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
                .ok_or_else(|| text.clone())
        };
        texts.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address.to_canonical()))
    }

    /// Says whether a peer's headers are believed. A unix socket has its own rights.
    pub fn trust(&self, peer: &Peer) -> bool {
        match peer {
            Peer::Tcp { address, .. } => self.contain(address.ip()),
            Peer::Unix => true,
        }
    }

    /// Returns the address of the client that a request comes from: the last
    /// one that is no trusted proxy. Nothing for a client on a unix socket.
    pub fn client<B>(&self, request: &Request<B>, peer: &Peer) -> Option<IpAddr> {
        let own = match peer {
            Peer::Tcp { address, .. } => Some(address.ip().to_canonical()),
            Peer::Unix => None,
        };
        if !self.trust(peer) {
            return own;
        }
        let named = request.headers().get_all(FORWARDED_FOR);
        let mut last = own;
        // From the nearest one backwards; what cannot be read ends what is believed.
        for text in named
            .iter()
            .rev()
            .flat_map(|value| value.to_str().unwrap_or("?").rsplit(','))
        {
            let Ok(address) = text.trim().parse::<IpAddr>() else {
                break;
            };
            last = Some(address.to_canonical());
            if !self.contain(address) {
                break;
            }
        }
        last
    }

    /// Returns `scheme://host[:port]` by which the client came; nothing where
    /// it named no host, several, or one that cannot be.
    pub fn origin<B>(&self, request: &Request<B>, peer: &Peer) -> Option<String> {
        let forwarded = if self.trust(peer) {
            Forwarded::of(request)
        } else {
            Forwarded::default()
        };
        // What is encrypted up to here is never sent on in plain text.
        let scheme = if peer.is_tls() || forwarded.is_https == Some(true) {
            "https"
        } else {
            "http"
        };
        let host = match forwarded.host {
            Some(host) => host,
            None => named_host(request)?,
        };
        is_host(&host).then(|| format!("{scheme}://{host}"))
    }
}

/// Returns the one host that a request names.
fn named_host<B>(request: &Request<B>) -> Option<String> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(only), None) => only.to_str().ok().map(ToOwned::to_owned),
        // HTTP/2 has it in the URI.
        (None, _) => request.uri().authority().map(ToString::to_string),
        (Some(_), Some(_)) => None,
    }
}

/// Returns `scheme://host[:port]` for a `Location`, which leads nobody but
/// whoever sent the request: so any proxy's word counts, as in the Go
/// registries. What is no host counts for nothing.
pub fn own_origin<B>(request: &Request<B>, peer: &Peer) -> Option<String> {
    let forwarded = Forwarded::of(request);
    let is_https = forwarded.is_https.unwrap_or(peer.is_tls());
    let scheme = if is_https { "https" } else { "http" };
    let host = forwarded.host.filter(|host| is_host(host));
    let host = host.or_else(|| named_host(request).filter(|host| is_host(host)))?;
    Some(format!("{scheme}://{host}"))
}

/// Says whether a text is `host` or `host:port` (RFC 3986, section 3.2.2),
/// and nothing besides.
pub fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (address, rest.strip_prefix(':')),
        Some(_) => return false,
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let named = text.starts_with('[')
        || (!host.is_empty()
            && host.len() <= 253
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')));
    let closed = !text.starts_with('[') || text.ends_with(']') || port.is_some();
    let numbered = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    named && closed && numbered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str, tls: bool) -> Peer {
        Peer::Tcp {
            address: address.parse().expect("an address"),
            tls,
        }
    }

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri("/v2/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    #[test]
    fn hosts_are_names_or_addresses_with_a_port() {
        for good in [
            "a",
            "a.b-c_d:1",
            "127.0.0.1:5000",
            "[::1]",
            "[::1]:5000",
            "kdk.test:65535",
        ] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "", ":5000", "a:", "a:0", "a:65536", "a:+1", "a:b", "a@b", "a/b", "a b", "a\"b", "a\\b", "::1", "[::1",
            "[::1]x", "[::1]5", "[x]:1", "a?b", "a#b", "a,b", "a:1:2", "ä",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn only_trusted_proxies_say_how_a_client_came() {
        let proxies = TrustedProxies::default();
        let near = peer("127.0.0.1:1", false);
        let far = peer("198.51.100.7:1", false);
        let headers = [
            ("host", "a:1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "b.test"),
            ("x-forwarded-for", "203.0.113.9, 127.0.0.1"),
        ];
        let asked = request(&headers);
        assert_eq!(proxies.origin(&asked, &near).as_deref(), Some("https://b.test"));
        assert_eq!(proxies.origin(&asked, &far).as_deref(), Some("http://a:1"));
        assert_eq!(proxies.client(&asked, &near), Some([203, 0, 113, 9].into()));
        assert_eq!(proxies.client(&asked, &far), Some([198, 51, 100, 7].into()));
        // Never from https to http.
        let down = request(&[("host", "a"), ("x-forwarded-proto", "http")]);
        assert_eq!(
            proxies.origin(&down, &peer("127.0.0.1:1", true)).as_deref(),
            Some("https://a")
        );
        for odd in [
            &[][..],
            &[("host", "a"), ("host", "b")],
            &[("host", "a\"b")],
            &[("host", "a@b")],
        ] {
            assert_eq!(proxies.origin(&request(odd), &near), None, "{odd:?}");
        }
        let odd = request(&[("host", "a"), ("x-forwarded-for", "203.0.113.9, nonsense")]);
        assert_eq!(proxies.client(&odd, &near), Some([127, 0, 0, 1].into()));
    }

    #[test]
    fn a_proxy_may_speak_by_the_standard_header() {
        let proxies = TrustedProxies::default();
        let near = peer("127.0.0.1:1", false);
        for (forwarded, expected) in [
            ("for=192.0.2.1;proto=https;host=b.test", "https://b.test"),
            (
                "For=\"[::1]:7\"; Proto=HTTPS ;Host=\"b.test:8\", host=c.test",
                "https://b.test:8",
            ),
            ("for=192.0.2.1, proto=https", "http://a:1"),
            ("host=\"b\\.test\"", "http://b.test"),
            ("", "http://a:1"),
        ] {
            // Where it is there, the older ones do not count.
            let asked = request(&[
                ("host", "a:1"),
                ("forwarded", forwarded),
                ("x-forwarded-host", "x.test"),
            ]);
            assert_eq!(proxies.origin(&asked, &near).as_deref(), Some(expected), "{forwarded}");
            assert_eq!(own_origin(&asked, &near).as_deref(), Some(expected), "{forwarded}");
        }
        // What is no host is nobody's.
        let odd = request(&[("host", "a:1"), ("x-forwarded-host", "evil.test/x")]);
        assert_eq!(own_origin(&odd, &near).as_deref(), Some("http://a:1"));
        let worse = request(&[("host", "a:1/x"), ("forwarded", "host=\"evil.test?\"")]);
        assert_eq!(own_origin(&worse, &near), None);
        let plain = request(&[("host", "a:1"), ("x-forwarded-proto", "http")]);
        assert_eq!(
            own_origin(&plain, &peer("127.0.0.1:1", true)).as_deref(),
            Some("http://a:1")
        );
    }

    #[test]
    fn proxies_are_addresses_and_networks() {
        let read = |text: &str| TrustedProxies::parse(&[text.to_owned()]);
        assert!(read("10.0.0.0/8").is_ok_and(|proxies| proxies.contain([10, 1, 2, 3].into())));
        assert!(read("10.0.0.7").is_ok_and(|proxies| !proxies.contain([10, 0, 0, 8].into())));
        assert_eq!(read("somewhere").err().as_deref(), Some("somewhere"));
    }
}
