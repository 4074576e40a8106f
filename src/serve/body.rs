//! Response bodies: nothing, bytes, or a file read piece by piece.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future as _;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as HyperBody, Frame, Incoming, SizeHint};
use tokio::task::JoinHandle;

/// Bytes read from a file at a time.
const PIECE: usize = 512 << 10;

/// The body of a response.
pub enum Body {
    /// Bytes, possibly none.
    Bytes(Option<Bytes>),
    /// Part of a file, read off the reactor's threads.
    File(FileBody),
    /// Several bodies, one after the other.
    Chain(VecDeque<Self>),
    /// What another server sends, as it comes.
    Passed(Incoming),
}

impl Body {
    /// Returns an empty body.
    pub fn empty() -> Self {
        Self::Bytes(None)
    }

    /// Returns a body that streams `length` bytes of a file from `offset`.
    pub fn file(file: File, offset: u64, length: u64) -> Self {
        Self::File(FileBody {
            state: State::Idle(file),
            buffer: BytesMut::new(),
            offset,
            left: length,
        })
    }
}

impl Body {
    /// Returns how many bytes are still to come.
    fn left(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File(file) => file.left,
            Self::Chain(bodies) => bodies.iter().map(Self::left).sum(),
            Self::Passed(incoming) => incoming.size_hint().lower(),
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(content: T) -> Self {
        let bytes: Bytes = content.into();
        Self::Bytes((!bytes.is_empty()).then_some(bytes))
    }
}

/// Streams a part of a file.
pub struct FileBody {
    state: State,
    /// Memory that is used again once the connection has sent what was in it.
    buffer: BytesMut,
    offset: u64,
    left: u64,
}

enum State {
    Idle(File),
    Reading(JoinHandle<(File, io::Result<BytesMut>)>),
    Done,
}

impl FileBody {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::Idle(_) if self.left == 0 => return Poll::Ready(None),
                State::Idle(file) => {
                    let wanted = usize::try_from(self.left).map_or(PIECE, |left| left.min(PIECE));
                    let offset = self.offset;
                    let mut piece = std::mem::take(&mut self.buffer);
                    self.state = State::Reading(tokio::task::spawn_blocking(move || {
                        piece.resize(wanted, 0);
                        let read = file.read_exact_at(&mut piece, offset).map(|()| piece);
                        (file, read)
                    }));
                }
                State::Reading(mut reading) => {
                    let (file, piece) = match Pin::new(&mut reading).poll(context) {
                        Poll::Pending => {
                            self.state = State::Reading(reading);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(outcome)) => outcome,
                        Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                    };
                    return Poll::Ready(Some(piece.map(|mut piece| {
                        self.offset += piece.len() as u64;
                        self.left -= piece.len() as u64;
                        self.state = State::Idle(file);
                        let full = piece.split().freeze();
                        self.buffer = piece;
                        Frame::data(full)
                    })));
                }
            }
        }
    }
}

impl HyperBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::File(file) => file.poll(context),
            Self::Chain(bodies) => {
                while let Some(next) = bodies.front_mut() {
                    match Pin::new(next).poll_frame(context) {
                        Poll::Ready(None) => drop(bodies.pop_front()),
                        other => return other,
                    }
                }
                Poll::Ready(None)
            }
            Self::Passed(incoming) => Pin::new(incoming)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(io::Error::other))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_none(),
            Self::File(file) => file.left == 0,
            Self::Chain(bodies) => bodies.iter().all(HyperBody::is_end_stream),
            Self::Passed(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // Its length may not be known.
            Self::Passed(incoming) => incoming.size_hint(),
            _ => SizeHint::with_exact(self.left()),
        }
    }
}
