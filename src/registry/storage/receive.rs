//! Taking a body in: one piece is hashed and written while the next arrives.

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join;
use futures_util::stream::{Stream, StreamExt as _};

use super::error::StorageError;
use super::writer::{Piece, Writer};
use crate::registry::oci::Hasher;

/// Bytes gathered before they are hashed and written.
const PIECE: usize = 512 << 10;

/// Makes a buffer for a piece, or for all of a body that is smaller.
pub fn buffer(announced: Option<u64>) -> BytesMut {
    let most = PIECE + (PIECE >> 2);
    let announced = announced.and_then(|announced| usize::try_from(announced).ok());
    BytesMut::with_capacity(announced.map_or(most, |announced| announced.min(most)))
}

/// Takes in up to one piece of a body; says whether that was all of it.
///
/// # Errors
/// When the body breaks off, with the reason.
pub async fn gather<B>(body: &mut B, gathered: &mut BytesMut) -> Result<bool, String>
where
    B: Stream<Item = Result<Bytes, String>> + Unpin,
{
    while gathered.len() < PIECE {
        match body.next().await {
            None => return Ok(true),
            Some(data) => gathered.extend_from_slice(&data?),
        }
    }
    Ok(false)
}

/// What was taken in.
#[derive(Debug)]
pub struct Taken {
    /// Bytes that came.
    pub received: u64,
    /// Digest of all that is there.
    pub hasher: Option<Hasher>,
    /// Why it ended early.
    pub broken: Option<String>,
}

/// Takes in what was gathered and what still comes: one piece is hashed and
/// written while the next arrives.
///
/// # Errors
/// When it cannot be written.
pub async fn fill<B>(writer: &mut dyn Writer, mut piece: Piece, mut body: Option<B>) -> Result<Taken, StorageError>
where
    B: Stream<Item = Result<Bytes, String>> + Unpin,
{
    let mut received = 0;
    let mut broken = None;
    let (mut next, room) = (BytesMut::new(), piece.bytes.capacity());
    while !piece.bytes.is_empty() || body.is_some() {
        received += piece.bytes.len() as u64;
        let write = async {
            if piece.bytes.is_empty() {
                return Ok(piece);
            }
            writer.write(piece).await
        };
        let gathering = async {
            match &mut body {
                None => Ok(Ok(true)),
                Some(body) => {
                    next.reserve(room);
                    Ok(gather(body, &mut next).await)
                }
            }
        };
        let (written, gathered) = try_join(write, gathering).await?;
        piece = written;
        // Its buffer is empty again.
        std::mem::swap(&mut piece.bytes, &mut next);
        match gathered {
            Ok(false) => {}
            Ok(true) => body = None,
            Err(reason) => {
                body = None;
                broken = Some(reason);
            }
        }
    }
    Ok(Taken {
        received,
        hasher: piece.hasher,
        broken,
    })
}
