//! What is listened on: TCP or a unix socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use camino::Utf8PathBuf;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};

use crate::sys::net::{Holder, port_holder};

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

    /// Returns the same client, now that the connection is encrypted.
    #[must_use]
    pub fn encrypted(self) -> Self {
        match self {
            Self::Tcp { address, .. } => Self::Tcp { address, tls: true },
            Self::Unix => Self::Unix,
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
        let context = |error: io::Error| {
            let reason = match (error.kind(), port_holder(port)) {
                (io::ErrorKind::AddrInUse, Some(Holder { name, pid })) => {
                    format!("the port is taken by {name} (process {pid}): end that, or choose another port")
                }
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("listen tcp {address}: {reason}"))
        };
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

    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
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

/// A connection as it comes.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(tokio::net::UnixStream),
}
