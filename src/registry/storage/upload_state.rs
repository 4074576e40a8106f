//! The signed state of an upload, which travels in its URL as `_state`.
//!
//! The same form as the Go registries': base64url of an HMAC-SHA256 followed
//! by the JSON it signs. So an upload survives a restart, and a POST needs to
//! store nothing.

use data_encoding::BASE64URL;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::registry::oci::Algorithm;

/// Length of an HMAC-SHA256 in bytes.
const MAC_LEN: usize = 32;

/// What is known of an upload besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadState {
    /// Repository it belongs to.
    #[serde(rename = "Name")]
    pub name: String,
    /// Its id.
    #[serde(rename = "UUID")]
    pub id: String,
    /// Bytes received when the state was signed.
    #[serde(rename = "Offset")]
    pub offset: u64,
    /// When it was started.
    #[serde(rename = "StartedAt")]
    pub started_at: Timestamp,
    /// Algorithm of the digest to come, where it is not the usual one.
    #[serde(rename = "Algorithm", default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
}

impl UploadState {
    /// Returns the algorithm of the digest to come, as far as that is known.
    pub fn algorithm(&self) -> Algorithm {
        let named = self.algorithm.as_deref().and_then(|name| name.parse().ok());
        named.unwrap_or(Algorithm::Sha256)
    }
}

/// Signs and checks states.
#[derive(Clone)]
pub struct StateSigner {
    key: Vec<u8>,
}

impl StateSigner {
    /// Makes a signer. States signed with one secret are void under another.
    pub fn new(secret: &str) -> Self {
        Self {
            key: secret.as_bytes().to_vec(),
        }
    }

    fn mac(&self) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of every length")
    }

    /// Signs a state.
    pub fn sign(&self, state: &UploadState) -> String {
        let json = serde_json::to_vec(state).expect("a state has only text and numbers");
        let mut mac = self.mac();
        mac.update(&json);
        let mut bytes = mac.finalize().into_bytes().to_vec();
        bytes.extend_from_slice(&json);
        BASE64URL.encode(&bytes)
    }

    /// Checks a signed state; nothing when it is not ours.
    pub fn verify(&self, text: &str) -> Option<UploadState> {
        let bytes = BASE64URL.decode(text.as_bytes()).ok()?;
        let (signature, json) = bytes.split_at_checked(MAC_LEN)?;
        let mut mac = self.mac();
        mac.update(json);
        mac.verify_slice(signature).ok()?;
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_good_only_as_signed() {
        let state = UploadState {
            name: "a/b".into(),
            id: "x".into(),
            offset: 7,
            started_at: Timestamp::UNIX_EPOCH,
            algorithm: None,
        };
        let signer = StateSigner::new("secret");
        let text = signer.sign(&state);
        assert_eq!(signer.verify(&text), Some(state));
        assert_eq!(StateSigner::new("other").verify(&text), None);
        let mut bytes = BASE64URL.decode(text.as_bytes()).expect("valid");
        *bytes.last_mut().expect("not empty") ^= 1;
        assert_eq!(signer.verify(&BASE64URL.encode(&bytes)), None);
        assert_eq!(signer.verify(""), None);
    }
}
