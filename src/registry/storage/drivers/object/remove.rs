//! Removing objects, and what lies beside them.

use std::io;

use jiff::Timestamp;

use super::record::{Record, recorded_by};
use super::store::{Known, Store};
use crate::registry::storage::{Aside, Key, Prefix, Target};

/// Returns the mark of when an object was last touched.
pub fn grace_of(key: &Key) -> Key {
    Prefix::top().below(".kdk").below("grace").key(key.as_str())
}

/// Removes what targets name; says of how many there was something.
///
/// # Errors
/// When one cannot be removed.
pub async fn delete(store: &Store, targets: &[Target]) -> io::Result<usize> {
    let mut there = 0;
    for target in targets {
        let keys = match target {
            Target::Object(key) => store.head(key).await?.map(|_| key.clone()).into_iter().collect(),
            Target::All(prefix) => store.below(prefix).await?,
        };
        there += usize::from(!keys.is_empty());
        for key in &keys {
            if let Some(of) = recorded_by(key)
                && let Ok(Some(record)) = Record::read(store, &of).await
                && let Some(id) = record.id()
            {
                // What was ended meanwhile has no parts any more.
                let _ = store.abort(&of, id).await;
            }
            store.delete(key).await?;
            store.delete(&grace_of(key)).await?;
        }
    }
    Ok(there)
}

/// Removes what was noted to go, unless something has come in its place since;
/// says how many objects that were.
///
/// # Errors
/// When one cannot be removed, or the deadline has passed.
pub async fn purge(store: &Store, aside: &Aside, deadline: Timestamp) -> io::Result<usize> {
    let mut gone = 0;
    for key in &aside.keys {
        if Aside::is_over(deadline) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let known = store.head(key).await?;
        let touched = store.head(&grace_of(key)).await?;
        let is_newer = |known: &Known| known.written > aside.at;
        if touched.as_ref().is_some_and(is_newer) || known.as_ref().is_none_or(is_newer) {
            continue;
        }
        store.delete(key).await?;
        store.delete(&grace_of(key)).await?;
        gone += 1;
    }
    Ok(gone)
}

/// Keeps an object outside the layout, under a name.
///
/// # Errors
/// When it cannot be copied or removed.
pub async fn quarantine(store: &Store, aside: &Aside, name: &str) -> io::Result<()> {
    let kept = Prefix::top().below(".kdk").below("quarantine").key(name);
    for key in &aside.keys {
        store.copy(key, &kept).await?;
        store.delete(key).await?;
    }
    Ok(())
}
