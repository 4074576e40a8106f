//! Checking logins: tokens at once, passwords a few at a time, and from each
//! address only so many wrong ones.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::identity::{Caller, Identity, IdentityError, TOKEN_PREFIX};
use crate::sys::clock::monotonic;

/// Passwords that are checked at once: each takes a core for a while.
const AT_ONCE: usize = 2;
/// Logins by password that may wait for their turn.
const WAITING: usize = 16;
/// Of these, places that one address may take.
const PLACES: usize = 6;
/// Wrong logins that an address has in each [`WINDOW`].
const WRONG: u32 = 10;
/// How long wrong logins count.
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are remembered; more than that at once is an attack from
/// everywhere, which no list by address holds off.
const REMEMBERED: usize = 10_000;

/// Why somebody is not let in.
#[derive(Debug)]
pub enum Refusal {
    /// The name or the password is wrong, or the token.
    Wrong,
    /// Too many were wrong, or too many wait.
    TooMany {
        /// After how many seconds it may be tried again.
        seconds: u64,
    },
    /// Users and tokens cannot be read.
    Failed(String),
}

impl From<IdentityError> for Refusal {
    fn from(error: IdentityError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Wrong logins from one address.
#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    wrong: u32,
}

/// Logins under way, and wrong ones of late.
#[derive(Debug)]
pub struct Logins {
    turns: Arc<Semaphore>,
    places: Semaphore,
    waiting: Mutex<HashMap<IpAddr, usize>>,
    wrong: Mutex<HashMap<IpAddr, Count>>,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            places: Semaphore::new(AT_ONCE + WAITING),
            waiting: Mutex::default(),
            wrong: Mutex::default(),
        }
    }
}

impl Logins {
    /// Checks a name and a password or token from an address.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(
        &self,
        identity: &Identity,
        from: Option<IpAddr>,
        user: &str,
        password: &str,
    ) -> Result<Caller, Refusal> {
        let from = from.map(group);
        // A token cannot be guessed: a right one passes whatever was tried before.
        let (known, token) = (identity.clone(), password.to_owned());
        if let Some(caller) = off_reactor(move || known.by_token(&token)).await? {
            return Ok(caller);
        }
        if let Some(seconds) = from.and_then(|from| self.is_barred(from)) {
            return Err(Refusal::TooMany { seconds });
        }
        if !password.starts_with(TOKEN_PREFIX) {
            let _place = self.place(from)?;
            // Nobody closes it.
            let turn = Arc::clone(&self.turns).acquire_owned().await;
            // Others from there may have been wrong meanwhile.
            if let Some(seconds) = from.and_then(|from| self.is_barred(from)) {
                return Err(Refusal::TooMany { seconds });
            }
            let (known, user, password) = (identity.clone(), user.to_owned(), password.to_owned());
            let checked = off_reactor(move || {
                // It takes its core also when nobody waits any more.
                let _turn = turn;
                known.by_password(&user, &password)
            });
            if let Some(caller) = checked.await? {
                return Ok(caller);
            }
        }
        if let Some(from) = from {
            self.note(from);
        }
        Err(Refusal::Wrong)
    }

    /// Takes a place in the queue, of which an address has only some.
    fn place(&self, from: Option<IpAddr>) -> Result<Place<'_>, Refusal> {
        let full = || Refusal::TooMany { seconds: 1 };
        let permit = self.places.try_acquire().map_err(|_| full())?;
        if let Some(from) = from {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let count = waiting.entry(from).or_insert(0);
            if *count >= PLACES {
                return Err(full());
            }
            *count += 1;
        }
        Ok(Place {
            logins: self,
            from,
            _permit: permit,
        })
    }

    /// Returns after how many seconds an address may try again, when it may not now.
    fn is_barred(&self, from: IpAddr) -> Option<u64> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let count = wrong.get(&from).filter(|count| count.wrong >= WRONG)?;
        let left = WINDOW.checked_sub(count.since.elapsed())?;
        Some(left.as_secs() + 1)
    }

    fn note(&self, from: IpAddr) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() >= REMEMBERED {
            wrong.retain(|_, count| count.since.elapsed() < WINDOW);
        }
        if wrong.len() >= REMEMBERED {
            wrong.clear();
        }
        let fresh = Count {
            since: monotonic(),
            wrong: 0,
        };
        let count = wrong.entry(from).or_insert(fresh);
        if count.since.elapsed() >= WINDOW {
            *count = fresh;
        }
        count.wrong += 1;
    }
}

/// A place in the queue, until it is dropped.
struct Place<'a> {
    logins: &'a Logins,
    from: Option<IpAddr>,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(from) = self.from else { return };
        let mut waiting = self.logins.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&from);
            }
        }
    }
}

/// Returns what stands for all addresses of one client: with IPv6 each has a
/// whole network.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

async fn off_reactor<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IdentityError> + Send + 'static,
) -> Result<T, Refusal> {
    match crate::sys::task::blocking(work).await {
        Ok(outcome) => Ok(outcome?),
        Err(failure) => Err(Refusal::Failed(failure.to_string())),
    }
}
