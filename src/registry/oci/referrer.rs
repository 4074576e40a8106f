//! What refers to a manifest, as it is listed (OCI distribution-spec, "Listing
//! Referrers").

use bytes::Bytes;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::digest::Digest;
use super::manifest::{Kind, Manifest};

/// A JSON object as it was written, a part of somebody's bytes: annotations
/// are as long as whoever pushes them likes, and are only passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawObject(Bytes);

impl RawObject {
    /// Takes a part of `whole`; nothing where that is no object.
    fn of(part: &RawValue, whole: &Bytes) -> Option<Self> {
        let text = part.get().as_bytes();
        text.starts_with(b"{").then(|| Self(whole.slice_ref(text)))
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(&self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Describes a manifest in the list of what refers to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// What kind of artifact it is: an image's type falls back to its configuration's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<RawObject>,
}

impl Referrer {
    /// Describes stored content; `manifest` is what was understood of it.
    pub fn of(digest: &Digest, content: &Bytes, manifest: &Manifest) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase")]
        struct Described<'a> {
            artifact_type: Option<String>,
            #[serde(borrow)]
            annotations: Option<&'a RawValue>,
        }
        let described: Described<'_> = serde_json::from_slice(content).unwrap_or_default();
        let fallback = match &manifest.kind {
            Kind::Image { config, .. } => Some(config.media_type.clone()),
            Kind::Index { .. } => None,
        };
        let named = described.artifact_type.filter(|name| !name.is_empty());
        Self {
            media_type: manifest.media_type.clone(),
            digest: digest.to_string(),
            size: content.len() as u64,
            artifact_type: named.or(fallback).filter(|name| !name.is_empty()),
            annotations: described.annotations.and_then(|raw| RawObject::of(raw, content)),
        }
    }

    /// Reads the entries of an index that a client keeps under the fallback
    /// tag (OCI distribution-spec, "Referrers Tag Schema").
    pub fn of_fallback(content: &Bytes) -> Vec<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Entry<'a> {
            media_type: String,
            digest: String,
            size: u64,
            artifact_type: Option<String>,
            #[serde(borrow)]
            annotations: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Index<'a> {
            #[serde(borrow)]
            manifests: Vec<Entry<'a>>,
        }
        let index: Option<Index<'_>> = serde_json::from_slice(content).ok();
        index
            .into_iter()
            .flat_map(|index| index.manifests)
            .filter(|entry| entry.digest.parse::<Digest>().is_ok())
            .map(|entry| Self {
                media_type: entry.media_type,
                digest: entry.digest,
                size: entry.size,
                artifact_type: entry.artifact_type,
                annotations: entry.annotations.and_then(|raw| RawObject::of(raw, content)),
            })
            .collect()
    }

    /// Returns how many bytes it takes in an answer, about.
    pub fn length(&self) -> usize {
        const NAMES: usize = 100;
        let annotations = self.annotations.as_ref().map_or(0, |raw| raw.0.len());
        let kind = self.artifact_type.as_ref().map_or(0, String::len);
        NAMES + self.media_type.len() + self.digest.len() + kind + annotations
    }
}
