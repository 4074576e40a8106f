//! Names and passwords in a file, as `htpasswd -B` writes it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use camino::Utf8PathBuf;
use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::actor::Actor;
use super::challenge::{Challenge, Refusal};
use crate::registry::config::HtpasswdConfig;
use crate::registry::token::Scope;
use crate::serve::reload::Guard;

/// Passwords that are checked at once: each takes a core for a while.
const AT_ONCE: usize = 2;
/// Passwords that may wait for that.
const WAITING: usize = 64;
/// Passwords that are remembered to be right.
const REMEMBERED: usize = 1000;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// It cannot be read.
    #[error("auth.htpasswd.path: {0}; make the file with: htpasswd -Bbn USER PASSWORD")]
    Read(#[source] std::io::Error),
    /// There is nobody in it.
    #[error("auth.htpasswd.path: {0} holds no bcrypt entry; make one with: htpasswd -Bbn USER PASSWORD")]
    Empty(Utf8PathBuf),
}

/// Checks names and passwords.
pub struct Htpasswd {
    config: HtpasswdConfig,
    entries: Guard<Entries>,
    turns: Arc<Semaphore>,
    places: Semaphore,
}

struct Entries {
    hashes: HashMap<String, String>,
    /// Hashes of what was found to be right: checking again would take long.
    right: Mutex<HashSet<[u8; 32]>>,
}

impl Entries {
    fn load(config: &HtpasswdConfig) -> Result<Self, HtpasswdError> {
        let text = crate::sys::fs::read(&config.path).map_err(HtpasswdError::Read)?;
        // Of a name's lines the last counts, as with distribution.
        let mut hashes: HashMap<String, String> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(':'))
            .map(|(name, hash)| (name.to_owned(), hash.to_owned()))
            .collect();
        // Other hashes are no protection; distribution does not take them either.
        hashes.retain(|_, hash| ["$2y$", "$2a$", "$2b$"].iter().any(|kind| hash.starts_with(kind)));
        if hashes.is_empty() {
            return Err(HtpasswdError::Empty(config.path.clone()));
        }
        Ok(Self {
            hashes,
            right: Mutex::default(),
        })
    }
}

impl Htpasswd {
    /// Loads the file.
    ///
    /// # Errors
    /// When it cannot be read or nobody is in it.
    pub fn new(config: HtpasswdConfig) -> Result<Self, HtpasswdError> {
        Ok(Self {
            entries: Guard::new("htpasswd file", vec![config.path.clone()], Entries::load(&config)?),
            config,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            places: Semaphore::new(AT_ONCE + WAITING),
        })
    }

    /// Checks a request's `Authorization` header. Who is known may do everything.
    ///
    /// # Errors
    /// When there is no name and password or they are wrong, or too many wait.
    pub async fn check(&self, authorization: Option<&str>, needed: &[Scope]) -> Result<Actor, Refusal> {
        let challenge = || Challenge {
            scheme: "Basic",
            realm: self.config.realm.clone(),
            parameters: String::new(),
            missing: needed.to_vec(),
            reason: None,
        };
        let (name, password) = authorization.and_then(basic).ok_or_else(challenge)?;
        let entries = self.entries.current(|| Entries::load(&self.config));
        let entries = entries.ok_or_else(challenge)?;
        // For an unknown name the time of a real check passes all the same.
        let any = entries.hashes.values().next().cloned().unwrap_or_default();
        let hash = entries.hashes.get(&name).cloned();
        let known = hash.is_some();
        let hash = hash.unwrap_or(any);
        let mut seen = Sha256::new();
        for part in [&name, &password, &hash] {
            seen.update((part.len() as u64).to_le_bytes());
            seen.update(part.as_bytes());
        }
        let seen: [u8; 32] = seen.finalize().into();
        if known
            && entries
                .right
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&seen)
        {
            return Ok(Actor {
                name,
                ..Actor::default()
            });
        }
        let _place = self.places.try_acquire().map_err(|_| Refusal::Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let checking = crate::sys::task::blocking(move || {
            // It takes its core also when nobody waits any more.
            let _turn = turn;
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        if checking.await.unwrap_or(false) && known {
            let mut right = entries.right.lock().unwrap_or_else(PoisonError::into_inner);
            if right.len() >= REMEMBERED {
                right.clear();
            }
            right.insert(seen);
            return Ok(Actor {
                name,
                ..Actor::default()
            });
        }
        tracing::warn!(actor = %name, "error authorizing context: authentication failure");
        Err(challenge().into())
    }
}

/// Reads a name and a password (RFC 7617).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(encoded.trim().as_bytes()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
