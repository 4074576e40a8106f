//! The least HTTP that a load generator needs: one connection, one request
//! at a time, as little work of its own as possible.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer, with as much of its body as was asked for.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub struct Client {
    address: String,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_mins(2)))?;
        Ok(Self {
            address: address.to_owned(),
            stream,
            buffer: Vec::with_capacity(1 << 20),
        })
    }

    /// Sends a request and reads the answer whole.
    pub fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Answer> {
        let mut kept = Vec::new();
        let mut answer = self.exchange(method, path, headers, body, |piece| kept.extend_from_slice(piece))?;
        answer.body = kept;
        Ok(answer)
    }

    /// Sends a request and reads the answer, dropping its body; returns how long that was.
    pub fn drain(&mut self, method: &str, path: &str, headers: &str) -> io::Result<(u16, u64)> {
        let mut length = 0;
        let answer = self.exchange(method, path, headers, b"", |piece| length += piece.len() as u64)?;
        Ok((answer.status, length))
    }

    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<Answer> {
        let path = path
            .strip_prefix("http://")
            .and_then(|rest| rest.find('/').map(|at| &rest[at..]))
            .unwrap_or(path);
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}", self.address);
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        if body.len() < 64 << 10 {
            let mut all = head.into_bytes();
            all.extend_from_slice(body);
            self.stream.write_all(&all)?;
        } else {
            self.stream.write_all(head.as_bytes())?;
            self.stream.write_all(body)?;
        }
        self.buffer.clear();
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| io::Error::other(format!("no answer: {head}")))?;
        let answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        self.buffer.drain(..end);
        if method == "HEAD" || status == 204 || status == 304 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding").is_some() {
            self.chunks(&mut take)?;
        } else {
            let length: u64 = answer
                .header("content-length")
                .and_then(|text| text.parse().ok())
                .unwrap_or_default();
            let mut left = length;
            take(&self.buffer);
            left -= self.buffer.len() as u64;
            let mut piece = vec![0; 1 << 20];
            while left > 0 {
                let read = self.stream.read(&mut piece)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                take(&piece[..read]);
                left -= read as u64;
            }
        }
        Ok(answer)
    }

    fn chunks(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let end = loop {
                if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                self.fill()?;
            };
            let size = std::str::from_utf8(&self.buffer[..end])
                .ok()
                .and_then(|text| usize::from_str_radix(text.trim(), 16).ok())
                .ok_or_else(|| io::Error::other("a chunk without a size"))?;
            self.buffer.drain(..end + 2);
            while self.buffer.len() < size + 2 {
                self.fill()?;
            }
            take(&self.buffer[..size]);
            self.buffer.drain(..size + 2);
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        let read = self.stream.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(())
    }
}
