//! The accept loop: TCP or unix socket, with or without TLS, drained on stop.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Body;
use super::tls::Tls;

/// How long a client may take for a TLS handshake.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may stay idle, or take for a request's headers. Go's
/// clients keep theirs for 90 seconds; closing sooner would cross a request.
const IDLE: Duration = Duration::from_mins(2);
/// Bytes of a request's body that HTTP/2 clients may send ahead.
const H2_WINDOW: u32 = 2 << 20;
/// Requests at once on one HTTP/2 connection.
const H2_STREAMS: u32 = 250;
/// First byte of a TLS handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Who sent a request.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A TCP client; `tls` says whether the connection is encrypted.
    Tcp {
        /// Its address.
        address: SocketAddr,
        /// Whether the connection is encrypted.
        tls: bool,
    },
    /// A client on the unix socket.
    Unix,
}

impl Peer {
    /// Returns the client's IP address, empty on a unix socket.
    pub fn ip(&self) -> String {
        match self {
            Self::Tcp { address, .. } => address.ip().to_canonical().to_string(),
            Self::Unix => String::new(),
        }
    }

    /// Says whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { address, .. } => write!(f, "{}", SocketAddr::new(address.ip().to_canonical(), address.port())),
            Self::Unix => f.write_str("@"),
        }
    }
}

/// A socket that takes connections.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket at a path.
    Unix(UnixListener, Utf8PathBuf),
}

impl Listener {
    /// Listens on `host:port`. An empty host, `0.0.0.0` and `[::]` mean every
    /// address of both families, as in Go.
    ///
    /// # Errors
    /// When the name does not resolve or the address cannot be listened on.
    pub async fn tcp(address: &str) -> io::Result<Self> {
        let (host, port) = address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{address:?} is not host:port")))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let context = |error: io::Error| io::Error::new(error.kind(), format!("listen tcp {address}: {error}"));
        if matches!(bare, "" | "0.0.0.0" | "::") {
            match both_families(port) {
                Ok(listener) => return Ok(Self::Tcp(listener)),
                // A machine without IPv6.
                Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {}
                Err(error) => return Err(context(error)),
            }
            return TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port))
                .await
                .map(Self::Tcp)
                .map_err(context);
        }
        TcpListener::bind((bare, port)).await.map(Self::Tcp).map_err(context)
    }

    /// Listens on a unix socket, replacing one that nobody serves any more.
    ///
    /// # Errors
    /// When somebody serves it, or it cannot be made.
    pub fn unix(path: Utf8PathBuf) -> io::Result<Self> {
        if path.exists() {
            if std::os::unix::net::UnixStream::connect(&path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    format!("{path} is served by another process"),
                ));
            }
            crate::sys::fs::remove(&path)?;
        }
        Ok(Self::Unix(UnixListener::bind(&path)?, path))
    }

    /// Returns the TCP address that is listened on.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // A connection that is gone already fails with its first use.
                let _ = stream.set_nodelay(true);
                // A client that vanished without a word must not stay for ever.
                let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
                Ok((Stream::Tcp(stream), Peer::Tcp { address, tls: false }))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(error) => write!(f, "({error})"),
            },
            Self::Unix(_, path) => write!(f, "{path}"),
        }
    }
}

/// Listens on every address of both families, whatever the system's default is.
fn both_families(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)))?;
    socket.listen(1024)
}

enum Stream {
    Tcp(TcpStream),
    Unix(tokio::net::UnixStream),
}

/// Serves connections until `stop` is cancelled, then lets requests under way
/// finish for at most `drain`. With `h2c`, HTTP/2 is understood without TLS.
pub async fn run<H, F>(
    listener: Listener,
    tls: Option<Tls>,
    h2c: bool,
    handler: H,
    stop: CancellationToken,
    drain: Duration,
) where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, or the client is gone already: others may fare better shortly.
            crate::sys::task::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (tls, handler, stop) = (tls.clone(), handler.clone(), stop.clone());
        connections.spawn(async move {
            match (stream, tls) {
                (Stream::Unix(stream), _) => connection(stream, peer, false, handler, stop).await,
                (Stream::Tcp(stream), None) => {
                    let http2 = h2c && begins_http2(&stream).await;
                    connection(stream, peer, http2, handler, stop).await;
                }
                (Stream::Tcp(stream), Some(tls)) => encrypted(stream, peer, &tls.acceptor(), handler, stop).await,
            }
        });
    }
    if let Listener::Unix(_, path) = &listener {
        let _ = crate::sys::fs::remove(path);
    }
    drop(listener);
    connections.close();
    let _ = crate::sys::task::timeout(drain, connections.wait()).await;
}

async fn encrypted<H, F>(stream: TcpStream, peer: Peer, tls: &TlsAcceptor, handler: H, stop: CancellationToken)
where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut first = [0];
    let peeked = tokio::select! {
        () = stop.cancelled() => return,
        peeked = crate::sys::task::timeout(PATIENCE, stream.peek(&mut first)) => peeked,
    };
    match peeked {
        Ok(Ok(1)) if first[0] == TLS_HANDSHAKE => {}
        Ok(Ok(1)) => return answer_plain(stream).await,
        _ => return,
    }
    let Ok(Ok(stream)) = crate::sys::task::timeout(PATIENCE, tls.accept(stream)).await else {
        return;
    };
    let peer = match peer {
        Peer::Tcp { address, .. } => Peer::Tcp { address, tls: true },
        Peer::Unix => Peer::Unix,
    };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    connection(stream, peer, http2, handler, stop).await;
}

/// Says whether a client begins with HTTP/2's preface (RFC 9113, section 3.4).
async fn begins_http2(stream: &TcpStream) -> bool {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut first = [0; PREFACE.len()];
    let looking = async {
        loop {
            match stream.peek(&mut first).await {
                Ok(read) if read == first.len() || (read > 0 && !PREFACE.starts_with(&first[..read])) => {
                    return first == PREFACE;
                }
                Ok(read) if read > 0 => crate::sys::task::sleep(Duration::from_millis(5)).await,
                _ => return false,
            }
        }
    };
    crate::sys::task::timeout(PATIENCE, looking).await.unwrap_or(false)
}

/// Tells a client that speaks plain HTTP to a TLS port where to go.
///
/// The first words are Go's, which clients and people recognise.
async fn answer_plain(mut stream: TcpStream) {
    let mut head = Vec::with_capacity(1024);
    let mut piece = [0; 1024];
    while head.len() < 16 * 1024 && !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match crate::sys::task::timeout(Duration::from_secs(2), stream.read(&mut piece)).await {
            Ok(Ok(read)) if read > 0 => head.extend_from_slice(&piece[..read]),
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&head);
    let printable = |part: &str| part.bytes().all(|byte| byte.is_ascii_graphic());
    let path = text
        .split(' ')
        .nth(1)
        .filter(|path| path.starts_with('/') && printable(path))
        .unwrap_or("/");
    let host = text
        .lines()
        .find_map(|line| {
            line.split_once(':')
                .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
        })
        .map(|(_, host)| host.trim().to_owned())
        .filter(|host| printable(host) && !host.is_empty())
        .or_else(|| stream.local_addr().ok().map(|address| address.to_string()))
        .unwrap_or_default();
    let body = format!("Client sent an HTTP request to an HTTPS server. Use https://{host}{path}\n");
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn connection<S, H, F>(stream: S, peer: Peer, http2: bool, handler: H, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let service = service_fn(move |request| {
        let answer = handler(request, peer.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    if http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(IDLE)
            // Blobs are large: a window of a few pieces keeps them flowing.
            .initial_stream_window_size(H2_WINDOW)
            .initial_connection_window_size(H2_WINDOW * 4)
            .max_concurrent_streams(H2_STREAMS)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
        return;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        // A client that has said all and closed its side still means it.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // An error here is the client's: it went away or sent no HTTP.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
