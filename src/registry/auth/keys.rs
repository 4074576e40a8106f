//! The keys that tokens may be signed with.

use std::collections::HashMap;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::BASE64;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::registry::config::TokenConfig;
use crate::registry::token::PublicKey;

/// Why the trusted keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read or is not of its kind.
    #[error("cannot read the token keys {path}: {reason}")]
    Unreadable {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to trust.
    #[error("{0} holds no certificate with a key that tokens can be checked with")]
    Empty(Utf8PathBuf),
}

/// Trusted keys by their ids, and certificates that chains may end at.
pub struct Keys {
    by_id: HashMap<String, PublicKey>,
    roots: Vec<CertificateDer<'static>>,
}

impl Keys {
    /// Loads the files that the configuration names.
    ///
    /// # Errors
    /// When one cannot be read, or none holds a usable key.
    pub fn load(config: &TokenConfig) -> Result<Self, KeysError> {
        let mut keys = Self {
            by_id: HashMap::new(),
            roots: Vec::new(),
        };
        if let Some(path) = &config.rootcertbundle {
            keys.roots = read_bundle(path)?;
            for der in &keys.roots {
                let Ok((_, certificate)) = X509Certificate::from_der(der) else {
                    continue;
                };
                let Ok(key) = PublicKey::from_spki(certificate.public_key().raw) else {
                    continue;
                };
                keys.by_id.insert(key.libtrust_id(), key.clone());
                keys.by_id.insert(key.thumbprint(), key);
            }
            if keys.by_id.is_empty() {
                return Err(KeysError::Empty(path.clone()));
            }
        }
        if let Some(path) = &config.jwks {
            keys.add_set(path)?;
        }
        Ok(keys)
    }

    /// Adds the keys of a JSON Web Key Set (RFC 7517, section 5).
    fn add_set(&mut self, path: &Utf8Path) -> Result<(), KeysError> {
        let unreadable = |reason: String| KeysError::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let text = crate::sys::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        let set: serde_json::Value = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        let keys = set["keys"]
            .as_array()
            .ok_or_else(|| unreadable("it has no list of keys".into()))?;
        let mut usable = 0;
        for jwk in keys {
            // Others may be in the set for other purposes.
            let Ok(key) = PublicKey::from_jwk(jwk) else { continue };
            usable += 1;
            if let Some(id) = jwk["kid"].as_str() {
                self.by_id.insert(id.to_owned(), key.clone());
            }
            self.by_id.insert(key.thumbprint(), key);
        }
        if usable == 0 {
            return Err(unreadable("it holds no RSA key and no EC key on P-256 or P-384".into()));
        }
        Ok(())
    }

    /// Returns the key with an id.
    pub fn by_id(&self, id: &str) -> Option<&PublicKey> {
        self.by_id.get(id)
    }

    /// Follows a chain (RFC 7515, section 4.1.6) up to a trusted certificate.
    ///
    /// # Errors
    /// Says why the chain is not trusted.
    pub fn of_chain(&self, chain: &[String]) -> Result<PublicKey, String> {
        let ders: Vec<Vec<u8>> = chain
            .iter()
            .take(10)
            .map(|text| {
                BASE64
                    .decode(text.as_bytes())
                    .map_err(|_| "x5c holds no base64".to_owned())
            })
            .collect::<Result<_, _>>()?;
        let parse = |der: &'_ [u8]| {
            X509Certificate::from_der(der).map(|(_, certificate)| certificate.public_key().raw.to_vec())
        };
        let leaf = ders.first().ok_or("x5c is empty")?;
        let spki = parse(leaf).map_err(|_| "x5c holds no certificate")?;
        let mut current: &[u8] = leaf;
        for next in ders.iter().skip(1).map(Some).chain([None]) {
            let (_, certificate) = X509Certificate::from_der(current).map_err(|_| "x5c holds no certificate")?;
            if !certificate.validity().is_valid() {
                return Err("a certificate of x5c is not valid at this time".into());
            }
            let trusted = self.roots.iter().any(|root| {
                root.as_ref() == current
                    || X509Certificate::from_der(root).is_ok_and(|(_, root)| {
                        root.is_ca()
                            && root.subject() == certificate.issuer()
                            && certificate.verify_signature(Some(root.public_key())).is_ok()
                    })
            });
            if trusted {
                return PublicKey::from_spki(&spki).map_err(|error| error.to_string());
            }
            let Some(next) = next else { break };
            let (_, issuer) = X509Certificate::from_der(next).map_err(|_| "x5c holds no certificate")?;
            if !issuer.is_ca() || certificate.verify_signature(Some(issuer.public_key())).is_err() {
                return Err("x5c is no chain".into());
            }
            current = next;
        }
        Err("the chain of x5c ends at no trusted certificate".into())
    }
}

fn read_bundle(path: &Utf8Path) -> Result<Vec<CertificateDer<'static>>, KeysError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|error| KeysError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
