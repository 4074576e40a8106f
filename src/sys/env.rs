//! The process environment, read in one place.

use camino::Utf8PathBuf;

/// Returns an environment variable, or nothing when it is unset, empty or not UTF-8.
#[expect(clippy::disallowed_methods, reason = "this is the room that reads the environment")]
pub fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Says whether an environment variable holds `true`, `1` or `yes`.
pub fn flag(name: &str) -> bool {
    var(name).is_some_and(|value| matches!(value.to_lowercase().as_str(), "true" | "1" | "yes" | "y"))
}

/// Returns all variables as UTF-8 pairs; others are passed over.
pub fn all() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Returns the user's home directory.
pub fn home() -> Option<Utf8PathBuf> {
    var("HOME").map(Utf8PathBuf::from)
}

/// Returns the directory for what programs keep of this user, by the XDG
/// Base Directory Specification; nothing where that is not this user's.
pub fn state_dir() -> Option<Utf8PathBuf> {
    let given = var("XDG_STATE_HOME").map(Utf8PathBuf::from);
    let directory = given
        .filter(|path| path.is_absolute())
        .or_else(|| Some(home()?.join(".local/state")))?;
    // Under sudo with another user's HOME what is put there would be root's.
    let there = directory.ancestors().find_map(|path| super::fs::owner(path).ok());
    let is_another_s = var("SUDO_UID").is_some() && super::process::user_id() == 0 && there != Some(0);
    (!is_another_s).then_some(directory)
}

/// Returns the working directory.
///
/// # Errors
/// When it was removed, or is not UTF-8.
pub fn current_dir() -> std::io::Result<Utf8PathBuf> {
    Utf8PathBuf::from_path_buf(std::env::current_dir()?)
        .map_err(|path| std::io::Error::other(format!("{} is not UTF-8", path.display())))
}

/// Returns the path of the running binary.
///
/// # Errors
/// When the system does not say, or it is not UTF-8. A binary that was
/// replaced while it ran (Linux appends ` (deleted)`) yields its old path, so
/// that the successor at that path is found.
pub fn current_exe() -> std::io::Result<Utf8PathBuf> {
    let path = Utf8PathBuf::from_path_buf(std::env::current_exe()?)
        .map_err(|path| std::io::Error::other(format!("{} is not UTF-8", path.display())))?;
    Ok(match path.as_str().strip_suffix(" (deleted)") {
        Some(clean) => Utf8PathBuf::from(clean),
        None => path,
    })
}
