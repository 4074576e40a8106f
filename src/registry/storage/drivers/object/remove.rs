//! Removing objects, and what lies beside them.

use std::io;

use super::record::{Record, record_of, recorded_by};
use super::store::Store;
use crate::registry::storage::{Key, Prefix, Target};

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

/// Puts an object aside, outside the layout, under a name.
///
/// # Errors
/// When it cannot be copied or removed.
pub async fn quarantine(store: &Store, key: &Key, name: &str) -> io::Result<()> {
    let aside = Prefix::top().below(".kdk").below("quarantine").key(name);
    store.copy(key, &aside).await?;
    store.delete(key).await?;
    store.delete(&record_of(key)).await
}
