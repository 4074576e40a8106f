//! Content that Go registries stored under SHA-256 alone, and linked under
//! another algorithm's digest. A database knows no such links: what they lead
//! to gets a name of its own.

use bytes::BytesMut;
use futures_util::TryStreamExt as _;

use super::blobs::Blobs;
use super::change::{Change, Durability};
use super::dispatch::Storage;
use super::error::StorageError;
use super::layout;
use super::writer::Piece;
use crate::registry::oci::{Digest, RepoName};

/// Stores a blob's content under another digest of it, by way of an upload to
/// a repository; returns its size, or nothing where it is not there or not
/// what that digest says.
///
/// # Errors
/// Those of the storage.
pub async fn give_name(
    storage: &Storage,
    name: &RepoName,
    from: &Digest,
    to: &Digest,
) -> Result<Option<u64>, StorageError> {
    let failed = |source| StorageError::new("read", from, source);
    let Some(content) = Blobs::new(storage.clone()).open(from).await? else {
        return Ok(None);
    };
    if content.digest(to.algorithm()).await.map_err(failed)? != *to {
        return Ok(None);
    }
    let mut id = [0; 16];
    crate::sys::random::fill(&mut id).map_err(failed)?;
    let key = layout::upload_data(name.as_str(), &data_encoding::HEXLOWER.encode(&id));
    let mut writer = storage.resume(&key).await?.writer;
    let mut pieces = content.read(0..content.size);
    while let Some(piece) = pieces.try_next().await.map_err(failed)? {
        let bytes = BytesMut::from(piece);
        writer.write(Piece { bytes, hasher: None }).await?;
    }
    let change = Change::Promote {
        staged: writer.finish(None).await?,
        key: layout::blob_data(to),
    };
    storage.commit(vec![change], Durability::Durable).await?;
    Ok(Some(content.size))
}
