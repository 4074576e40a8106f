//! The nouns of the registry protocol: pure values, no input or output.

pub mod digest;
pub mod error_code;
pub mod manifest;
pub mod media_type;
pub mod name;
pub mod parsed;
pub mod range;
pub mod reference;
pub mod references;
pub mod referrer;

pub use digest::{Algorithm, Digest, Hasher};
pub use error_code::ErrorCode;
pub use name::RepoName;
pub use parsed::ParsedManifest;
pub use reference::{Reference, Tag};
