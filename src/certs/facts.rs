//! What a certificate says of itself.

use data_encoding::HEXLOWER;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// What a certificate says that matters here.
pub struct Facts {
    /// SHA-256 of it.
    pub fingerprint: String,
    /// Seconds since 1970 from which it holds.
    pub not_before: i64,
    /// Seconds since 1970 until which it holds.
    pub not_after: i64,
    /// Names and addresses for which it holds.
    pub names: Vec<String>,
    /// Who signed it: the common name, or all of the name where there is none.
    pub issuer: String,
    /// Whether it signed itself.
    pub is_self_signed: bool,
    /// Its public key (SubjectPublicKeyInfo, DER).
    pub public_key: Vec<u8>,
}

impl Facts {
    /// Reads the first certificate of a PEM text.
    pub fn of(pem: &str) -> Option<Self> {
        Self::of_der(&CertificateDer::from_pem_slice(pem.as_bytes()).ok()?)
    }

    /// Reads a certificate.
    pub fn of_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
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
        let issuer = certificate.issuer();
        let name = issuer.iter_common_name().next().and_then(|name| name.as_str().ok());
        Some(Self {
            fingerprint: HEXLOWER.encode(&Sha256::digest(der)),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            names,
            issuer: name.map_or_else(|| issuer.to_string(), str::to_owned),
            is_self_signed: issuer == certificate.subject(),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

/// For what an authority may sign.
#[derive(Debug, Default)]
pub struct Permitted {
    /// Domains, and all below them.
    pub domains: Vec<String>,
    /// Networks.
    pub networks: Vec<ipnet::IpNet>,
}

/// Reads for what an authority may sign (RFC 5280, name constraints).
pub fn permitted(pem: &str) -> Permitted {
    let mut permitted = Permitted::default();
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return permitted;
    };
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
        return permitted;
    };
    let Ok(Some(constraints)) = certificate.name_constraints() else {
        return permitted;
    };
    for subtree in constraints.value.permitted_subtrees.iter().flatten() {
        match &subtree.base {
            GeneralName::DNSName(name) => permitted.domains.push(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => permitted.networks.extend(network(bytes)),
            _ => {}
        }
    }
    permitted
}

/// Reads an address and its mask.
fn network(bytes: &[u8]) -> Option<ipnet::IpNet> {
    let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
    let bits = mask.iter().map(|byte| byte.count_ones()).sum::<u32>();
    let address = <[u8; 4]>::try_from(address)
        .map(std::net::IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(address).map(std::net::IpAddr::from));
    ipnet::IpNet::new(address.ok()?, u8::try_from(bits).ok()?).ok()
}

/// Returns the public key of a private one.
pub fn public_key(key: &str) -> Option<Vec<u8>> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).ok()?;
    Some(key.public_key()?.to_vec())
}

/// Returns what `openssl x509 -noout -modulus | openssl sha256` prints of an RSA
/// key, by which GitLab's documentation compares a certificate and a key.
pub fn modulus_hash(public_key: &[u8]) -> Option<String> {
    let (_, info) = x509_parser::x509::SubjectPublicKeyInfo::from_der(public_key).ok()?;
    let x509_parser::public_key::PublicKey::RSA(key) = info.parsed().ok()? else {
        return None;
    };
    let first = key.modulus.iter().position(|byte| *byte != 0)?;
    let text = format!("Modulus={}\n", data_encoding::HEXUPPER.encode(&key.modulus[first..]));
    Some(HEXLOWER.encode(&Sha256::digest(text)))
}

/// Says whether a certificate was signed with the key of another.
pub fn is_signed_by(pem: &str, issuer: &str) -> bool {
    let read = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).ok();
    let (Some(own), Some(other)) = (read(pem), read(issuer)) else {
        return false;
    };
    is_signed(&own, &other)
}

/// Says whether a certificate was signed with the key of another.
pub fn is_signed(own: &[u8], issuer: &[u8]) -> bool {
    let (Ok((_, own)), Ok((_, issuer))) = (X509Certificate::from_der(own), X509Certificate::from_der(issuer)) else {
        return false;
    };
    own.issuer() == issuer.subject() && own.verify_signature(Some(issuer.public_key())).is_ok()
}

/// Says whether names of a certificate, wildcards among them, cover another.
pub fn covers(names: &[String], wanted: &str) -> bool {
    let wildcard = wanted.split_once('.').map(|(_, parent)| format!("*.{parent}"));
    names
        .iter()
        .any(|name| name.eq_ignore_ascii_case(wanted) || wildcard.as_ref() == Some(name))
}
