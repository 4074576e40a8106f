//! Who waits for which repository to be found.
//!
//! What a look finds holds for whoever asked before it began. So those who
//! come while looks are under way wait for the next one and share it, however
//! many they are: the more ask, the less each costs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::error::DatabaseError;
use super::repository::Repository;

/// Who waits for which repository.
#[derive(Clone, Debug, Default)]
pub(super) struct Finder(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<String, Vec<oneshot::Sender<Outcome>>>,
    looks: usize,
}

/// What a look came to; where it failed in a way that may pass, who waits
/// hears nothing, and looks alone.
pub(super) type Outcome = Result<Option<Repository>, DatabaseError>;

/// Looks at once: one is on its way while another's answers are handed out.
const LOOKS: usize = 2;
impl Finder {
    /// Waits for a repository; returns what its answer comes by, and a look that
    /// is to begin, where too few are under way.
    pub fn wait(&self, path: &str) -> (oneshot::Receiver<Outcome>, Option<Look>) {
        let (sender, outcome) = oneshot::channel();
        let mut state = self.state();
        state.waiting.entry(path.to_owned()).or_default().push(sender);
        if state.looks == LOOKS {
            return (outcome, None);
        }
        state.looks += 1;
        let finder = self.clone();
        (outcome, Some(Look { finder, is_over: false }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look under way, also when it panics.
pub(super) struct Look {
    finder: Finder,
    is_over: bool,
}

impl Look {
    /// Returns who waits. When there is nobody it is over, before anybody else
    /// comes and relies on it.
    pub fn take(&mut self) -> Option<HashMap<String, Vec<oneshot::Sender<Outcome>>>> {
        let mut state = self.finder.state();
        if state.waiting.is_empty() {
            state.looks -= 1;
            self.is_over = true;
            return None;
        }
        Some(std::mem::take(&mut state.waiting))
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if !self.is_over {
            self.finder.state().looks -= 1;
        }
    }
}
