//! Reading an open file, piece by piece, off the reactor's threads.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use tokio::task::JoinHandle;

use crate::registry::storage::object::Source;

/// Bytes read at a time.
const PIECE: usize = 512 << 10;

/// An open file, whose ranges share one descriptor.
#[derive(Debug)]
pub struct OpenFile {
    /// The file.
    pub file: File,
    /// Whether it is read on the thread that polls.
    pub bulk: bool,
}

impl Source for OpenFile {
    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        FileReader {
            file: self,
            state: State::Idle,
            buffer: BytesMut::new(),
            range,
        }
        .boxed()
    }

    fn is_bulk(&self) -> bool {
        self.bulk
    }
}

/// Reads a range of a file.
struct FileReader {
    file: Arc<OpenFile>,
    state: State,
    /// Memory that is used again once what was in it is done with.
    buffer: BytesMut,
    /// What is still to come.
    range: Range<u64>,
}

enum State {
    Idle,
    Reading(JoinHandle<io::Result<BytesMut>>),
    Failed,
}

fn read(file: &File, mut piece: BytesMut, wanted: usize, offset: u64) -> io::Result<BytesMut> {
    piece.resize(wanted, 0);
    file.read_exact_at(&mut piece, offset).map(|()| piece)
}

impl Stream for FileReader {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let this = &mut *self;
        let outcome = loop {
            match &mut this.state {
                State::Failed => return Poll::Ready(None),
                State::Idle if this.range.is_empty() => return Poll::Ready(None),
                State::Idle => {
                    let left = this.range.end - this.range.start;
                    let wanted = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
                    let (offset, piece) = (this.range.start, std::mem::take(&mut this.buffer));
                    if this.file.bulk {
                        break read(&this.file.file, piece, wanted, offset);
                    }
                    let file = Arc::clone(&this.file);
                    this.state = State::Reading(crate::sys::task::blocking(move || {
                        read(&file.file, piece, wanted, offset)
                    }));
                }
                State::Reading(reading) => match Pin::new(reading).poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(outcome) => break outcome.map_err(io::Error::other).flatten(),
                },
            }
        };
        Poll::Ready(Some(match outcome {
            Ok(mut piece) => {
                this.state = State::Idle;
                this.range.start += piece.len() as u64;
                let full = piece.split().freeze();
                this.buffer = piece;
                Ok(full)
            }
            Err(error) => {
                this.state = State::Failed;
                Err(error)
            }
        }))
    }
}
