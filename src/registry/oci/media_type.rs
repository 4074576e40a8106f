//! Media types of manifests, and the `Accept` header.

use std::borrow::Cow;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image manifest, schema 1, unsigned and signed; refused.
pub const DOCKER_SCHEMA1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// Returns a media type without its parameters, in lower case.
pub fn essence(header: &str) -> String {
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Returns the type of a stored manifest that this registry does not
/// understand, such as one of schema 1 that another registry left.
pub fn of_unknown(content: &[u8]) -> String {
    let tree: serde_json::Value = serde_json::from_slice(content).unwrap_or_default();
    match (tree["mediaType"].as_str(), tree["schemaVersion"].as_u64()) {
        (Some(named), _) => named.to_owned(),
        (None, Some(1)) => DOCKER_SCHEMA1[1].to_owned(),
        _ => "application/octet-stream".to_owned(),
    }
}

/// Says whether a type is a manifest's or an index's.
pub fn is_manifest(media_type: &str) -> bool {
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].contains(&media_type)
}

/// Says whether a layer's type says that it may not be distributed (OCI
/// image-spec 1.1, "Non-Distributable Layers"; Docker's foreign layers).
pub fn is_foreign(media_type: &str) -> bool {
    media_type == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        || media_type.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
}

/// Returns a media type without memory of its own, where it is a known one.
pub fn shared(name: String) -> Cow<'static, str> {
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST]
        .into_iter()
        .find(|known| *known == name)
        .map_or(Cow::Owned(name), Cow::Borrowed)
}

/// The media types a client takes, from all its `Accept` lines.
///
/// Quality values are ignored, as the Go registries do; `*/*` is no claim.
#[derive(Clone, Debug, Default)]
pub struct Accept(Vec<String>);

impl Accept {
    /// Reads `Accept` lines.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        Self(
            lines
                .into_iter()
                .flat_map(|line| line.split(','))
                .map(essence)
                .filter(|item| !item.is_empty())
                .collect(),
        )
    }

    /// Says whether a type is named.
    pub fn names(&self, media_type: &str) -> bool {
        self.0.iter().any(|item| item == media_type)
    }

    /// Says whether any manifest type is named; a client that names none takes whatever is stored.
    pub fn names_a_manifest(&self) -> bool {
        [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST]
            .iter()
            .any(|known| self.names(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_type_that_is_named_is_found(
            before in "[a-z/+;=0-9 ,.*]{0,30}",
            quality in proptest::option::of("0\\.[0-9]"),
            upper in proptest::bool::ANY,
        ) {
            let name = if upper { OCI_INDEX.to_uppercase() } else { OCI_INDEX.to_owned() };
            let parameter = quality.map_or(String::new(), |quality| format!(";q={quality}"));
            let lines = [before.clone(), format!("{before}, {name}{parameter} ,x/y")];
            let accept = Accept::parse(lines.iter().map(String::as_str));
            proptest::prop_assert!(accept.names(OCI_INDEX) && accept.names_a_manifest());
            proptest::prop_assert!(!Accept::parse([before.as_str(), "*/*"]).names(OCI_INDEX));
        }
    }
}
