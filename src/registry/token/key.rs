//! Public keys and the ids by which tokens name them.

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey as Parsed;

/// A public key that signatures are checked with.
#[derive(Clone)]
pub struct PublicKey {
    spki: Vec<u8>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    Ec {
        curve: &'static str,
        x: Vec<u8>,
        y: Vec<u8>,
    },
    /// Ed25519 (RFC 8037).
    Okp {
        x: Vec<u8>,
    },
}

/// The object identifier of Ed25519 (RFC 8410, section 3).
const ED25519: x509_parser::asn1_rs::Oid<'static> = x509_parser::asn1_rs::oid!(1.3.101.112);

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not a SubjectPublicKeyInfo.
    #[error("the public key cannot be read")]
    Unreadable,
    /// Neither RSA, nor an EC key on a NIST curve, nor Ed25519.
    #[error("only RSA keys, EC keys on P-256, P-384 and P-521, and Ed25519 are supported")]
    Unsupported,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280, section 4.1) in DER.
    ///
    /// # Errors
    /// When it cannot be read or the kind of key is not supported.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let (_, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| KeyError::Unreadable)?;
        let material = match info.parsed().map_err(|_| KeyError::Unreadable)? {
            Parsed::RSA(rsa) => {
                let trim = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect();
                Material::Rsa {
                    modulus: trim(rsa.modulus),
                    exponent: trim(rsa.exponent),
                }
            }
            Parsed::EC(point) => {
                let data = point.data();
                let (curve, width) = match data.len() {
                    65 => ("P-256", 32),
                    97 => ("P-384", 48),
                    133 => ("P-521", 66),
                    _ => return Err(KeyError::Unsupported),
                };
                Material::Ec {
                    curve,
                    x: data[1..=width].to_vec(),
                    y: data[1 + width..].to_vec(),
                }
            }
            _ if info.algorithm.algorithm == ED25519 => Material::Okp {
                x: info.subject_public_key.data.to_vec(),
            },
            _ => return Err(KeyError::Unsupported),
        };
        Ok(Self {
            spki: spki.to_vec(),
            material,
        })
    }

    /// Reads a JSON Web Key (RFC 7517), RSA, EC or Ed25519. Its libtrust id is not known.
    ///
    /// # Errors
    /// When a member is missing or the kind of key is not supported.
    pub fn from_jwk(jwk: &serde_json::Value) -> Result<Self, KeyError> {
        let member = |name: &str| {
            let text = jwk[name].as_str().ok_or(KeyError::Unreadable)?;
            BASE64URL_NOPAD
                .decode(text.trim_end_matches('=').as_bytes())
                .map_err(|_| KeyError::Unreadable)
        };
        let material = match (jwk["kty"].as_str(), jwk["crv"].as_str()) {
            (Some("RSA"), _) => Material::Rsa {
                modulus: member("n")?,
                exponent: member("e")?,
            },
            (Some("EC"), Some("P-256")) => Material::Ec {
                curve: "P-256",
                x: member("x")?,
                y: member("y")?,
            },
            (Some("EC"), Some("P-384")) => Material::Ec {
                curve: "P-384",
                x: member("x")?,
                y: member("y")?,
            },
            (Some("EC"), Some("P-521")) => Material::Ec {
                curve: "P-521",
                x: member("x")?,
                y: member("y")?,
            },
            (Some("OKP"), Some("Ed25519")) => Material::Okp { x: member("x")? },
            _ => return Err(KeyError::Unsupported),
        };
        Ok(Self {
            spki: Vec::new(),
            material,
        })
    }

    /// Returns the id that libtrust gives the key: the first 240 bits of the
    /// SHA-256 of its DER, in base32, in groups of four.
    pub fn libtrust_id(&self) -> String {
        let hash = Sha256::digest(&self.spki);
        let text = BASE32_NOPAD.encode(&hash[..30]);
        text.as_bytes()
            .chunks(4)
            .map(|group| String::from_utf8_lossy(group))
            .collect::<Vec<_>>()
            .join(":")
    }

    /// Returns the JWK thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> String {
        let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        // The members in lexical order and without spaces, as the RFC requires.
        let json = match &self.material {
            Material::Rsa { modulus, exponent } => {
                format!(
                    r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
                    encode(exponent),
                    encode(modulus)
                )
            }
            Material::Ec { curve, x, y } => {
                format!(
                    r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#,
                    encode(x),
                    encode(y)
                )
            }
            Material::Okp { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(x)),
        };
        encode(&Sha256::digest(json.as_bytes()))
    }

    /// Says whether an algorithm is of this key's family.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        match &self.material {
            Material::Rsa { .. } => algorithm.family() == AlgorithmFamily::Rsa,
            Material::Ec { curve, .. } => {
                matches!(
                    (*curve, algorithm),
                    ("P-256", Algorithm::ES256) | ("P-384", Algorithm::ES384)
                )
            }
            Material::Okp { .. } => algorithm == Algorithm::EdDSA,
        }
    }

    /// Checks a signature of ES512 (RFC 7518, section 3.4), which is of this
    /// key's family when the key is on P-521.
    pub fn verifies_es512(&self, message: &[u8], signature: &[u8]) -> bool {
        let Material::Ec { curve: "P-521", x, y } = &self.material else {
            return false;
        };
        // The point, uncompressed (SEC 1, section 2.3.3).
        let point = [&[4], x.as_slice(), y.as_slice()].concat();
        UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point)
            .verify(message, signature)
            .is_ok()
    }

    /// Returns the key in the form that checks signatures.
    ///
    /// # Errors
    /// When the kind of key is not supported.
    pub fn decoding_key(&self) -> Result<DecodingKey, KeyError> {
        match &self.material {
            Material::Rsa { modulus, exponent } => Ok(DecodingKey::from_rsa_raw_components(modulus, exponent)),
            Material::Ec { x, y, .. } => {
                DecodingKey::from_ec_components(&BASE64URL_NOPAD.encode(x), &BASE64URL_NOPAD.encode(y))
                    .map_err(|_| KeyError::Unsupported)
            }
            Material::Okp { x } => {
                DecodingKey::from_ed_components(&BASE64URL_NOPAD.encode(x)).map_err(|_| KeyError::Unsupported)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_the_one_of_rfc_7638() {
        // Section 3.1 of the RFC.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let key = PublicKey {
            spki: Vec::new(),
            material: Material::Rsa {
                modulus: BASE64URL_NOPAD.decode(n.as_bytes()).expect("valid"),
                exponent: vec![1, 0, 1],
            },
        };
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        // RFC 8037, appendix A.3.
        let jwk =
            serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let key = PublicKey::from_jwk(&jwk).expect("a key");
        assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
