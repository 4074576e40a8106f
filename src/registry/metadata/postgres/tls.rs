//! Securing the connections to the metadata database, as libpq's `sslmode` has it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::error::DatabaseError;
use crate::registry::config::database::{DatabaseConfig, SslMode};

/// Looks whether connections could be secured as they are to be.
///
/// # Errors
/// When a certificate or key is missing, or cannot be read.
pub fn check(config: &DatabaseConfig) -> Result<(), DatabaseError> {
    if config.ssl_mode == SslMode::Disable {
        return Ok(());
    }
    client(config).map(drop)
}

/// Makes what secures connections.
///
/// # Errors
/// When a certificate or key is missing, or cannot be read.
pub fn client(config: &DatabaseConfig) -> Result<rustls::ClientConfig, DatabaseError> {
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
            "sslmode verifies the server: set database.sslrootcert to the CA certificate (in kdk.yml: registry.config.database.sslrootcert)".into(),
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
