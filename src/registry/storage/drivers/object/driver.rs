//! An object store as the port has it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

use super::commit::commit;
use super::record::{Record, record_of};
use super::remove::{delete, grace_of, purge, quarantine};
use super::store::{Known, Store};
use super::writer::{PartWriter, Writing};
use crate::registry::storage::object::{Object, Source};
use crate::registry::storage::pending::Pending;
use crate::registry::storage::writer::Resumed;
use crate::registry::storage::{Aside, Change, Driver, Durability, Key, LastUsed, Names, Prefix, StorageError, Target};
use crate::sys::usage::Space;

/// Objects in a store.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Store,
    pending: Pending,
    writing: Arc<Writing>,
}

impl Objects {
    /// Takes a store.
    pub fn on(store: Store) -> Self {
        Self {
            store,
            pending: Pending::default(),
            writing: Arc::default(),
        }
    }
}

/// An object that was found, to be read in ranges.
struct Found {
    store: Store,
    key: Key,
    known: Known,
}

impl Source for Found {
    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        self.store.read(&self.key, &self.known, range)
    }

    fn is_bulk(&self) -> bool {
        false
    }
}

/// Names an operation that fails.
fn named<T>(
    operation: &'static str,
    name: &(impl ToString + ?Sized),
    outcome: io::Result<T>,
) -> Result<T, StorageError> {
    outcome.map_err(|source| StorageError::new(operation, name, source))
}

impl Driver for Objects {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StorageError> {
        self.pending.settled(key).await;
        named("read", key, self.store.get(key).await)
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        self.pending.settled(key).await;
        let known = named("look at", key, self.store.head(key).await)?;
        Ok(known.map(|known| known.size))
    }

    async fn open(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        self.pending.settled(key).await;
        let known = named("open", key, self.store.head(key).await)?;
        Ok(known.map(|known| {
            let (store, key, size) = (self.store.clone(), key.clone(), known.size);
            Object::new(size, Arc::new(Found { store, key, known }))
        }))
    }

    async fn list(&self, prefix: &Prefix) -> Result<Option<Names>, StorageError> {
        let names = named("list", prefix, self.store.names(prefix).await)?;
        Ok((!names.is_empty()).then(|| names.into()))
    }

    async fn last_used(&self, key: &Key) -> Result<Option<LastUsed>, StorageError> {
        self.pending.settled(key).await;
        let found = async {
            let Some(known) = self.store.head(key).await? else {
                // An unfinished one was used when it was left.
                let record = self.store.head(&record_of(key)).await?;
                return Ok(record.map(|record| LastUsed {
                    at: record.written,
                    size: record.size,
                }));
            };
            let touched = self.store.head(&grace_of(key)).await?;
            let at = touched.map_or(known.written, |mark| mark.written.max(known.written));
            Ok(Some(LastUsed { at, size: known.size }))
        };
        named("look at", key, found.await)
    }

    async fn unfinished(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        let record = named("look at", key, Record::read(&self.store, key).await)?;
        Ok(record.map(|record| record.size()))
    }

    async fn resume(&self, key: &Key) -> Result<Resumed, StorageError> {
        let opening = PartWriter::open(self.store.clone(), key.clone(), Arc::clone(&self.writing));
        let (writer, note) = named("append to", key, opening.await)?;
        Ok(Resumed {
            size: writer.size(),
            writer: Box::new(writer),
            note,
        })
    }

    async fn commit(&self, changes: Vec<Change>, _: Durability) -> Result<(), StorageError> {
        let about = changes
            .last()
            .map(|change| change.key().to_string())
            .unwrap_or_default();
        let announced = self.pending.announce(&changes).await;
        let store = self.store.clone();
        // To its end, also when nobody waits for it any more.
        let work = crate::sys::task::spawn(async move {
            let _announced = announced;
            commit(&store, &changes).await
        });
        let outcome = work.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        named("write", &about, outcome)
    }

    async fn delete(&self, targets: Vec<Target>, _: Durability) -> Result<usize, StorageError> {
        let about = targets
            .last()
            .map(|target| target.name().to_owned())
            .unwrap_or_default();
        let store = self.store.clone();
        let work = crate::sys::task::spawn(async move { delete(&store, &targets).await });
        let outcome = work.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        named("remove", &about, outcome)
    }

    async fn flush(&self) -> Result<(), StorageError> {
        // What a store took is there.
        Ok(())
    }

    async fn set_aside(&self, keys: Vec<Key>) -> Result<Aside, StorageError> {
        // A store moves nothing out of sight: it is noted only.
        Ok(Aside::now(keys))
    }

    async fn restore(&self, _: &Aside) -> Result<(), StorageError> {
        Ok(())
    }

    async fn purge(&self, aside: &Aside, deadline: Timestamp) -> Result<usize, StorageError> {
        let _announced = self.pending.announce_all(aside.keys.clone()).await;
        named("purge", &aside.id, purge(&self.store, aside, deadline).await)
    }

    async fn quarantine(&self, aside: &Aside, name: &str) -> Result<(), StorageError> {
        let _announced = self.pending.announce_all(aside.keys.clone()).await;
        named("keep aside", &aside.id, quarantine(&self.store, aside, name).await)
    }

    async fn tidy(&self, _: &Prefix, _: Timestamp) -> Result<usize, StorageError> {
        // There are no temporary names, and no directories.
        Ok(0)
    }

    async fn probe(&self) -> Result<Option<Space>, StorageError> {
        let any = Prefix::top().below(".kdk").key("probe");
        named("look at", &any, self.store.head(&any).await.map(|_| None))
    }
}
