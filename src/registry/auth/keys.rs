//! The keys that tokens may be signed with.

use std::collections::HashMap;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::BASE64;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::registry::config::TokenConfig;
use crate::registry::token::PublicKey;
use crate::sys::clock::Clock;

/// Certificates that a chain may have.
const LONGEST_CHAIN: usize = 10;

/// Why the trusted keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read or is not of its kind.
    #[error("{setting}: cannot read {path}: {reason}")]
    Unreadable {
        /// Who names it.
        setting: &'static str,
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to trust.
    #[error("auth.token.rootcertbundle: {0} holds no certificate with a key that tokens can be checked with")]
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
            setting: "auth.token.jwks",
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
            return Err(unreadable(
                "it holds no RSA key, no EC key on P-256, P-384 or P-521, and no Ed25519 key".into(),
            ));
        }
        Ok(())
    }

    /// Returns the key with an id.
    pub fn by_id(&self, id: &str) -> Option<&PublicKey> {
        self.by_id.get(id)
    }

    /// Follows a chain (RFC 7515, section 4.1.6; RFC 5280, section 6) up to a
    /// trusted certificate.
    ///
    /// # Errors
    /// Says why the chain is not trusted.
    pub fn of_chain(&self, chain: &[String]) -> Result<PublicKey, String> {
        if chain.len() > LONGEST_CHAIN {
            return Err(format!("x5c has more than {LONGEST_CHAIN} certificates"));
        }
        let ders: Vec<CertificateDer<'static>> = chain
            .iter()
            .map(|text| BASE64.decode(text.as_bytes()).map(CertificateDer::from))
            .collect::<Result<_, _>>()
            .map_err(|_| "x5c holds no base64")?;
        let (leaf, others) = ders.split_first().ok_or("x5c is empty")?;
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| "x5c holds no certificate")?;
        let key = PublicKey::from_spki(certificate.public_key().raw).map_err(|error| error.to_string());
        // What is trusted by itself needs nobody's signature, and may be an authority.
        if self.roots.contains(leaf) {
            return if certificate.validity().is_valid() {
                key
            } else {
                Err("the certificate of x5c is not valid at this time".to_owned())
            };
        }
        let roots: Vec<X509Certificate<'_>> = self.roots.iter().filter_map(authority).collect();
        let anchors: Vec<TrustAnchor<'_>> = (self.roots.iter())
            .filter(|root| authority(root).is_some())
            .filter_map(|root| webpki::anchor_from_trusted_cert(root).ok())
            .collect();
        let untrusted = |error: webpki::Error| format!("the chain of x5c leads to no trusted certificate: {error}");
        let end = webpki::EndEntityCert::try_from(leaf).map_err(untrusted)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(
            u64::try_from(Clock::System.now().as_second()).unwrap_or_default(),
        ));
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let path = end
            .verify_for_usage(algorithms, &anchors, others, now, AnyUsage, None, None)
            .map_err(untrusted)?;
        // What it leaves to others to look at.
        let between: Vec<CertificateDer<'_>> = path.intermediate_certificates().map(webpki::Cert::der).collect();
        if between.iter().any(|one| authority(one).is_none()) {
            return Err("a certificate of x5c may not sign others".to_owned());
        }
        let anchor = path.anchor().subject_public_key_info.as_ref();
        let is_short_enough = |root: &&X509Certificate<'_>| {
            let limit = root.basic_constraints().ok().flatten();
            let limit = limit.and_then(|found| found.value.path_len_constraint);
            root.public_key().raw.ends_with(anchor) && limit.is_none_or(|most| between.len() <= most as usize)
        };
        if !roots.iter().any(|root| is_short_enough(&root)) {
            return Err("the chain of x5c is longer than its root allows".to_owned());
        }
        key
    }
}

/// Takes a certificate whatever it was made for, as the Go registries do.
struct AnyUsage;

impl webpki::ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: webpki::KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// Reads a certificate that may sign others now.
fn authority<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let usage = certificate.key_usage().ok()?;
    let may_sign = usage.is_none_or(|usage| usage.value.key_cert_sign());
    (certificate.is_ca() && may_sign && certificate.validity().is_valid()).then_some(certificate)
}

fn read_bundle(path: &Utf8Path) -> Result<Vec<CertificateDer<'static>>, KeysError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|error| KeysError::Unreadable {
        setting: "auth.token.rootcertbundle",
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
