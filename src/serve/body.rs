//! Response bodies: nothing, bytes, or pieces as they come.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use hyper::body::{Body as HyperBody, Frame, Incoming, SizeHint};

/// The body of a response.
pub enum Body {
    /// Bytes, possibly none.
    Bytes(Option<Bytes>),
    /// Pieces of a known length in all.
    Stream(BoxStream<'static, io::Result<Bytes>>, u64),
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

    /// Returns a body of pieces that have `length` bytes in all.
    pub fn stream(pieces: BoxStream<'static, io::Result<Bytes>>, length: u64) -> Self {
        Self::Stream(pieces, length)
    }
}

impl Body {
    /// Returns how many bytes are still to come.
    fn left(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Stream(_, left) => *left,
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

impl HyperBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(pieces, left) => pieces.poll_next_unpin(context).map(|piece| {
                piece.map(|piece| {
                    let piece = piece?;
                    *left = left.saturating_sub(piece.len() as u64);
                    Ok(Frame::data(piece))
                })
            }),
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
            Self::Stream(_, left) => *left == 0,
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
