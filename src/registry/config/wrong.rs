//! Values that are not acceptable.

/// A value that is not acceptable.
pub struct Wrong {
    /// The key's path.
    pub key: String,
    /// What is wrong and what is allowed.
    pub reason: String,
}

/// Refuses a value.
///
/// # Errors
/// Always.
pub fn wrong<T>(key: &str, reason: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong {
        key: key.to_owned(),
        reason: reason.into(),
    })
}
