//! Manifests: what they are and what they refer to. The bytes are kept as
//! they came; nothing here writes JSON.

use serde::Deserialize;

use super::digest::Digest;
use super::media_type::{DOCKER_LIST, DOCKER_MANIFEST, DOCKER_SCHEMA1, OCI_INDEX, OCI_MANIFEST};

/// Why bytes are no manifest that this registry takes.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// They are not the JSON of a manifest.
    #[error("not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// The old signed format.
    #[error("Schema 1 manifest not supported")]
    Schema1,
    /// A media type that is no manifest's.
    #[error("unknown or missing manifest media type {0:?}")]
    MediaType(String),
    /// `Content-Type` and `mediaType` contradict each other.
    #[error("the content type {header:?} contradicts the manifest's mediaType {body:?}")]
    Mismatch {
        /// What the request says.
        header: String,
        /// What the manifest says.
        body: String,
    },
    /// A reference has no valid digest or a negative size.
    #[error("a descriptor is invalid: {0}")]
    Descriptor(String),
    /// `schemaVersion` is not 2.
    #[error("schemaVersion must be 2")]
    SchemaVersion,
}

/// Refers to content by digest (OCI image-spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Where else the content may be fetched from (a foreign layer).
    pub urls: Vec<String>,
    /// Platform of an index's entry as `(os, architecture)`.
    pub platform: Option<(String, String)>,
}

impl Descriptor {
    /// Writes the descriptor for an event.
    pub fn describe(&self) -> serde_json::Value {
        serde_json::json!({
            "mediaType": self.media_type,
            "digest": self.digest.to_string(),
            "size": self.size,
        })
    }
}

/// What a manifest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image or artifact: configuration and layers.
    Image {
        /// The configuration.
        config: Descriptor,
        /// The layers, in order.
        layers: Vec<Descriptor>,
    },
    /// A list of manifests, or, from build caches, of blobs.
    Index {
        /// The entries, in order.
        manifests: Vec<Descriptor>,
    },
}

/// A manifest that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// What it is.
    pub kind: Kind,
    /// The manifest that it is attached to.
    pub subject: Option<Descriptor>,
    /// What kind of artifact it says to be.
    pub artifact_type: Option<String>,
}

impl Manifest {
    /// Understands a manifest's bytes. `content_type` is the request's or the
    /// stored one; without it the type is taken from the content.
    ///
    /// # Errors
    /// When the bytes are no manifest that this registry takes.
    pub fn parse(content: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        let raw: Raw = serde_json::from_slice(content)?;
        let named = raw.media_type.clone().filter(|name| !name.is_empty());
        let claimed = content_type.filter(|header| known(header) || schema1(header));
        if claimed.is_some_and(schema1) || named.as_deref().is_some_and(schema1) || raw.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        if raw.schema_version != Some(2) {
            return Err(ManifestError::SchemaVersion);
        }
        if let (Some(header), Some(body)) = (claimed, &named)
            && header != body
        {
            return Err(ManifestError::Mismatch {
                header: header.to_owned(),
                body: body.clone(),
            });
        }
        // It would come back as another type: Docker's types are told by this field.
        if named.is_none() && claimed.is_some_and(|header| matches!(header, DOCKER_MANIFEST | DOCKER_LIST)) {
            return Err(ManifestError::MediaType(String::new()));
        }
        let media_type = match (claimed, named) {
            (Some(header), _) => header.to_owned(),
            (None, Some(name)) if known(&name) => name,
            (None, Some(name)) => return Err(ManifestError::MediaType(name)),
            (None, None) if content_type.is_some_and(|header| !header.is_empty() && !generic(header)) => {
                return Err(ManifestError::MediaType(content_type.unwrap_or_default().to_owned()));
            }
            (None, None) if raw.manifests.is_some() => OCI_INDEX.to_owned(),
            (None, None) => OCI_MANIFEST.to_owned(),
        };
        let kind = if matches!(media_type.as_str(), OCI_INDEX | DOCKER_LIST) {
            if raw.config.is_some() || raw.layers.is_some() {
                return Err(ManifestError::Descriptor(
                    "an index has neither config nor layers".into(),
                ));
            }
            let manifests = raw
                .manifests
                .ok_or_else(|| ManifestError::Descriptor("an index needs manifests".into()))?;
            Kind::Index {
                manifests: all(manifests)?,
            }
        } else {
            if raw.manifests.is_some() {
                return Err(ManifestError::Descriptor("an image manifest has no manifests".into()));
            }
            let config = raw
                .config
                .ok_or_else(|| ManifestError::Descriptor("a manifest needs a config".into()))?;
            Kind::Image {
                config: config.checked()?,
                layers: all(raw.layers.unwrap_or_default())?,
            }
        };
        let subject = raw.subject.map(RawDescriptor::checked).transpose()?;
        Ok(Self {
            media_type,
            artifact_type: raw.artifact_type.filter(|name| !name.is_empty()),
            kind,
            subject,
        })
    }

    /// Says whether it is an index that names something as a manifest.
    pub fn names_as_manifest(&self, digest: &Digest) -> bool {
        let Kind::Index { manifests } = &self.kind else {
            return false;
        };
        let mut own = manifests.iter().filter(|entry| entry.digest == *digest);
        own.any(|entry| super::media_type::is_manifest(&entry.media_type))
    }

    /// Returns the digests of everything that the manifest names.
    pub fn references(&self) -> impl Iterator<Item = &Digest> {
        self.descriptors().map(|descriptor| &descriptor.digest)
    }

    /// Returns everything that the manifest names.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, rest) = match &self.kind {
            Kind::Image { config, layers } => (Some(config), layers),
            Kind::Index { manifests } => (None, manifests),
        };
        config.into_iter().chain(rest).chain(&self.subject)
    }

    /// Returns the entry of an index for a platform.
    pub fn for_platform(&self, os: &str, architecture: &str) -> Option<&Descriptor> {
        let Kind::Index { manifests } = &self.kind else {
            return None;
        };
        manifests.iter().find(|entry| {
            entry
                .platform
                .as_ref()
                .is_some_and(|(its_os, its_architecture)| its_os == os && its_architecture == architecture)
        })
    }
}

fn known(media_type: &str) -> bool {
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].contains(&media_type)
}

fn schema1(media_type: &str) -> bool {
    DOCKER_SCHEMA1.contains(&media_type)
}

/// Types that curl and scripts send without meaning them.
fn generic(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/json" | "application/octet-stream" | "application/x-www-form-urlencoded" | "text/plain"
    )
}

fn all(raw: Vec<RawDescriptor>) -> Result<Vec<Descriptor>, ManifestError> {
    raw.into_iter().map(RawDescriptor::checked).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    subject: Option<RawDescriptor>,
    artifact_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: i64,
    #[serde(default)]
    urls: Vec<String>,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl RawDescriptor {
    fn checked(self) -> Result<Descriptor, ManifestError> {
        let invalid = |reason: String| ManifestError::Descriptor(format!("{:?}: {reason}", self.digest));
        Ok(Descriptor {
            digest: self.digest.parse().map_err(|error| invalid(format!("{error}")))?,
            size: u64::try_from(self.size).map_err(|_| invalid("a negative size".into()))?,
            media_type: self.media_type,
            urls: self.urls,
            platform: self.platform.map(|platform| (platform.os, platform.architecture)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(kind: &str) -> String {
        format!(
            r#"{{"mediaType":"{kind}","digest":"sha256:{}","size":3}}"#,
            "a".repeat(64)
        )
    }

    #[test]
    fn the_type_is_taken_from_the_content_when_the_header_says_nothing() {
        let config = descriptor("c");
        let image = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        assert_eq!(
            Manifest::parse(image.as_bytes(), None).expect("an image").media_type,
            OCI_MANIFEST
        );
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(
            Manifest::parse(index.as_bytes(), None).expect("an index").media_type,
            OCI_INDEX
        );
        let docker = format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{config}}}"#);
        assert_eq!(
            Manifest::parse(docker.as_bytes(), Some("text/plain"))
                .expect("an image")
                .media_type,
            DOCKER_MANIFEST
        );
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for (text, header) in [
            ("", None),
            ("{}", None),
            ("[]", Some(OCI_MANIFEST)),
            (r#"{"schemaVersion":1}"#, None),
            (r#"{"schemaVersion":2}"#, Some(DOCKER_SCHEMA1[1])),
            (
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
                Some(OCI_MANIFEST),
            ),
            (
                r#"{"schemaVersion":2,"config":{"digest":"sha256:bad","size":1}}"#,
                Some(OCI_MANIFEST),
            ),
        ] {
            assert!(Manifest::parse(text.as_bytes(), header).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(content in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Manifest::parse(&content, None);
        }
    }
}
