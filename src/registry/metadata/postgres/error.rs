//! What failures of the metadata database mean.

use std::time::Duration;

use tokio_postgres::error::SqlState;

/// Why the metadata database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It cannot be reached, or is not ready.
    #[error("the metadata database {place} is not available")]
    Unavailable {
        /// Which database.
        place: String,
        /// How it is away.
        outage: Outage,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The certificates of the connection cannot be used.
    #[error("cannot secure the connection to the metadata database: {0}")]
    Tls(String),
    /// Its schema is not the one that is needed.
    #[error("{0}")]
    Refused(String),
    /// It was exchanged while something was done with what was known of it.
    #[error("the metadata database {place} was replaced by another")]
    Replaced {
        /// Which database.
        place: String,
    },
    /// Others hold what is to be changed for longer than anybody waits.
    #[error("the metadata database {place} is locked by other sessions")]
    Busy {
        /// Which database.
        place: String,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It refused a statement.
    #[error("the metadata database refused a statement")]
    Statement(#[source] tokio_postgres::Error),
}

/// How a database is away (PostgreSQL, "Error Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The server has no database of that name (3D000).
    NoDatabase,
    /// The role or its password is not accepted (class 28), or there is none.
    Authentication,
    /// The server is starting or recovering (57P03).
    Starting,
    /// The server is going down (57P01, 57P02).
    Shutdown,
    /// The server takes no more connections (53300).
    OutOfConnections,
    /// It may only be read, as a standby (25006).
    ReadOnly,
    /// All connections are in use by other requests.
    PoolTimeout,
    /// It takes connections and answers nothing.
    Silent,
    /// The server does not speak TLS, which `sslmode` asks for.
    NoTls,
    /// A connection broke while it was used.
    Lost,
    /// There is no way to the server.
    Unreachable,
}

impl Outage {
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        let Some(code) = error.code().map(SqlState::code) else {
            let text = in_full(error);
            return if text.contains("password missing") {
                Self::Authentication
            } else if text.contains("does not support TLS") {
                Self::NoTls
            } else {
                Self::Unreachable
            };
        };
        match code {
            "3D000" => Self::NoDatabase,
            "57P03" => Self::Starting,
            "57P01" | "57P02" => Self::Shutdown,
            "53300" => Self::OutOfConnections,
            "25006" => Self::ReadOnly,
            code if code.starts_with("28") => Self::Authentication,
            _ => Self::Unreachable,
        }
    }
}

impl DatabaseError {
    /// Says whether the database is away, and may come back.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Busy { .. } | Self::Refused(_))
    }

    /// Returns the error for another who waited for the same; nothing where
    /// trying again may help.
    pub(super) fn for_another(&self) -> Option<Self> {
        match self {
            Self::Unavailable { place, outage, source } if !self.is_passing() => Some(Self::Unavailable {
                place: place.clone(),
                outage: *outage,
                source: in_full(source.as_ref()).into(),
            }),
            _ => None,
        }
    }

    /// Says whether the schema is not the one that is needed.
    pub fn is_schema(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Returns the error with all its causes.
    pub fn in_full(&self) -> String {
        in_full(self)
    }

    /// Says whether doing the same again may work: others were in the way, or
    /// the connection was lost.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unavailable { outage, .. } => matches!(outage, Outage::Lost | Outage::Shutdown),
            Self::Replaced { .. } => true,
            Self::Statement(error) => error.code().is_some_and(|code| {
                [
                    SqlState::UNIQUE_VIOLATION,
                    SqlState::FOREIGN_KEY_VIOLATION,
                    SqlState::T_R_SERIALIZATION_FAILURE,
                    SqlState::T_R_DEADLOCK_DETECTED,
                    // Somebody else made the same at the same moment.
                    SqlState::DUPLICATE_TABLE,
                    SqlState::DUPLICATE_SCHEMA,
                    // Of what was sent together with what failed.
                    SqlState::IN_FAILED_SQL_TRANSACTION,
                ]
                .contains(code)
            }),
            _ => false,
        }
    }

    /// Says whether its connection leads to a server that is of no use any
    /// more, such as one that became a standby.
    pub fn spoils_connection(&self) -> bool {
        matches!(
            self,
            Self::Unavailable {
                outage: Outage::Lost | Outage::Shutdown | Outage::ReadOnly,
                ..
            }
        )
    }

    /// Says whether a statement took longer than it may.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Statement(error) if error.code() == Some(&SqlState::QUERY_CANCELED))
    }

    /// Says whether the user may not do that.
    pub fn is_privilege(&self) -> bool {
        matches!(self, Self::Statement(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE))
    }

    /// Says whether a reference would have led to nothing.
    pub fn is_reference(&self) -> bool {
        matches!(self, Self::Statement(error) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION))
    }
}

fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A connection that broke while it was used.
#[derive(Debug, thiserror::Error)]
#[error("the connection was lost: {0}")]
pub(super) struct Lost(#[source] pub(super) tokio_postgres::Error);

/// A database that takes connections and answers nothing.
#[derive(Debug, thiserror::Error)]
#[error("it does not answer within {0:?}")]
pub(super) struct Silent(pub(super) Duration);
