//! A certificate and its key in place of another pair, whatever ends the
//! process between the two files: what is about to be put is noted first.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::sys::failpoint;
use crate::sys::fs::{PRIVATE, PUBLIC, read_optional, remove, write_atomic};

/// A pair and where it belongs.
#[derive(Serialize, Deserialize)]
pub struct Exchange {
    /// File of the certificate.
    pub certificate: Utf8PathBuf,
    /// The certificate, and those that lead from it to an authority, as PEM.
    pub chain: String,
    /// File of the key.
    pub key_file: Utf8PathBuf,
    /// The key, as PEM.
    pub key: String,
}

impl Exchange {
    /// Puts the pair in its place; `state` is where kdk keeps its own things.
    ///
    /// # Errors
    /// When a file cannot be written. [`finish`] goes on with what was begun.
    pub fn make(&self, state: &Utf8Path) -> io::Result<()> {
        let text = serde_json::to_string(self).map_err(io::Error::other)?;
        write_atomic(&record(state), text.as_bytes(), PRIVATE)?;
        failpoint::pass("pair");
        self.put(state)
    }

    fn put(&self, state: &Utf8Path) -> io::Result<()> {
        // The key first: a server that reads between the two keeps the pair it has.
        write_atomic(&self.key_file, self.key.as_bytes(), PRIVATE)?;
        failpoint::pass("pair");
        write_atomic(&self.certificate, self.chain.as_bytes(), PUBLIC)?;
        failpoint::pass("pair");
        remove(&record(state)).map(drop)
    }
}

/// Puts a pair in its place that somebody began to put there; says where.
///
/// # Errors
/// When a file cannot be read or written.
pub fn finish(state: &Utf8Path) -> io::Result<Option<Utf8PathBuf>> {
    let Some(text) = read_optional(&record(state))? else {
        return Ok(None);
    };
    let begun: Exchange = serde_json::from_str(&text).map_err(|error| {
        // It is written as a whole: somebody else was here.
        let path = record(state);
        io::Error::other(format!(
            "{path} is damaged: {error}; remove it, and see the pairs with: kdk cert show"
        ))
    })?;
    begun.put(state)?;
    Ok(Some(begun.certificate))
}

fn record(state: &Utf8Path) -> Utf8PathBuf {
    state.join("pair.json")
}
