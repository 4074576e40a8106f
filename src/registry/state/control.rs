//! The socket on which a server is asked by others on its machine: a JSON line
//! is a message, and what messages mean is known elsewhere.

use std::future::Future;
use std::io;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::HEXLOWER;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines, Take};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::sys::task;

/// Longest path of a unix socket that every supported system takes, in bytes.
const SOCKET_PATH_LIMIT: usize = 100;
/// Longest request in bytes.
const REQUEST_LIMIT: u64 = 64 << 10;

/// A socket that takes requests, until this is dropped.
#[derive(Debug)]
pub struct Socket {
    /// Where it is.
    pub path: Utf8PathBuf,
    listener: UnixListener,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The next one takes its place in any case.
        let _ = crate::sys::fs::remove(&self.path);
    }
}

impl Socket {
    /// Opens the socket of whoever holds the lease of a storage, in place of
    /// what a killed process left.
    ///
    /// # Errors
    /// When it cannot be made anywhere.
    pub fn open(directory: &Utf8Path) -> io::Result<Self> {
        let near = directory.join("control.socket");
        let mut places = Vec::new();
        if near.as_str().len() <= SOCKET_PATH_LIMIT {
            places.push(near.clone());
        }
        // Also where the storage has no room for a name.
        let hash = HEXLOWER.encode(&Sha256::digest(near.as_str().as_bytes())[..8]);
        let short = Utf8PathBuf::from(format!("/tmp/kdk-registry-{}", crate::sys::process::user_id()));
        places.push(short.join(hash));
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for path in places {
            match Self::at(&path) {
                Ok(listener) => return Ok(Self { path, listener }),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn at(path: &Utf8Path) -> io::Result<UnixListener> {
        crate::sys::fs::create_private_dir(path.parent().unwrap_or(path))?;
        crate::sys::fs::remove(path)?;
        UnixListener::bind(path)
    }
}

/// Whoever has asked something, and waits.
#[derive(Debug)]
pub struct Asker {
    reading: BufReader<Take<OwnedReadHalf>>,
    writing: OwnedWriteHalf,
}

impl Asker {
    /// Reads what is asked; nothing where that cannot be understood.
    pub async fn request<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut line = String::new();
        self.reading.read_line(&mut line).await.ok()?;
        serde_json::from_str(&line).ok()
    }

    /// Splits it into where answers go, and what ends when the asker goes away.
    pub fn split(self) -> (Answers, impl Future<Output = ()> + Send) {
        let mut reading = self.reading;
        let gone = async move {
            let mut rest = Vec::new();
            let _ = reading.read_to_end(&mut rest).await;
        };
        (Answers(self.writing), gone)
    }
}

/// Where answers go.
#[derive(Debug)]
pub struct Answers(OwnedWriteHalf);

impl Answers {
    /// Sends one.
    ///
    /// # Errors
    /// When the asker is gone.
    pub async fn send(&mut self, answer: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        self.0.write_all(&line).await
    }
}

/// Takes requests until `stop`; they are answered among `tasks`.
pub async fn serve<F>(socket: Socket, tasks: TaskTracker, stop: CancellationToken, mut answer: impl FnMut(Asker) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = socket.listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            let (reading, writing) = stream.into_split();
            let reading = BufReader::new(reading.take(REQUEST_LIMIT));
            tasks.spawn(answer(Asker { reading, writing }));
        } else {
            task::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What a server answers, message by message.
#[derive(Debug)]
pub struct Answered(Lines<BufReader<UnixStream>>);

impl Answered {
    /// Waits for the next answer; nothing when the server is gone.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        match self.0.next_line().await? {
            Some(line) => Ok(Some(serde_json::from_str(&line)?)),
            None => Ok(None),
        }
    }
}

/// Asks the server behind a socket. Dropping the answers tells it that nobody
/// waits any more.
///
/// # Errors
/// When the server cannot be reached.
pub async fn ask(socket: &Utf8Path, request: &impl Serialize) -> io::Result<Answered> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(Answered(BufReader::new(stream).lines()))
}
