//! Connections to the metadata database: how they are made, kept, secured,
//! and what their failures mean.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Client, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Timeouts};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::migrations;
use crate::registry::config::database::{DatabaseConfig, SslMode};

/// Why the metadata database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It cannot be reached, or is not ready.
    #[error("the metadata database {place} is not available")]
    Unavailable {
        /// Which database.
        place: String,
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
    /// It refused a statement.
    #[error("the metadata database refused a statement")]
    Statement(#[source] tokio_postgres::Error),
}

impl DatabaseError {
    /// Says whether the database is away, and may come back.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Refused(_))
    }

    /// Says whether the schema is not the one that is needed.
    pub fn is_schema(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Returns the error with all its causes.
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    /// Says whether doing the same again may work: others were in the way, or
    /// the connection was lost.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } => source.is::<Lost>(),
            Self::Statement(error) => error.code().is_some_and(|code| {
                [
                    SqlState::UNIQUE_VIOLATION,
                    SqlState::FOREIGN_KEY_VIOLATION,
                    SqlState::T_R_SERIALIZATION_FAILURE,
                    SqlState::T_R_DEADLOCK_DETECTED,
                    // Of what was sent together with what failed.
                    SqlState::IN_FAILED_SQL_TRANSACTION,
                ]
                .contains(code)
            }),
            _ => false,
        }
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

/// A connection that broke while it was used.
#[derive(Debug, thiserror::Error)]
#[error("the connection was lost: {0}")]
struct Lost(#[source] tokio_postgres::Error);

/// A metadata database and the connections to it.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    place: Arc<str>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.place)
    }
}

/// How long a request waits for a connection that others use.
const WAIT: Duration = Duration::from_secs(10);
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
        Self::build(&config, true, IMPORT, "-c synchronous_commit=off")
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
            if checked { SERVER } else { ADMIN },
            "-c lock_timeout=5s -c idle_in_transaction_session_timeout=5min",
        )
    }

    fn build(config: &DatabaseConfig, checked: bool, name: &str, options: &str) -> Result<Self, DatabaseError> {
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
            Manager::from_config(settings, MakeRustlsConnect::new(tls(config)?), recycling)
        };
        let (lifetime, idle) = (config.lifetime, config.idle);
        let mut pool = Pool::builder(manager)
            .max_size(config.connections)
            .timeouts(Timeouts {
                wait: Some(WAIT),
                create: Some(config.connect_timeout),
                recycle: Some(config.connect_timeout),
            })
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .pre_recycle(deadpool_postgres::Hook::sync_fn(move |_, metrics| {
                let old = lifetime.is_some_and(|most| metrics.age() > most)
                    || idle.is_some_and(|most| metrics.last_used() > most);
                if old {
                    Err(deadpool_postgres::HookError::message("the connection is old"))
                } else {
                    Ok(())
                }
            }));
        if checked {
            pool = pool.post_create(deadpool_postgres::Hook::async_fn(
                |client: &mut deadpool_postgres::ClientWrapper, _| {
                    Box::pin(async move {
                        migrations::check(client).await.map_err(|error| match error {
                            // The connection, not the schema, is what failed.
                            migrations::SchemaError::Statement(error) => deadpool_postgres::HookError::Backend(error),
                            other => deadpool_postgres::HookError::message(other.to_string()),
                        })
                    })
                },
            ));
        }
        Ok(Self {
            pool: pool.build().map_err(|error| DatabaseError::Tls(error.to_string()))?,
            place: config.to_string().into(),
        })
    }

    /// Returns a connection.
    ///
    /// # Errors
    /// When none can be had.
    pub async fn client(&self) -> Result<Client, DatabaseError> {
        self.pool.get().await.map_err(|error| self.away(error))
    }

    /// Asks whether it is there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        let client = self.client().await?;
        let answered = client.simple_query("SELECT 1").await;
        answered.map(drop).map_err(|error| self.failure(error))
    }

    fn away(&self, error: PoolError) -> DatabaseError {
        if let PoolError::PostCreateHook(deadpool_postgres::HookError::Message(text)) = &error {
            return DatabaseError::Refused(text.to_string());
        }
        DatabaseError::Unavailable {
            place: self.place.to_string(),
            source: match error {
                PoolError::Backend(error) | PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(error)) => {
                    error.into()
                }
                other => other.into(),
            },
        }
    }

    /// Says what a failed statement means.
    pub fn failure(&self, error: tokio_postgres::Error) -> DatabaseError {
        let gone = error.code().is_none_or(|code| {
            // Classes 08 and 57P: connections, and a server that goes down.
            // 53: out of something; 25006: a standby; 55P03: waited too long.
            let class = |class: &str| code.code().starts_with(class);
            class("08") || class("57P") || class("53") || class("25006") || class("55P03")
        });
        if error.code() == Some(&SqlState::UNDEFINED_TABLE) {
            return DatabaseError::Refused(format!(
                "the metadata database {} has no schema any more; make it again with: kdk registry database migrate up CONFIG",
                self.place
            ));
        }
        if gone {
            DatabaseError::Unavailable {
                place: self.place.to_string(),
                source: Box::new(Lost(error)),
            }
        } else {
            DatabaseError::Statement(error)
        }
    }

    /// Lets errors speak of another database, which this one stands in for.
    #[must_use]
    pub fn named(mut self, place: &str) -> Self {
        self.place = place.into();
        self
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

fn tls(config: &DatabaseConfig) -> Result<rustls::ClientConfig, DatabaseError> {
    let wrong = |path: &camino::Utf8Path, error: &dyn std::fmt::Display| DatabaseError::Tls(format!("{path}: {error}"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| DatabaseError::Tls(error.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = &config.ssl_root {
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, &error))? {
            let certificate = certificate.map_err(|error| wrong(path, &error))?;
            roots.add(certificate).map_err(|error| wrong(path, &error))?;
        }
    }
    let verifies = matches!(config.ssl_mode, SslMode::VerifyCa | SslMode::VerifyFull);
    if verifies && roots.is_empty() {
        return Err(DatabaseError::Tls(
            "sslmode says to verify the server: name the authority's certificate in database.sslrootcert".into(),
        ));
    }
    let builder = if roots.is_empty() {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting { provider, chain: None }))
    } else {
        let chain = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| DatabaseError::Tls(error.to_string()))?;
        if config.ssl_mode == SslMode::VerifyFull {
            builder.with_webpki_verifier(chain)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Trusting {
                provider,
                chain: Some(chain),
            }))
        }
    };
    match &config.ssl_client {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
                .map_err(|error| wrong(certificate, &error))?
                .collect();
            let chain = chain.map_err(|error| wrong(certificate, &error))?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|error| wrong(certificate, &error))
        }
    }
}

/// Takes every server (`require` without an authority), or every server that
/// an authority vouches for, under whatever name (`verify-ca`).
#[derive(Debug)]
struct Trusting {
    provider: Arc<rustls::crypto::CryptoProvider>,
    chain: Option<Arc<rustls::client::WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
