//! Bearer tokens signed by a trusted key (distribution, "Token Authentication").

use std::collections::HashMap;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::BASE64;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Actor, Challenge};
use crate::registry::config::TokenConfig;
use crate::registry::token::{Claims, PublicKey, Scope};
use crate::serve::Logger;

/// Clock difference that is tolerated, in seconds.
const LEEWAY: u64 = 60;
/// The algorithms that are accepted; never `none`, never a shared secret.
const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::ES256,
    Algorithm::ES384,
];

/// Why the trusted certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be read or is no PEM.
    #[error("cannot read the token certificates {path}: {reason}")]
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

/// Checks tokens against the keys of a certificate bundle.
pub struct TokenAuthorizer {
    config: TokenConfig,
    keys: HashMap<String, PublicKey>,
    roots: Vec<CertificateDer<'static>>,
}

enum Refusal {
    /// There was no token.
    Missing,
    /// The token is not acceptable, for this reason.
    Invalid(String),
}

impl TokenAuthorizer {
    /// Loads the trusted certificates.
    ///
    /// # Errors
    /// When they cannot be read or hold no usable key.
    pub fn new(config: TokenConfig) -> Result<Self, BundleError> {
        let roots = read_bundle(&config.rootcertbundle)?;
        let mut keys = HashMap::new();
        for der in &roots {
            let Ok((_, certificate)) = X509Certificate::from_der(der) else {
                continue;
            };
            let Ok(key) = PublicKey::from_spki(certificate.public_key().raw) else {
                continue;
            };
            keys.insert(key.libtrust_id(), key.clone());
            keys.insert(key.thumbprint(), key);
        }
        if keys.is_empty() {
            return Err(BundleError::Empty(config.rootcertbundle));
        }
        Ok(Self { config, keys, roots })
    }

    /// Checks a request's `Authorization` header against what it needs.
    ///
    /// # Errors
    /// The challenge, when there is no valid token or it does not suffice.
    pub fn check(&self, authorization: Option<&str>, needed: &[Scope], log: &Logger) -> Result<Actor, Challenge> {
        let claims = match self.claims(authorization, log) {
            Ok(claims) => claims,
            Err(Refusal::Missing) => return Err(self.challenge(needed, None, needed.to_vec())),
            Err(Refusal::Invalid(reason)) => {
                log.warn(
                    "error authorizing context: invalid token",
                    vec![("reason", reason.into())],
                );
                return Err(self.challenge(needed, Some("invalid_token"), needed.to_vec()));
            }
        };
        let missing: Vec<Scope> = needed
            .iter()
            .filter_map(|scope| {
                let actions: Vec<String> = scope
                    .actions
                    .iter()
                    .filter(|action| {
                        !claims
                            .access
                            .iter()
                            .any(|given| given.grants(&scope.kind, &scope.name, action))
                    })
                    .cloned()
                    .collect();
                (!actions.is_empty()).then(|| Scope {
                    actions,
                    ..scope.clone()
                })
            })
            .collect();
        if missing.is_empty() {
            Ok(Actor { name: claims.sub })
        } else {
            log.warn(
                "error authorizing context: insufficient scope",
                vec![("actor", claims.sub.into())],
            );
            Err(self.challenge(needed, Some("insufficient_scope"), missing))
        }
    }

    fn challenge(&self, needed: &[Scope], error: Option<&str>, missing: Vec<Scope>) -> Challenge {
        let mut header = format!(
            r#"Bearer realm="{}",service="{}""#,
            self.config.realm, self.config.service
        );
        if !needed.is_empty() {
            let scopes: Vec<String> = needed.iter().map(ToString::to_string).collect();
            header.push_str(&format!(r#",scope="{}""#, scopes.join(" ")));
        }
        if let Some(error) = error {
            header.push_str(&format!(r#",error="{error}""#));
        }
        Challenge { header, missing }
    }

    fn claims(&self, authorization: Option<&str>, log: &Logger) -> Result<Claims, Refusal> {
        let token = authorization
            .and_then(|header| header.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(Refusal::Missing)?;
        let invalid = |error: jsonwebtoken::errors::Error| Refusal::Invalid(error.to_string());
        let header = decode_header(token).map_err(invalid)?;
        let key = self.key(&header, log)?;
        if !ALGORITHMS.contains(&header.alg) || !key.fits(header.alg) {
            return Err(Refusal::Invalid(format!("algorithm {:?} is not accepted", header.alg)));
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.service]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let key = key
            .decoding_key()
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        decode::<Claims>(token, &key, &validation)
            .map(|data| data.claims)
            .map_err(invalid)
    }

    /// Finds the key that a token names: a certificate chain to the bundle,
    /// or a key id. A key that the token brings itself counts for nothing.
    fn key(&self, header: &jsonwebtoken::Header, log: &Logger) -> Result<PublicKey, Refusal> {
        if let Some(chain) = &header.x5c {
            return self.chain_key(chain).map_err(Refusal::Invalid);
        }
        let id = header
            .kid
            .as_deref()
            .ok_or_else(|| Refusal::Invalid("the token names no key".into()))?;
        self.keys.get(id).cloned().ok_or_else(|| {
            let message = format!("token signed by untrusted key with ID: {id:?}");
            log.error(&message, Vec::new());
            Refusal::Invalid(message)
        })
    }

    /// Follows a chain (RFC 7515, section 4.1.6) up to a trusted certificate.
    fn chain_key(&self, chain: &[String]) -> Result<PublicKey, String> {
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

fn read_bundle(path: &Utf8Path) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let unreadable = |error: &dyn std::fmt::Display| BundleError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(&error))
}
