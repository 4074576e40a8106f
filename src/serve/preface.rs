//! What a client speaks, by the first bytes that it sends.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest, Ready};
use tokio::net::TcpStream;

/// First byte of a TLS handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Says whether a client begins with TLS; nothing when it sends nothing.
pub async fn begins_tls(stream: &TcpStream) -> Option<bool> {
    let mut first = [0];
    let read = stream.peek(&mut first).await.ok()?;
    (read == 1).then_some(first[0] == TLS_HANDSHAKE)
}

/// Says whether a client begins with HTTP/2's preface (RFC 9113, section 3.4).
pub async fn begins_http2(stream: &TcpStream) -> bool {
    /// How long it may take.
    const PATIENCE: Duration = Duration::from_secs(30);
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut first = [0; PREFACE.len()];
    let looking = async {
        loop {
            match stream.peek(&mut first).await {
                Ok(read) if read == first.len() || (read > 0 && !PREFACE.starts_with(&first[..read])) => {
                    return first == PREFACE;
                }
                // Behind what has come, peeking does not see the end.
                Ok(read) if read > 0 && !is_ended(stream).await => {
                    crate::sys::task::sleep(Duration::from_millis(5)).await;
                }
                _ => return false,
            }
        }
    };
    crate::sys::task::timeout(PATIENCE, looking).await.unwrap_or(false)
}

/// Says whether a client that has sent something will send no more.
async fn is_ended(stream: &TcpStream) -> bool {
    let ready = stream.ready(Interest::READABLE).await;
    ready.is_ok_and(Ready::is_read_closed)
}

/// Tells a client that speaks plain HTTP to a TLS port where to go.
///
/// The first words are Go's, which clients and people recognise.
pub async fn answer_plain(mut stream: TcpStream) {
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
