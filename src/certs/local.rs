//! A local authority that signs the registry's certificate, so that who trusts
//! it once trusts the registry under every name it will have.
//!
//! Its certificate permits names of this machine and of private networks only
//! (RFC 5280, name constraints), and no further authorities: who gets hold of
//! its key cannot pass for a site on the internet.

use std::net::IpAddr;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, PKCS_RSA_SHA256, RsaKeySize,
};

use super::CertError;
use super::validity::hold;
use crate::sys::fs::{PRIVATE, PUBLIC, create_private_dir, read_optional, write_atomic};

/// Days that an authority holds.
const VALID_DAYS: i64 = 3650;
/// Names that nobody on the internet has (RFC 2606, RFC 6761, RFC 6762, RFC 8375).
const DOMAINS: [&str; 7] = [
    "localhost",
    "test",
    "example",
    "invalid",
    "local",
    "internal",
    "home.arpa",
];
/// Addresses that nobody on the internet has (RFC 1918, RFC 4193, RFC 5737).
const NETWORKS: [(&str, u8); 9] = [
    ("127.0.0.0", 8),
    ("10.0.0.0", 8),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("192.0.2.0", 24),
    ("198.51.100.0", 24),
    ("203.0.113.0", 24),
    ("::1", 128),
    ("fc00::", 7),
];

/// The authority of a root, whether it is there or not.
#[derive(Clone, Debug)]
pub struct Local {
    certificate: Utf8PathBuf,
    key: Utf8PathBuf,
}

impl Local {
    /// Names the directory in which it is, or is to be.
    pub fn at(directory: &Utf8Path) -> Self {
        Self {
            certificate: directory.join("ca.crt"),
            key: directory.join("ca.key"),
        }
    }

    /// Returns its certificate; nothing where there is no authority.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn pem(&self) -> Result<Option<String>, CertError> {
        if !self.key.exists() {
            return Ok(None);
        }
        Ok(read_optional(&self.certificate)?)
    }

    /// Makes it, for names beside those that every authority permits.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn make(&self, title: &str, names: &[String], now: Timestamp) -> Result<(), CertError> {
        let failed = |error: rcgen::Error| CertError::Make {
            name: title.to_owned(),
            reason: error.to_string(),
        };
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, title);
        params.distinguished_name = subject;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted(names),
            excluded_subtrees: Vec::new(),
        });
        hold(&mut params, now, VALID_DAYS);
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        if let Some(directory) = self.key.parent() {
            create_private_dir(directory)?;
        }
        write_atomic(&self.key, key.serialize_pem().as_bytes(), PRIVATE)?;
        write_atomic(&self.certificate, certificate.pem().as_bytes(), PUBLIC)?;
        Ok(())
    }

    /// Returns those of some names for which the authority may not sign; its
    /// clients would refuse the whole certificate.
    ///
    /// # Errors
    /// When its certificate cannot be read.
    pub fn forbidden(&self, names: &[String]) -> Result<Vec<String>, CertError> {
        let Some(pem) = self.pem()? else { return Ok(Vec::new()) };
        let permitted = super::facts::permitted(&pem);
        let is_below = |name: &str, domain: &str| name == domain || name.ends_with(&format!(".{domain}"));
        let may = |name: &str| {
            if let Ok(address) = name.parse::<IpAddr>() {
                return permitted.networks.iter().any(|network| network.contains(&address));
            }
            let name = name.trim_start_matches("*.").to_ascii_lowercase();
            permitted.domains.iter().any(|domain| is_below(&name, domain))
        };
        Ok(names.iter().filter(|name| !may(name)).cloned().collect())
    }

    /// Returns what signs; nothing where there is no authority.
    ///
    /// # Errors
    /// When its files cannot be read, or do not go together.
    pub fn issuer(&self) -> Result<Option<(Issuer<'static, KeyPair>, String)>, CertError> {
        let (Some(pem), Some(key)) = (self.pem()?, read_optional(&self.key)?) else {
            return Ok(None);
        };
        let failed = |error: rcgen::Error| CertError::Make {
            name: self.certificate.to_string(),
            reason: error.to_string(),
        };
        let key = KeyPair::from_pem(&key).map_err(failed)?;
        Ok(Some((Issuer::from_ca_cert_pem(&pem, key).map_err(failed)?, pem)))
    }
}

/// Returns the names and addresses for which an authority may sign.
fn permitted(names: &[String]) -> Vec<GeneralSubtree> {
    let mut permitted: Vec<GeneralSubtree> = DOMAINS
        .iter()
        .map(|domain| GeneralSubtree::DnsName((*domain).to_owned()))
        .collect();
    let networks = NETWORKS
        .iter()
        .filter_map(|(address, bits)| Some((address.parse().ok()?, *bits)));
    permitted
        .extend(networks.map(|(address, bits)| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))));
    for name in names {
        permitted.push(match name.parse::<IpAddr>() {
            Ok(address) => {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
            }
            // A constraint holds for all that is below it.
            Err(_) => GeneralSubtree::DnsName(name.trim_start_matches("*.").to_owned()),
        });
    }
    permitted
}
