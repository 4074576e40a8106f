//! Reading an open file, piece by piece, off the reactor's threads.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use tokio::task::JoinHandle;

use crate::registry::storage::object::Source;

/// Bytes read at a time.
pub const PIECE: usize = 512 << 10;

/// An open file, whose ranges share one descriptor.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    /// All of it, where that was read already.
    whole: Option<Bytes>,
    /// Whether it is read on the thread that polls.
    bulk: bool,
}

impl OpenFile {
    /// Takes an open file, and reads all of it where its size is given.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn new(file: File, bulk: bool, whole: Option<usize>) -> io::Result<Self> {
        let whole = match whole {
            Some(size) => Some(read(&file, BytesMut::new(), size, 0)?.freeze()),
            None => None,
        };
        Ok(Self { file, whole, bulk })
    }
}

impl Source for OpenFile {
    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        if let Some(whole) = &self.whole
            && let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
            && start < end
        {
            return stream::iter([Ok(whole.slice(start..end))]).boxed();
        }
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
