//! Threads that share work.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Work that was interrupted.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

/// Several threads that share work.
#[derive(Clone)]
pub struct WorkerPool<'a> {
    handle: &'a Handle,
    stop: &'a CancellationToken,
    workers: usize,
}

impl<'a> WorkerPool<'a> {
    /// Makes a pool of as many threads as do any good.
    pub fn new(handle: &'a Handle, stop: &'a CancellationToken) -> Self {
        let workers = std::thread::available_parallelism()
            .map_or(2, std::num::NonZero::get)
            .clamp(2, 8);
        Self { handle, stop, workers }
    }

    /// Returns the same pool with many workers, for work that waits more than it does.
    #[must_use]
    pub fn io_bound(&self) -> Self {
        Self {
            workers: 16,
            ..self.clone()
        }
    }

    /// Returns the same pool with one worker, for work that must go in order.
    #[must_use]
    pub fn serial(&self) -> Self {
        Self {
            workers: 1,
            ..self.clone()
        }
    }

    /// Runs `work` for every item; returns what it returned, in no order.
    ///
    /// # Errors
    /// The first that `work` returned, or that it was interrupted.
    pub fn each<T: Sync, R: Send, E: From<Interrupted> + Send>(
        &self,
        items: &[T],
        work: impl AsyncFn(&T) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>, E> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let results = Mutex::new(Vec::with_capacity(items.len()));
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..self.workers.min(items.len()) {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    while !failed.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(number) else { break };
                        let outcome = if self.stop.is_cancelled() {
                            Err(Interrupted.into())
                        } else {
                            self.handle.block_on(work(item))
                        };
                        match outcome {
                            Ok(result) => mine.push(result),
                            Err(error) => {
                                failed.store(true, Ordering::Relaxed);
                                failure
                                    .lock()
                                    .unwrap_or_else(PoisonError::into_inner)
                                    .get_or_insert(error);
                            }
                        }
                    }
                    results.lock().unwrap_or_else(PoisonError::into_inner).append(&mut mine);
                });
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}
