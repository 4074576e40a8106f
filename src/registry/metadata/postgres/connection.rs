//! Connections to the metadata database: how they are made, kept, secured,
//! and what their failures mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{
    Client, ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Timeouts,
};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{DatabaseError, Lost, Outage, Silent};
use super::{migrations, tls};
use crate::registry::config::database::{DatabaseConfig, SslMode};

/// A metadata database and the connections to it.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    place: Arc<str>,
    /// How long what one request does may take; nothing for other work.
    limit: Option<Duration>,
    seen: Arc<Seen>,
}

/// What was seen of the database when connections were made.
#[derive(Default)]
struct Seen {
    /// How many were made: whoever restores a database, or goes over to
    /// another server, ends all there are.
    connections: AtomicU64,
    /// Whether repositories have numbers by which changes are seen.
    versions: AtomicBool,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.place)
    }
}

/// Of the time that a request has, how much it may wait for a connection that
/// others use: so it is known what it was that took so long.
const POOL_SHARE: u32 = 2;
/// How long other work waits for one.
const POOL_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that an import takes at least.
const HASTY: usize = 3;
/// What a registry calls itself towards the server.
const SERVER: &str = "kdk registry";
/// What those call themselves who look after the database.
pub(super) const ADMIN: &str = "kdk";
/// What an import calls itself.
pub(super) const IMPORT: &str = "kdk import";
/// How long the system waits for a sign of life of a silent connection.
const SILENCE: Duration = Duration::from_secs(20);

impl Database {
    /// Prepares connections, without making any yet.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn new(config: &DatabaseConfig) -> Result<Self, DatabaseError> {
        Self::with(config, true)
    }

    /// As [`Database::new`], for work that is made durable as a whole at its
    /// end: commits do not wait for the disk.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn hasty(config: &DatabaseConfig) -> Result<Self, DatabaseError> {
        let mut config = config.clone();
        // One holds the import's lock, and batches are written side by side.
        config.connections = config.connections.max(HASTY);
        Self::build(&config, true, None, IMPORT, "-c synchronous_commit=off")
    }

    /// As [`Database::new`]; `checked` says whether connections are refused
    /// while migrations are missing.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn with(config: &DatabaseConfig, checked: bool) -> Result<Self, DatabaseError> {
        // Who waits longer than a client would is told to come again.
        Self::build(
            config,
            checked,
            checked.then_some(config.request_timeout),
            if checked { SERVER } else { ADMIN },
            "-c lock_timeout=5s -c idle_in_transaction_session_timeout=5min",
        )
    }

    fn build(
        config: &DatabaseConfig,
        checked: bool,
        limit: Option<Duration>,
        name: &str,
        options: &str,
    ) -> Result<Self, DatabaseError> {
        let mut settings = tokio_postgres::Config::new();
        settings
            .host(&config.host)
            .port(config.port)
            .dbname(&config.name)
            .application_name(name)
            .options(options)
            .connect_timeout(config.connect_timeout)
            .keepalives_idle(SILENCE)
            .tcp_user_timeout(SILENCE)
            .ssl_mode(match config.ssl_mode {
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
            });
        if config.user.is_empty() {
            settings.user(crate::sys::process::user_name().unwrap_or_else(|| "registry".to_owned()));
        } else {
            settings.user(&config.user);
        }
        if let Some(password) = &config.password {
            settings.password(password);
        }
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = if config.ssl_mode == SslMode::Disable {
            Manager::from_config(settings, NoTls, recycling)
        } else {
            Manager::from_config(settings, MakeRustlsConnect::new(tls::client(config)?), recycling)
        };
        let (lifetime, idle) = (config.lifetime, config.idle);
        let mut pool = Pool::builder(manager)
            .max_size(config.connections)
            .timeouts(Timeouts {
                wait: Some(limit.map_or(POOL_TIMEOUT, |limit| limit / POOL_SHARE)),
                create: Some(config.connect_timeout),
                recycle: Some(config.connect_timeout),
            })
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .pre_recycle(Hook::sync_fn(move |_, metrics| {
                let old = lifetime.is_some_and(|most| metrics.age() > most)
                    || idle.is_some_and(|most| metrics.last_used() > most);
                if old {
                    Err(HookError::message("the connection is old"))
                } else {
                    Ok(())
                }
            }));
        let seen = Arc::<Seen>::default();
        if checked {
            pool = pool.post_create(check(Arc::clone(&seen)));
        }
        Ok(Self {
            pool: pool.build().map_err(|error| DatabaseError::Tls(error.to_string()))?,
            place: config.to_string().into(),
            limit,
            seen,
        })
    }

    /// Returns how many connections were made.
    pub(super) fn connections_made(&self) -> u64 {
        self.seen.connections.load(Ordering::Acquire)
    }

    /// Says whether repositories have numbers by which changes are seen.
    pub(super) fn has_versions(&self) -> bool {
        self.seen.versions.load(Ordering::Acquire)
    }

    /// Returns a connection.
    ///
    /// # Errors
    /// When none can be had.
    pub async fn client(&self) -> Result<Client, DatabaseError> {
        self.pool.get().await.map_err(|error| self.away(error))
    }

    /// Does what one request does, in the time that it has.
    ///
    /// # Errors
    /// Those of the work, or that the database does not answer.
    pub async fn within<T, E: From<DatabaseError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let Some(limit) = self.limit else {
            return work.await;
        };
        let done = crate::sys::task::timeout(limit, work).await;
        done.unwrap_or_else(|_| {
            let silent = DatabaseError::Unavailable {
                place: self.place.to_string(),
                outage: Outage::Silent,
                source: Box::new(Silent(limit)),
            };
            Err(silent.into())
        })
    }

    /// Returns how many connections there are, how many of them are idle, and
    /// how many requests wait for one.
    pub fn usage(&self) -> (usize, usize, usize) {
        let status = self.pool.status();
        (status.size, status.available, status.waiting)
    }

    /// Asks whether it is there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.within(async {
            let client = self.client().await?;
            let answered = client.simple_query("SELECT 1").await;
            answered.map(drop).map_err(|error| self.failure(error))
        })
        .await
    }

    fn away(&self, error: PoolError) -> DatabaseError {
        if let PoolError::PostCreateHook(HookError::Message(text)) = &error {
            return DatabaseError::Refused(text.to_string());
        }
        let outage = match &error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => Outage::of(error),
            PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => Outage::PoolTimeout,
            PoolError::Timeout(_) => Outage::Silent,
            _ => Outage::Unreachable,
        };
        DatabaseError::Unavailable {
            place: self.place.to_string(),
            outage,
            source: match error {
                PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
                other => other.into(),
            },
        }
    }

    /// Says what a failed statement means.
    pub fn failure(&self, error: tokio_postgres::Error) -> DatabaseError {
        // Of values that a statement does not take, no server has heard.
        let is_of_types = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<tokio_postgres::types::WrongType>);
        let gone = !is_of_types
            && error.code().is_none_or(|code| {
                // Classes 08 and 57P: connections, and a server that goes down.
                // 53: out of something; 25006: a standby.
                let class = |class: &str| code.code().starts_with(class);
                class("08") || class("57P") || class("53") || class("25006")
            });
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
            return DatabaseError::Busy {
                place: self.place.to_string(),
                source: error,
            };
        }
        if error.code() == Some(&SqlState::UNDEFINED_TABLE) {
            self.seen.versions.store(false, Ordering::Release);
            return DatabaseError::Refused(format!(
                "the metadata database {} has no schema any more; make it again with: kdk registry database migrate up CONFIG",
                self.place
            ));
        }
        if gone {
            let outage = match Outage::of(&error) {
                outage @ (Outage::Shutdown | Outage::OutOfConnections | Outage::ReadOnly) => outage,
                _ => Outage::Lost,
            };
            DatabaseError::Unavailable {
                place: self.place.to_string(),
                outage,
                source: Box::new(Lost(error)),
            }
        } else {
            DatabaseError::Statement(error)
        }
    }

    /// Says that it is not the one that it was before.
    pub fn replaced(&self) -> DatabaseError {
        DatabaseError::Replaced {
            place: self.place.to_string(),
        }
    }

    /// Lets errors speak of another database, which this one stands in for.
    #[must_use]
    pub fn named(mut self, place: &str) -> Self {
        self.place = place.into();
        self
    }

    /// Returns how many connections there may be.
    pub fn max_connections(&self) -> usize {
        self.pool.status().max_size
    }

    /// Returns which database it is.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Closes all connections, and lets them say so to the server, whose log
    /// would speak of lost clients otherwise.
    pub async fn close(self) {
        const FAREWELL: Duration = Duration::from_millis(10);
        self.pool.close();
        crate::sys::task::sleep(FAREWELL).await;
    }

    /// Closes what is idle: the next user gets a new connection.
    pub fn forget(&self, client: Client) {
        drop(Object::take(client));
    }
}

/// Looks at a database when a connection to it is made.
fn check(seen: Arc<Seen>) -> Hook {
    Hook::async_fn(move |client: &mut ClientWrapper, _| {
        let seen = Arc::clone(&seen);
        Box::pin(async move {
            let has_versions = migrations::check(client).await.map_err(|error| match error {
                // The connection, not the schema, is what failed.
                migrations::SchemaError::Statement(error) => HookError::Backend(error),
                other => HookError::message(other.to_string()),
            })?;
            seen.versions.store(has_versions, Ordering::Release);
            seen.connections.fetch_add(1, Ordering::AcqRel);
            Ok(())
        })
    })
}
