//! What a repository is known by in the database.

/// First bits of the advisory locks on repositories.
pub(super) const LOCKS: i64 = 0x6b64_6b00_0000_0000;

/// Keys of a repository's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repository {
    pub(super) namespace: i64,
    pub(super) id: i64,
    /// What it is known by to be as it was; nothing where that is not known.
    pub(super) version: Option<Version>,
}

/// A repository's number, which changes with what is in it, and how many
/// connections there had been when it was read.
pub(super) type Version = (i64, u64);

impl Repository {
    /// Returns the number of the advisory lock on it.
    pub(super) fn lock(self) -> i64 {
        LOCKS ^ self.id
    }
}
