//! Self-signed certificates: made, recognised, renewed.
//!
//! A pair that kdk made is known by the recorded fingerprint of its
//! certificate. Only such a pair is ever renewed; one that the user installed
//! is never touched, at most complained about.

mod onlooker;

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::HEXLOWER;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

pub use self::onlooker::served_fingerprint;
use crate::sys::fs::{PRIVATE, PUBLIC, read_optional, write_atomic};
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
}

impl Wanted {
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

/// Why certificates could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A pair could not be made.
    #[error("cannot make a certificate for {name}: {reason}")]
    Make {
        /// The common name.
        name: String,
        /// Why.
        reason: String,
    },
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

/// What a certificate says that matters here.
struct Facts {
    fingerprint: String,
    not_before: i64,
    not_after: i64,
    names: Vec<String>,
    public_key: Vec<u8>,
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
                let ours = facts(&certificate).is_some_and(|facts| made.contains(&facts.fingerprint));
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
        let Some(facts) = facts(&certificate) else {
            let ours = public_key(&key).is_some_and(|key| made.contains(&key_mark(&key)));
            return Ok(renew_or_reject(
                ours,
                format!("{} is no certificate", wanted.certificate),
            ));
        };
        let ours = made.contains(&facts.fingerprint);
        Ok(
            match (defect(wanted, &facts, &key, now), trouble(wanted, &facts, now)) {
                (None, None) => Verdict::Keep,
                (Some(reason), _) => renew_or_reject(ours, reason),
                (None, Some(reason)) if ours => Verdict::Renew(reason),
                (None, Some(reason)) => Verdict::Complain(reason),
            },
        )
    }

    /// Makes a pair and remembers it. What was there must be backed up before.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn make(&self, wanted: &Wanted, now: Timestamp) -> Result<(), CertError> {
        let (certificate, key) = generate(wanted, now)?;
        let mut fingerprints = self.made()?;
        if let Some(facts) = facts(&certificate) {
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
        write_atomic(&wanted.key, key.as_bytes(), PRIVATE)?;
        write_atomic(&wanted.certificate, certificate.as_bytes(), PUBLIC)?;
        Ok(())
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
    facts(pem).map(|facts| facts.fingerprint)
}

fn generate(wanted: &Wanted, now: Timestamp) -> Result<(String, String), CertError> {
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
    let today = now.to_zoned(TimeZone::UTC).date();
    let end = today.saturating_add(VALID_DAYS.days());
    let day = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(today);
    params.not_after = day(end);
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn facts(pem: &str) -> Option<Facts> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let mut names = Vec::new();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let address = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
                    let address = address.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
                    names.extend(address.ok().map(|address| address.to_string()));
                }
                _ => {}
            }
        }
    }
    Some(Facts {
        fingerprint: HEXLOWER.encode(&Sha256::digest(&der)),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        names,
        public_key: certificate.public_key().raw.to_vec(),
    })
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

fn public_key(key: &str) -> Option<Vec<u8>> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).ok()?;
    Some(key.public_key()?.to_vec())
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
    out_of_time(&facts(&read_optional(path).ok()??)?, now)
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

fn covers(names: &[String], wanted: &str) -> bool {
    let wildcard = wanted.split_once('.').map(|(_, parent)| format!("*.{parent}"));
    names
        .iter()
        .any(|name| name.eq_ignore_ascii_case(wanted) || wildcard.as_ref() == Some(name))
}

/// Loads a certificate for messages: names and end.
pub fn describe(path: &Utf8Path) -> Option<String> {
    let facts = facts(&read_optional(path).ok()??)?;
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
        let late = now + (VALID_DAYS * 24 + 24).hours();
        assert!(matches!(
            stranger.judge(&wanted, late).expect("judged"),
            Verdict::Useless(_)
        ));
    }
}
