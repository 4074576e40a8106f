//! A certificate and its key in place of another pair, whatever ends the
//! process between the two files: what is about to be put is noted first.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::sys::failpoint;
use crate::sys::fs::{Lock, PRIVATE, PUBLIC, named, read_optional, remove, write_atomic};

/// A file and what is to be in it.
#[derive(Serialize, Deserialize)]
struct Part {
    path: Utf8PathBuf,
    text: String,
    mode: u32,
    /// The hash of what was in it before; nothing where there was no file.
    before: Option<String>,
}

impl Part {
    fn of(path: &Utf8Path, text: &str, mode: u32) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            text: text.to_owned(),
            mode,
            before: bytes_of(path)?.map(|bytes| hash(&bytes)),
        })
    }

    fn put(&self) -> io::Result<()> {
        write_atomic(&self.path, self.text.as_bytes(), self.mode)
    }

    /// Says whether the file is as it was, or as it is to be.
    fn is_known(&self) -> io::Result<bool> {
        let now = bytes_of(&self.path)?.map(|bytes| hash(&bytes));
        Ok(now == self.before || now == Some(hash(self.text.as_bytes())))
    }
}

/// A pair that is being put in its place.
#[derive(Serialize, Deserialize)]
struct Begun {
    /// Where it was begun: a copy of a root has nothing to do with it.
    state: Utf8PathBuf,
    /// The key first: a server that reads between the two keeps the pair it has.
    parts: [Part; 2],
}

fn hash(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Reads what is there, whatever it is.
fn bytes_of(path: &Utf8Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(&error, "cannot read", path)),
    }
}

/// Puts a pair in its place; `state` is where kdk keeps its own things. Who
/// calls holds the lock of whoever brings a root in line.
///
/// # Errors
/// When a file cannot be written: then both are as they were before.
pub fn make(state: &Utf8Path, certificate: (&Utf8Path, &str), key: (&Utf8Path, &str)) -> io::Result<()> {
    let old_key = bytes_of(key.0)?;
    let begun = Begun {
        state: state.to_owned(),
        parts: [
            Part::of(key.0, key.1, PRIVATE)?,
            Part::of(certificate.0, certificate.1, PUBLIC)?,
        ],
    };
    let text = serde_json::to_string(&begun).map_err(io::Error::other)?;
    write_atomic(&record(state), text.as_bytes(), PRIVATE)?;
    failpoint::pass("pair");
    let put = put(&begun);
    if put.is_err() && bytes_of(key.0).is_ok_and(|there| there.as_deref() == Some(key.1.as_bytes())) {
        // What can be put back is; the error is that of the exchange.
        let _ = match old_key {
            Some(old_key) => write_atomic(key.0, &old_key, PRIVATE),
            None => remove(key.0).map(drop),
        };
    }
    let removed = remove(&record(state));
    put?;
    removed.map(drop)
}

fn put(begun: &Begun) -> io::Result<()> {
    for part in &begun.parts {
        part.put()?;
        failpoint::pass("pair");
    }
    Ok(())
}

/// Puts a pair in its place that somebody began to put there; says where.
/// What was changed since is left alone. `lock` is that of whoever brings the
/// root in line.
///
/// # Errors
/// When a file cannot be read or written.
pub fn finish(state: &Utf8Path, lock: &Utf8Path) -> io::Result<Option<Utf8PathBuf>> {
    if !record(state).exists() {
        return Ok(None);
    }
    let _lock = Lock::take(lock)?;
    finish_locked(state)
}

/// The same for who holds the lock.
///
/// # Errors
/// When a file cannot be read or written.
pub fn finish_locked(state: &Utf8Path) -> io::Result<Option<Utf8PathBuf>> {
    let path = record(state);
    let Some(text) = read_optional(&path)? else {
        return Ok(None);
    };
    let failed = |error: io::Error| {
        let reason = format!("{error}: this pair was about to be put in its place; to leave it as it is: rm {path}");
        io::Error::new(error.kind(), reason)
    };
    let begun: Option<Begun> = serde_json::from_str(&text).ok();
    let mut finished = None;
    if let Some(begun) = begun.filter(|begun| begun.state == state)
        && begun.parts[0].is_known().map_err(failed)?
        && begun.parts[1].is_known().map_err(failed)?
    {
        put(&begun).map_err(failed)?;
        finished = Some(begun.parts[1].path.clone());
    }
    remove(&path)?;
    Ok(finished)
}

fn record(state: &Utf8Path) -> Utf8PathBuf {
    state.join("pair.json")
}
