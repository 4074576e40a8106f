//! Changes that belong together, one object after the other. What fails takes
//! back what was new, so that nobody sees any of it.

use std::io;

use bytes::Bytes;

use super::record::record_of;
use super::remove::grace_of;
use super::store::Store;
use crate::registry::storage::error::Conflict;
use crate::registry::storage::{Change, Key};

/// What takes a change back.
enum Undo {
    Delete(Key),
    Put(Key, Bytes),
}

/// Carries out changes.
///
/// # Errors
/// When any of them fails.
pub async fn commit(store: &Store, changes: &[Change]) -> io::Result<()> {
    let mut undo = Vec::new();
    let outcome = carry_out(store, changes, &mut undo).await;
    if outcome.is_err() {
        // The first error counts.
        for step in undo.into_iter().rev() {
            let _ = match step {
                Undo::Delete(key) => store.delete(&key).await,
                Undo::Put(key, content) => store.put(&key, content).await,
            };
        }
        return outcome;
    }
    for change in changes {
        if let Change::Promote { staged, .. } = change {
            // What is left of it is removed with its upload.
            let _ = store.delete(&record_of(&staged.key)).await;
            let _ = store.delete(&staged.key).await;
        }
    }
    Ok(())
}

async fn carry_out(store: &Store, changes: &[Change], undo: &mut Vec<Undo>) -> io::Result<()> {
    // What readers find first comes last.
    for is_last in [false, true] {
        let those = |change: &&Change| matches!(change, Change::Update { .. }) == is_last;
        for change in changes.iter().filter(those) {
            one(store, change, undo).await?;
        }
    }
    Ok(())
}

async fn one(store: &Store, change: &Change, undo: &mut Vec<Undo>) -> io::Result<()> {
    match change {
        Change::PutVerified { key, content } => {
            if store.create(key, content.clone()).await? {
                undo.push(Undo::Delete(key.clone()));
            } else if store.get(key).await?.as_ref() == Some(content) {
                // That protects it from a garbage collection that saw it
                // without references.
                touch(store, key).await?;
            } else {
                store.put(key, content.clone()).await?;
            }
        }
        Change::Put { key, content } => {
            if store.create(key, content.clone()).await? {
                undo.push(Undo::Delete(key.clone()));
            } else {
                // What was just verified heals what is not.
                store.put(key, content.clone()).await?;
            }
        }
        Change::Promote { staged, key } => {
            if store.copy(&staged.key, key).await? {
                undo.push(Undo::Delete(key.clone()));
            }
        }
        Change::Touch { key } => touch(store, key).await?,
        Change::Update { key, content, expected } => {
            let before = store.get(key).await?;
            if !expected.is(before.as_deref()) {
                return Err(Conflict.into());
            }
            // Before it is known whether it was written.
            undo.push(match before {
                Some(before) => Undo::Put(key.clone(), before),
                None => Undo::Delete(key.clone()),
            });
            store.put(key, content.clone()).await?;
        }
    }
    Ok(())
}

/// Lets an object's grace begin anew. A store cannot change an object's time:
/// a mark beside it has one.
async fn touch(store: &Store, key: &Key) -> io::Result<()> {
    store.head(key).await?.ok_or(io::ErrorKind::NotFound)?;
    store.put(&grace_of(key), Bytes::new()).await
}
