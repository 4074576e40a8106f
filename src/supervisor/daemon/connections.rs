//! The daemon's socket and the conversations on it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Sender};

use camino::Utf8PathBuf;

use super::Message;
use crate::supervisor::Paths;
use crate::supervisor::protocol::{Envelope, Reply};
use crate::sys;

/// A socket that clients connect to.
pub struct Listening {
    path: Utf8PathBuf,
}

impl Listening {
    /// Makes the socket and takes connections in a thread.
    ///
    /// # Errors
    /// When the socket cannot be made, or its directory is not private.
    pub fn start(paths: &Paths, sender: &Sender<Message>) -> io::Result<Self> {
        if let Some(parent) = paths.socket.parent() {
            sys::fs::create_private_dir(parent)?;
        }
        // Whoever had it before holds the lock no more.
        sys::fs::remove(&paths.socket)?;
        let listener = UnixListener::bind(&paths.socket)?;
        let sender = sender.clone();
        std::thread::spawn(move || accept(&listener, &sender));
        Ok(Self {
            path: paths.socket.clone(),
        })
    }

    /// Makes the socket again when somebody removed it.
    pub fn renew(&mut self, paths: &Paths, sender: &Sender<Message>) {
        if !self.path.exists()
            && let Ok(again) = Self::start(paths, sender)
        {
            *self = again;
        }
    }

    /// Removes the socket, unless what is there is another's.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn end(&self, is_anothers: bool) -> io::Result<()> {
        if is_anothers {
            return Ok(());
        }
        sys::fs::remove(&self.path).map(drop)
    }
}

fn accept(listener: &UnixListener, sender: &Sender<Message>) {
    for stream in listener.incoming().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            // A client that goes away loses its answer, nothing else.
            let _ = converse(&stream, &sender);
        });
    }
}

fn converse(stream: &UnixStream, sender: &Sender<Message>) -> io::Result<()> {
    let mut writer = stream;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        // Whoever went away was told that nothing was done.
        if sys::net::has_hung_up(stream) {
            return Ok(());
        }
        let (reply, replies) = mpsc::channel::<Reply>();
        // What cannot be understood is of another version.
        let envelope = serde_json::from_str::<Envelope>(&line).ok();
        if sender.send(Message::Client(envelope, reply)).is_err() {
            return Ok(());
        }
        for reply in replies {
            let mut text = serde_json::to_string(&reply).map_err(io::Error::other)?;
            text.push('\n');
            writer.write_all(text.as_bytes())?;
        }
    }
    Ok(())
}
