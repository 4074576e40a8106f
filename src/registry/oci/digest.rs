//! Content digests (OCI image-spec, descriptor.md, "Digests").

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, which every client speaks.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, in order of preference.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Returns the name as it stands before the colon of a digest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Returns the length of the encoded part in characters.
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// It has no colon, or a part is empty.
    #[error("a digest is written algorithm:hex")]
    Format,
    /// The algorithm is not registered.
    #[error("the digest algorithm is not supported (sha256 and sha512 are)")]
    Algorithm,
    /// The encoded part has the wrong length or characters.
    #[error("the digest has the wrong length or characters other than 0-9 and a-f")]
    Encoded,
}

/// The digest of some content, such as `sha256:6c3c…`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Hash);

/// What was computed. There may be very many of them, nearly all SHA-256.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Hash {
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
}

impl Digest {
    /// Computes the digest of bytes.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Hash::Sha256(_) => Algorithm::Sha256,
            Hash::Sha512(_) => Algorithm::Sha512,
        }
    }

    fn hash(&self) -> &[u8] {
        match &self.0 {
            Hash::Sha256(hash) => hash,
            Hash::Sha512(hash) => hash.as_slice(),
        }
    }

    /// Writes the digest as GitLab's database keeps it: a byte for the
    /// algorithm, then the hash.
    pub fn to_bytes(&self) -> Vec<u8> {
        let kind = match self.0 {
            Hash::Sha256(_) => 1,
            Hash::Sha512(_) => 2,
        };
        [&[kind], self.hash()].concat()
    }

    /// Reads what [`Digest::to_bytes`] wrote; nothing when it is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, hash) = bytes.split_first()?;
        Some(Self(match kind {
            1 => Hash::Sha256(hash.try_into().ok()?),
            2 => Hash::Sha512(Box::new(hash.try_into().ok()?)),
            _ => return None,
        }))
    }

    /// Returns the part after the colon.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(self.hash())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::ALL
            .into_iter()
            .find(|known| known.name() == text)
            .ok_or(DigestError::Algorithm)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        if algorithm.is_empty() || hex.is_empty() {
            return Err(DigestError::Format);
        }
        let algorithm: Algorithm = algorithm.parse()?;
        let mut hash = [0; 64];
        let hash = &mut hash[..algorithm.hex_len() / 2];
        // Upper case is refused, too.
        if hex.len() != algorithm.hex_len() || HEXLOWER.decode_mut(hex.as_bytes(), hash).is_err() {
            return Err(DigestError::Encoded);
        }
        let kind = match algorithm {
            Algorithm::Sha256 => hash.try_into().map(Hash::Sha256),
            Algorithm::Sha512 => hash.try_into().map(|hash| Hash::Sha512(Box::new(hash))),
        };
        kind.map(Self).map_err(|_| DigestError::Encoded)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hex = [0; 128];
        let hex = &mut hex[..self.algorithm().hex_len()];
        HEXLOWER.encode_mut(self.hash(), hex);
        f.write_str(self.algorithm().name())?;
        f.write_str(":")?;
        f.write_str(std::str::from_utf8(hex).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest being computed.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// Starts a digest.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Takes in more content.
    pub fn update(&mut self, content: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(content),
            Self::Sha512(state) => state.update(content),
        }
    }

    /// Returns the algorithm being computed.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Writes the state down, to go on with [`Hasher::restore`].
    pub fn save(&self) -> Vec<u8> {
        match self {
            Self::Sha256(state) => state.serialize().to_vec(),
            Self::Sha512(state) => state.serialize().to_vec(),
        }
    }

    /// Goes on from the state that `saved` begins with, as [`Hasher::save`]
    /// wrote it; nothing when it is none.
    pub fn restore(algorithm: Algorithm, saved: &[u8]) -> Option<Self> {
        let saved = saved.get(..Self::new(algorithm).save().len())?;
        match algorithm {
            Algorithm::Sha256 => {
                let state = SerializedState::<Sha256>::try_from(saved).ok()?;
                Sha256::deserialize(&state).ok().map(Self::Sha256)
            }
            Algorithm::Sha512 => {
                let state = SerializedState::<Sha512>::try_from(saved).ok()?;
                Sha512::deserialize(&state).ok().map(Self::Sha512)
            }
        }
    }

    /// Returns the digest of all that was taken in.
    pub fn finish(self) -> Digest {
        Digest(match self {
            Self::Sha256(state) => Hash::Sha256(state.finalize().into()),
            Self::Sha512(state) => Hash::Sha512(Box::new(state.finalize().into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_known() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn a_saved_state_goes_on_where_it_was() {
        for algorithm in Algorithm::ALL {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&[7; 1000]);
            let mut restored = Hasher::restore(algorithm, &hasher.save()).expect("a state");
            restored.update(b"rest");
            hasher.update(b"rest");
            assert_eq!(restored.finish(), hasher.finish());
            assert!(Hasher::restore(algorithm, b"short").is_none());
        }
    }

    #[test]
    fn bad_digests_are_refused_by_kind() {
        for (text, error) in [
            ("sha256", DigestError::Format),
            ("sha256:", DigestError::Format),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", DigestError::Algorithm),
            ("sha256:bad", DigestError::Encoded),
            ("sha256:../../../../etc/passwd", DigestError::Encoded),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
        let upper = format!("sha256:{}", "A".repeat(64));
        assert_eq!(upper.parse::<Digest>(), Err(DigestError::Encoded));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(content in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            for algorithm in Algorithm::ALL {
                let digest = Digest::of(algorithm, &content);
                proptest::prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            }
        }

        #[test]
        fn what_is_read_is_safe_in_a_path(text in "(sha256|sha512|md5)?:?[./0-9a-fA-F]{0,130}") {
            if let Ok(digest) = text.parse::<Digest>() {
                proptest::prop_assert_eq!(digest.to_string(), text);
                proptest::prop_assert!(digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()));
            }
        }
    }
}
