//! Making tokens.

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::rails::config::RegistryConfig;
use crate::registry::token::claims::Audience;
use crate::registry::token::{Claims, PublicKey, Scope};
use crate::sys::clock::Clock;

/// Name of the registry in tokens.
pub const SERVICE: &str = "container_registry";
/// Tokens hold from this many seconds before they are made, for clocks that differ.
const LEEWAY: u64 = 5;

/// Why the signing key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the token signing key {path}: {reason}")]
pub struct KeyError {
    /// The file.
    pub path: Utf8PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Makes tokens.
pub struct TokenService {
    key: EncodingKey,
    key_id: String,
    /// The certificate for the key and what follows it (RFC 7515, section
    /// 4.1.6): distribution v3 knows keys by another id than registries before
    /// it, and all of them take this.
    chain: Option<Vec<String>>,
    issuer: String,
    /// How long tokens hold.
    pub minutes: u64,
    /// Tells the time.
    pub clock: Clock,
}

impl TokenService {
    /// Loads the RSA key (PKCS#1 or PKCS#8).
    ///
    /// # Errors
    /// When it cannot be read or is no RSA key.
    pub fn new(config: &RegistryConfig) -> Result<Self, KeyError> {
        let failed = |reason: String| KeyError {
            path: config.key.clone(),
            reason,
        };
        let pem = std::fs::read(&config.key).map_err(|error| failed(error.to_string()))?;
        let key = EncodingKey::from_rsa_pem(&pem).map_err(|_| failed("it holds no RSA private key in PEM".into()))?;
        let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| failed(error.to_string()))?;
        let signer =
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).map_err(|error| failed(error.to_string()))?;
        let spki = signer
            .public_key()
            .ok_or_else(|| failed("it has no public key".into()))?;
        let key_id = PublicKey::from_spki(&spki)
            .map_err(|error| failed(error.to_string()))?
            .libtrust_id();
        Ok(Self {
            chain: config.certificates.as_deref().and_then(|path| chain(path, &spki)),
            key,
            key_id,
            issuer: config.issuer.clone(),
            minutes: config.token_expire_delay.max(1),
            clock: Clock::System,
        })
    }

    /// Makes a token that grants scopes to a subject.
    ///
    /// # Errors
    /// When signing fails.
    pub fn token(&self, subject: &str, access: Vec<Scope>) -> Result<String, jsonwebtoken::errors::Error> {
        let now = u64::try_from(self.clock.now().as_second()).unwrap_or_default();
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: subject.to_owned(),
            aud: Audience(vec![SERVICE.to_owned()]),
            exp: now + self.minutes * 60,
            nbf: Some(now - LEEWAY),
            iat: Some(now),
            jti: Some(crate::serve::id::random()),
            auth_type: None,
            user: None,
            access,
        };
        let header = Header {
            kid: Some(self.key_id.clone()),
            x5c: self.chain.clone(),
            ..Header::new(Algorithm::RS256)
        };
        encode(&header, &claims, &self.key)
    }
}

/// Returns the certificate of a file that is for a key, and those that follow
/// it, in base64; nothing where none is for it.
fn chain(path: &Utf8Path, key: &[u8]) -> Option<Vec<String>> {
    let all: Vec<CertificateDer<'_>> = CertificateDer::pem_file_iter(path)
        .ok()?
        .collect::<Result<_, _>>()
        .ok()?;
    let is_for_key = |der: &CertificateDer<'_>| {
        X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.public_key().raw == key)
    };
    let first = all.iter().position(is_for_key)?;
    Some(all[first..].iter().map(|der| BASE64.encode(der)).collect())
}
