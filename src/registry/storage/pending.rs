//! Changes on their way: readers of the same names wait for them, and so do
//! other changes. What a reader sees is durable that way, or fails for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::change::Change;
use super::key::Key;

/// Names that a change is on its way to, and what tells that it is there.
#[derive(Clone, Debug, Default)]
pub struct Pending(Arc<Mutex<HashMap<Key, CancellationToken>>>);

impl Pending {
    fn names(&self) -> MutexGuard<'_, HashMap<Key, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the change that is on its way to an object, if there is one.
    pub async fn settled(&self, key: &Key) {
        let pending = self.names().get(key).cloned();
        if let Some(change) = pending {
            change.cancelled().await;
        }
    }

    /// Announces a change, after others that are on their way to the same names.
    pub async fn announce(&self, changes: &[Change]) -> Announced {
        // What is only touched is there, and stays.
        let change = changes.iter().filter(|change| !matches!(change, Change::Touch { .. }));
        self.announce_all(change.map(|change| change.key().clone()).collect())
            .await
    }

    /// Announces that something happens to objects of these names.
    pub async fn announce_all(&self, keys: Vec<Key>) -> Announced {
        let token = CancellationToken::new();
        loop {
            let other = {
                let mut names = self.names();
                let other = keys.iter().find_map(|key| names.get(key)).cloned();
                if other.is_none() {
                    names.extend(keys.iter().map(|key| (key.clone(), token.clone())));
                }
                other
            };
            match other {
                Some(other) => other.cancelled().await,
                None => break,
            }
        }
        Announced {
            pending: self.clone(),
            keys,
            token,
        }
    }
}

/// A change on its way, until this is dropped.
pub struct Announced {
    pending: Pending,
    keys: Vec<Key>,
    token: CancellationToken,
}

impl Drop for Announced {
    fn drop(&mut self) {
        let mut names = self.pending.names();
        for key in &self.keys {
            names.remove(key);
        }
        drop(names);
        self.token.cancel();
    }
}
