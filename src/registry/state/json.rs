//! Small things that are written down for people: losing them costs nothing.

use camino::Utf8Path;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::fs::{PRIVATE, read_optional, write_atomic};

/// Returns what is written down; the default where there is nothing that can be read.
pub fn read<T: DeserializeOwned + Default>(path: &Utf8Path) -> T {
    let text = read_optional(path).ok().flatten();
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// Writes something down, if that can be.
pub fn write(path: &Utf8Path, value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        let _ = write_atomic(path, text.as_bytes(), PRIVATE);
    }
}
