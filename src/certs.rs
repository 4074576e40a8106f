//! Self-signed certificates: made, recognised, renewed.
//!
//! A pair that kdk made is known by the recorded fingerprint of its
//! certificate. Only such a pair is ever renewed; one that the user installed
//! is never touched, at most complained about.

mod error;
pub mod exchange;
mod facts;
pub mod given;
mod local;
mod onlooker;
mod validity;

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub use self::error::CertError;
pub use self::facts::Facts;
use self::facts::{covers, is_signed_by, modulus_hash, public_key};
pub use self::local::Local;
pub use self::onlooker::{served, served_fingerprint};
use crate::sys::fs::{PRIVATE, read_optional, write_atomic};
use crate::sys::net::is_loopback_literal;
use crate::sys::shell::word;

/// Days that a certificate holds.
const VALID_DAYS: i64 = 365;
/// Days before its end from which a certificate is renewed.
const RENEW_DAYS: i64 = 30;

/// A certificate and its key, as they should be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the pair is for, for people.
    pub purpose: &'static str,
    /// File of the certificate.
    pub certificate: Utf8PathBuf,
    /// File of the key.
    pub key: Utf8PathBuf,
    /// Names and addresses that it must hold for; the first is the common name.
    pub names: Vec<String>,
    /// Whether the root's own authority signs it, where there is one.
    pub is_signed_by_authority: bool,
}

impl Wanted {
    /// Returns the same without the names of loopback, but for the first.
    fn without_loopback(&self) -> Self {
        let mut wanted = self.clone();
        let mut number = 0;
        wanted.names.retain(|name| {
            number += 1;
            number == 1 || !is_loopback_literal(name)
        });
        wanted
    }

    /// Says how a pair that is the user's is replaced.
    pub fn remedy(&self) -> String {
        format!(
            "put another pair in its place, or let kdk make one: rm -f {} {} && kdk reconfigure",
            word(self.certificate.as_str()),
            word(self.key.as_str())
        )
    }
}

/// What is to be done about a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is fine.
    Keep,
    /// It must be made; nothing is there.
    Make,
    /// It is ours and must be made anew.
    Renew(String),
    /// It is the user's, and something about it may cause trouble.
    Complain(String),
    /// It is the user's, and no client will accept it.
    Useless(String),
}

/// Remembers which certificates kdk made.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    version: u32,
    fingerprints: Vec<String>,
}

/// Makes certificates and knows its own.
#[derive(Clone, Debug)]
pub struct Authority {
    record: Utf8PathBuf,
}

impl Authority {
    /// Names the file of fingerprints.
    pub fn new(record: Utf8PathBuf) -> Self {
        Self { record }
    }

    /// Judges a pair.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn judge(&self, wanted: &Wanted, now: Timestamp) -> Result<Verdict, CertError> {
        let certificate = read_optional(&wanted.certificate)?;
        let key = read_optional(&wanted.key)?;
        let made = self.made()?;
        let (certificate, key) = match (certificate, key) {
            (None, None) => return Ok(Verdict::Make),
            (Some(certificate), None) => {
                let ours = Facts::of(&certificate).is_some_and(|facts| made.contains(&facts.fingerprint));
                return Ok(renew_or_reject(ours, format!("its key {} is missing", wanted.key)));
            }
            (None, Some(key)) => {
                let ours = public_key(&key).is_some_and(|key| made.contains(&key_mark(&key)));
                return Ok(renew_or_reject(
                    ours,
                    format!("the certificate {} is missing", wanted.certificate),
                ));
            }
            (Some(certificate), Some(key)) => (certificate, key),
        };
        let Some(facts) = Facts::of(&certificate) else {
            let ours = public_key(&key).is_some_and(|key| made.contains(&key_mark(&key)));
            return Ok(renew_or_reject(
                ours,
                format!("{} is no certificate", wanted.certificate),
            ));
        };
        let ours = made.contains(&facts.fingerprint);
        if ours
            && wanted.is_signed_by_authority
            && let Some(reason) = self.unsigned(&certificate, &facts)?
        {
            return Ok(Verdict::Renew(reason));
        }
        Ok(
            match (defect(wanted, &facts, &key, now), trouble(wanted, &facts, now)) {
                (None, None) => Verdict::Keep,
                (Some(reason), _) => renew_or_reject(ours, reason),
                (None, Some(reason)) if ours => Verdict::Renew(reason),
                // No authority of the world signs names of loopback.
                (None, Some(_)) => {
                    trouble(&wanted.without_loopback(), &facts, now).map_or(Verdict::Keep, Verdict::Complain)
                }
            },
        )
    }

    /// Returns the root's own authority, whether it is there or not.
    pub fn local(&self) -> Local {
        let state = self.record.parent().unwrap_or(Utf8Path::new("."));
        Local::at(&state.join("authority"))
    }

    /// Says whether kdk made the certificate of a PEM text.
    ///
    /// # Errors
    /// When what it made cannot be read.
    pub fn has_made(&self, pem: &str) -> Result<bool, CertError> {
        let made = self.made()?;
        Ok(Facts::of(pem).is_some_and(|facts| made.contains(&facts.fingerprint)))
    }

    /// Says so when a certificate is not signed by who is to sign it now.
    fn unsigned(&self, certificate: &str, facts: &Facts) -> Result<Option<String>, CertError> {
        Ok(match self.local().pem()? {
            Some(authority) if !is_signed_by(certificate, &authority) => {
                Some("it is not signed by this root's own authority".to_owned())
            }
            None if !facts.is_self_signed => Some("the authority that signed it is not there any more".to_owned()),
            _ => None,
        })
    }

    /// Makes a pair and remembers it. What was there must be backed up before.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn make(&self, wanted: &Wanted, now: Timestamp) -> Result<(), CertError> {
        if wanted.is_signed_by_authority
            && let forbidden = self.local().forbidden(&wanted.names)?
            && !forbidden.is_empty()
        {
            return Err(CertError::Forbidden(forbidden.join(", ")));
        }
        let (certificate, key) = generate(wanted, self.local().issuer()?, now)?;
        let mut fingerprints = self.made()?;
        if let Some(facts) = Facts::of(&certificate) {
            fingerprints.extend([key_mark(&facts.public_key), facts.fingerprint]);
        }
        let text = serde_json::to_string(&Made {
            version: 1,
            fingerprints,
        })
        .map_err(io::Error::other)?;
        if let Some(parent) = self.record.parent() {
            crate::sys::fs::create_private_dir(parent)?;
        }
        // Remembered first: a pair that is not remembered would count as the user's.
        write_atomic(&self.record, text.as_bytes(), PRIVATE)?;
        let state = self.record.parent().unwrap_or(&self.record);
        Ok(exchange::make(
            state,
            (&wanted.certificate, &certificate),
            (&wanted.key, &key),
        )?)
    }

    fn made(&self) -> Result<Vec<String>, CertError> {
        let Some(text) = read_optional(&self.record)? else {
            return Ok(Vec::new());
        };
        let made: Made = serde_json::from_str(&text).map_err(|error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} is damaged: {error}; remove it, and the certificates that kdk made count as yours from then on",
                    self.record
                ),
            )
        })?;
        Ok(made.fingerprints)
    }
}

/// Returns the SHA-256 fingerprint of the first certificate in a PEM text.
pub fn fingerprint(pem: &str) -> Option<String> {
    Facts::of(pem).map(|facts| facts.fingerprint)
}

fn generate(
    wanted: &Wanted,
    authority: Option<(Issuer<'static, KeyPair>, String)>,
    now: Timestamp,
) -> Result<(String, String), CertError> {
    let common_name = wanted.names.first().cloned().unwrap_or_default();
    let failed = |error: rcgen::Error| CertError::Make {
        name: common_name.clone(),
        reason: error.to_string(),
    };
    let mut params = CertificateParams::new(wanted.names.clone()).map_err(failed)?;
    debug_assert!(
        params
            .subject_alt_names
            .iter()
            .all(|name| matches!(name, SanType::DnsName(_) | SanType::IpAddress(_)))
    );
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name.as_str());
    params.distinguished_name = subject;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    validity::hold(&mut params, now, VALID_DAYS);
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed)?;
    params.use_authority_key_identifier_extension = authority.is_some() && wanted.is_signed_by_authority;
    let certificate = match authority.filter(|_| wanted.is_signed_by_authority) {
        Some((issuer, pem)) => format!("{}{pem}", params.signed_by(&key, &issuer).map_err(failed)?.pem()),
        None => params.self_signed(&key).map_err(failed)?.pem(),
    };
    Ok((certificate, key.serialize_pem()))
}

fn renew_or_reject(ours: bool, reason: String) -> Verdict {
    if ours {
        Verdict::Renew(reason)
    } else {
        Verdict::Useless(reason)
    }
}

/// How a key is recorded.
fn key_mark(public_key: &[u8]) -> String {
    format!("key:{}", HEXLOWER.encode(&Sha256::digest(public_key)))
}

/// Returns the hashes of both moduli, of a certificate and of a key (PEM), as
/// `openssl` prints them; nothing for keys that are no RSA.
pub fn moduli(certificate: &str, key: &str) -> Option<(String, String)> {
    let own = modulus_hash(&Facts::of(certificate)?.public_key)?;
    Some((own, modulus_hash(&public_key(key)?)?))
}

/// Says whether a certificate of a bundle holds the public key of a private
/// one; nothing when that cannot be read.
pub fn go_together(bundle: &str, key: &str) -> Option<bool> {
    let own = public_key(key)?;
    let holds = |der: CertificateDer<'_>| {
        X509Certificate::from_der(&der).is_ok_and(|(_, certificate)| certificate.public_key().raw == own)
    };
    Some(CertificateDer::pem_slice_iter(bundle.as_bytes()).flatten().any(holds))
}

/// Says why no client accepts it.
fn defect(wanted: &Wanted, facts: &Facts, key: &str, now: Timestamp) -> Option<String> {
    if public_key(key).as_deref() != Some(facts.public_key.as_slice()) {
        return Some(format!("{} does not go with {}", wanted.key, wanted.certificate));
    }
    out_of_time(facts, now)
}

fn out_of_time(facts: &Facts, now: Timestamp) -> Option<String> {
    if facts.not_after < now.as_second() {
        return Some("the certificate has expired".to_owned());
    }
    let begin = Timestamp::from_second(facts.not_before).unwrap_or_default();
    (begin > now).then(|| format!("the certificate is not valid before {begin} (is the clock right?)"))
}

/// Says when the certificate in a file has expired, or does not count yet.
pub fn is_out_of_time(path: &Utf8Path, now: Timestamp) -> Option<String> {
    out_of_time(&Facts::of(&read_optional(path).ok()??)?, now)
}

/// Says what some clients may stumble over, now or soon.
fn trouble(wanted: &Wanted, facts: &Facts, now: Timestamp) -> Option<String> {
    let missing: Vec<&str> = wanted
        .names
        .iter()
        .map(String::as_str)
        .filter(|name| !covers(&facts.names, name))
        .collect();
    if !missing.is_empty() {
        return Some(format!("the certificate is not valid for {}", missing.join(", ")));
    }
    let days = (facts.not_after - now.as_second()) / 86_400;
    (days < RENEW_DAYS).then(|| format!("the certificate expires in {days} days"))
}

/// Loads a certificate for messages: names and end.
pub fn describe(path: &Utf8Path) -> Option<String> {
    let facts = Facts::of(&read_optional(path).ok()??)?;
    let end = Timestamp::from_second(facts.not_after).ok()?.strftime("%Y-%m-%d");
    Some(format!("valid for {} until {end}", facts.names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_made_recognised_and_renewed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| Utf8PathBuf::from_path_buf(directory.path().join(name)).expect("UTF-8");
        let authority = Authority::new(path("made.json"));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut wanted = Wanted {
            purpose: "test",
            certificate: path("a.crt"),
            key: path("a.key"),
            names: names(&["registry.test", "127.0.0.1"]),
            is_signed_by_authority: true,
        };
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().expect("valid");
        assert_eq!(authority.judge(&wanted, now).expect("judged"), Verdict::Make);
        authority.make(&wanted, now).expect("made");
        assert_eq!(authority.judge(&wanted, now).expect("judged"), Verdict::Keep);
        assert_eq!(crate::sys::fs::mode(&wanted.key), Some(PRIVATE));
        let later = now + jiff::SignedDuration::from_hours(340 * 24);
        assert_eq!(
            authority.judge(&wanted, later).expect("judged"),
            Verdict::Renew("the certificate expires in 24 days".into())
        );
        wanted.names = names(&["other.test"]);
        assert_eq!(
            authority.judge(&wanted, now).expect("judged"),
            Verdict::Renew("the certificate is not valid for other.test".into())
        );
        let stranger = Authority::new(path("none.json"));
        assert!(matches!(
            stranger.judge(&wanted, now).expect("judged"),
            Verdict::Complain(_)
        ));
        let late = now + jiff::SignedDuration::from_hours(VALID_DAYS * 24 + 24);
        assert!(matches!(
            stranger.judge(&wanted, late).expect("judged"),
            Verdict::Useless(_)
        ));
    }
}
