//! The secret that signs the states of uploads, where none is configured.

use std::io::{self, Write as _};

use camino::Utf8Path;
use data_encoding::HEXLOWER;

use crate::sys::fs;

/// Least length of a secret that counts.
const SHORTEST: usize = 32;
const NAME: &str = "http-secret";

/// Returns the secret kept in a directory, making it the first time, and
/// whether this did. Of servers that start at once, one makes it, and all have
/// the same.
///
/// So uploads resume after a restart even where nobody configured a secret.
///
/// # Errors
/// When it can be neither read nor made; a directory that cannot be written
/// serves all the same, since there is nothing to upload to.
pub fn kept(directory: &Utf8Path) -> io::Result<(String, bool)> {
    let path = directory.join(NAME);
    let known = || Ok::<_, io::Error>(fs::read_optional(&path)?.filter(|secret| secret.len() >= SHORTEST));
    if let Some(secret) = known()? {
        return Ok((secret, false));
    }
    let mut bytes = [0_u8; 32];
    crate::sys::random::fill(&mut bytes)?;
    let secret = HEXLOWER.encode(&bytes);
    match keep(directory, &path, &secret) {
        Err(error) if fs::is_unwritable(&error) => Ok((secret, true)),
        Err(error) => Err(error),
        // Another server's, where that was quicker.
        Ok(()) => Ok((known()?.unwrap_or(secret), true)),
    }
}

fn keep(directory: &Utf8Path, path: &Utf8Path, secret: &str) -> io::Result<()> {
    fs::create_private_dir(directory)?;
    // Readable by its owner alone, as temporary files are.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(secret.as_bytes())?;
    file.as_file().sync_all()?;
    if fs::read_optional(path)?.is_some_and(|secret| secret.len() < SHORTEST) {
        fs::remove(path)?;
    }
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => fs::sync_dir(directory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_start_at_once_have_the_same() {
        let directory = tempfile::tempdir().expect("made");
        for round in 0..50 {
            let directory = Utf8Path::from_path(directory.path())
                .expect("UTF-8")
                .join(round.to_string());
            let barrier = std::sync::Barrier::new(8);
            let secrets: Vec<String> = std::thread::scope(|scope| {
                let starting = (0..8).map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        kept(&directory).expect("kept").0
                    })
                });
                let starting: Vec<_> = starting.collect();
                starting
                    .into_iter()
                    .map(|server| server.join().expect("no panic"))
                    .collect()
            });
            assert!(secrets.iter().all(|secret| *secret == secrets[0]), "{secrets:?}");
            assert_eq!(fs::mode(&directory.join(NAME)), Some(0o600));
        }
    }
}
