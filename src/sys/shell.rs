//! Words for a shell, as people paste them.

/// Quotes a text for a shell, where it needs it.
pub fn word(text: &str) -> String {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/._-:@".contains(&byte));
    if plain { text.to_owned() } else { quote(text) }
}

/// Quotes a text for a shell.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
