//! How many connections there may be: a server that is out of descriptors can
//! serve none of them, so some are kept back for what requests open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::sys::clock::monotonic;
use crate::sys::task;

/// Descriptors that are kept back at least, and their share of all.
const RESERVE: u64 = 64;
const RESERVED_SHARE: u64 = 4;
/// How long a connection that was asked to end may take, before another is.
const PATIENCE: Duration = Duration::from_millis(100);

/// The connections of a server.
#[derive(Clone, Debug)]
pub struct Admission(Arc<State>);

#[derive(Debug)]
struct State {
    most: usize,
    began: std::time::Instant,
    next: AtomicU64,
    all: Mutex<HashMap<u64, Arc<Usage>>>,
    ended: Notify,
}

/// What a connection is used for.
#[derive(Debug)]
struct Usage {
    end: CancellationToken,
    requests: AtomicUsize,
    /// When its last request ended, in milliseconds.
    last: AtomicU64,
}

impl Admission {
    /// Lets in as many as descriptors allow, of which there are `descriptors`.
    pub fn of(descriptors: u64) -> Self {
        let reserve = (descriptors / RESERVED_SHARE).max(RESERVE);
        let most = descriptors.saturating_sub(reserve).max(1);
        Self(Arc::new(State {
            most: usize::try_from(most).unwrap_or(usize::MAX),
            began: monotonic(),
            next: AtomicU64::default(),
            all: Mutex::default(),
            ended: Notify::new(),
        }))
    }

    /// Waits until there is room for one more. Where there is none, those go
    /// that have been idle for longest.
    pub async fn room(&self) {
        loop {
            let ended = self.0.ended.notified();
            let idle = {
                let all = self.0.all();
                if all.len() < self.0.most {
                    return;
                }
                let idle = all.values().filter(|one| one.is_idle());
                idle.min_by_key(|one| one.last.load(Ordering::Relaxed)).map(Arc::clone)
            };
            if let Some(idle) = idle {
                idle.end.cancel();
            }
            // Who was asked may have begun with a request in that moment.
            let _ = task::timeout(PATIENCE, ended).await;
        }
    }

    /// Counts a connection until it is dropped. It ends when `stop` says so,
    /// or when another needs its place.
    pub fn enter(&self, stop: &CancellationToken) -> Admitted {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let usage = Arc::new(Usage {
            end: stop.child_token(),
            requests: AtomicUsize::default(),
            last: AtomicU64::new(self.0.now()),
        });
        self.0.all().insert(id, Arc::clone(&usage));
        Admitted {
            state: Arc::clone(&self.0),
            id,
            usage,
        }
    }
}

impl State {
    fn all(&self) -> MutexGuard<'_, HashMap<u64, Arc<Usage>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Usage {
    fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0 && !self.end.is_cancelled()
    }
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Admitted {
    state: Arc<State>,
    id: u64,
    usage: Arc<Usage>,
}

impl Admitted {
    /// Tells when it is to end.
    pub fn end(&self) -> &CancellationToken {
        &self.usage.end
    }

    /// Counts a request on it until it is dropped.
    pub fn request(&self) -> Busy {
        self.usage.requests.fetch_add(1, Ordering::Relaxed);
        Busy {
            state: Arc::clone(&self.state),
            usage: Arc::clone(&self.usage),
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.state.all().remove(&self.id);
        self.state.ended.notify_one();
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Busy {
    state: Arc<State>,
    usage: Arc<Usage>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.usage.last.store(self.state.now(), Ordering::Relaxed);
        self.usage.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_has_been_idle_for_longest_makes_room() {
        // The reserve leaves three.
        let admission = Admission::of(RESERVE + 3);
        let stop = CancellationToken::new();
        let mut all: Vec<Admitted> = (0..3).map(|_| admission.enter(&stop)).collect();
        let busy = all[0].request();
        all[1].usage.last.store(7, Ordering::Relaxed);
        let waiting = task::spawn({
            let admission = admission.clone();
            async move { admission.room().await }
        });
        all[2].end().cancelled().await;
        assert!(!all[0].end().is_cancelled() && !waiting.is_finished());
        // It does not end, since its client holds it: another is asked.
        all[1].end().cancelled().await;
        drop(all.pop());
        waiting.await.expect("there is room");
        assert!(!all[0].end().is_cancelled(), "it has a request");
        drop(busy);
    }
}
