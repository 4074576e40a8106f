//! Server certificates for rustls, loaded again when their files change.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::reload::Watched;

/// Lowest protocol version that is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinimumTls {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// How a server speaks TLS.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Certificate chain, PEM.
    pub certificate: Utf8PathBuf,
    /// Private key, PEM.
    pub key: Utf8PathBuf,
    /// Lowest accepted version.
    pub minimum: MinimumTls,
    /// Authorities whose certificates clients must show; none for no such rule.
    pub client_cas: Vec<Utf8PathBuf>,
    /// Whether a client without a certificate is let in all the same.
    pub client_optional: bool,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

impl Settings {
    /// Makes settings for a certificate and its key, without any of the rest.
    pub fn new(certificate: Utf8PathBuf, key: Utf8PathBuf) -> Self {
        Self {
            certificate,
            key,
            minimum: MinimumTls::default(),
            client_cas: Vec::new(),
            client_optional: false,
            http2: false,
        }
    }

    /// Loads certificate, key and authorities.
    ///
    /// # Errors
    /// When a file cannot be read, holds no PEM of the kind, or certificate
    /// and key do not match.
    pub fn load(&self) -> io::Result<Arc<ServerConfig>> {
        let (certificate, key) = (&self.certificate, &self.key);
        let chain = certificates(certificate)?;
        let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
        let versions: &[&rustls::SupportedProtocolVersion] = match self.minimum {
            MinimumTls::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            MinimumTls::Tls13 => &[&rustls::version::TLS13],
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(io::Error::other)?;
        let builder = if self.client_cas.is_empty() {
            builder.with_no_client_auth()
        } else {
            let mut roots = RootCertStore::empty();
            for path in &self.client_cas {
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| named(path, &error))?;
                }
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if self.client_optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            builder.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
        };
        let mut config = builder
            .with_single_cert(chain, key_der)
            .map_err(|error| named(certificate, &format!("does not go with {key}: {error}")))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if self.http2 {
            config.alpn_protocols.insert(0, b"h2".to_vec());
        }
        Ok(Arc::new(config))
    }
}

fn named(path: &Utf8Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{path}: {error}"))
}

fn certificates(path: &Utf8Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| named(path, &error))?;
    if chain.is_empty() {
        return Err(named(path, &"holds no certificate"));
    }
    Ok(chain)
}

/// Accepts TLS connections with the certificate that is in the files now.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    settings: Settings,
    watched: Watched,
    current: Mutex<Arc<ServerConfig>>,
}

impl Tls {
    /// Loads the files for the first time.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn new(settings: Settings) -> io::Result<Self> {
        let mut paths = vec![settings.certificate.clone(), settings.key.clone()];
        paths.extend(settings.client_cas.iter().cloned());
        let watched = Watched::new(paths);
        let current = Mutex::new(settings.load()?);
        Ok(Self(Arc::new(Inner {
            settings,
            watched,
            current,
        })))
    }

    /// Returns what accepts the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        let inner = &self.0;
        let mut current = inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.watched.has_changed() {
            let certificate = inner.settings.certificate.as_str();
            match inner.settings.load() {
                Ok(fresh) => {
                    *current = fresh;
                    tracing::info!(certificate = %certificate, "certificate loaded again");
                }
                // Half of a change, perhaps: the other file is still to come, and is noticed then.
                Err(error) => {
                    tracing::warn!(error = %error, "the changed certificate cannot be used; the one before stays in use");
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&current))
    }
}
