//! Where things lie: distribution's path layout, version 2.
//!
//! ```text
//! docker/registry/v2/
//!   blobs/<alg>/<2 hex>/<hex>/data
//!   repositories/<name>/
//!     _layers/<alg>/<hex>/link
//!     _manifests/revisions/<alg>/<hex>/link
//!     _manifests/tags/<tag>/current/link
//!     _manifests/tags/<tag>/index/<alg>/<hex>/link
//!     _uploads/<id>/{data,startedat,digest-state}
//! ```

use crate::registry::oci::{Digest, RepoName, Tag};

const TOP: &str = "docker/registry/v2";

/// Says, where it exists, that the metadata are in a database: then there are
/// no links, and nothing here tells what is alive (GitLab's registry).
pub fn database_in_use() -> String {
    "docker/registry/lockfiles/database-in-use".to_owned()
}

/// Says, where it exists, that the metadata are the links (GitLab's registry).
pub fn filesystem_in_use() -> String {
    "docker/registry/lockfiles/filesystem-in-use".to_owned()
}

/// Directory of all repositories.
pub fn repositories() -> String {
    format!("{TOP}/repositories")
}

/// Directory of all blobs.
pub fn blobs() -> String {
    format!("{TOP}/blobs")
}

/// Directory of a blob.
pub fn blob(digest: &Digest) -> String {
    let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
    format!("{TOP}/blobs/{algorithm}/{}/{hex}", &hex[..2])
}

/// Content of a blob.
pub fn blob_data(digest: &Digest) -> String {
    format!("{}/data", blob(digest))
}

/// Directory of a repository, or of a group of them.
pub fn repository(name: &str) -> String {
    format!("{TOP}/repositories/{name}")
}

/// Directory of the link that makes a blob part of a repository.
pub fn layer(name: &RepoName, digest: &Digest) -> String {
    format!("{}/{}/{}", layers(name), digest.algorithm().name(), digest.hex())
}

/// Link that makes a blob part of a repository.
pub fn layer_link(name: &RepoName, digest: &Digest) -> String {
    format!("{}/link", layer(name, digest))
}

/// Directory of a repository's manifests.
pub fn manifests(name: &str) -> String {
    format!("{}/_manifests", repository(name))
}

/// Directory of a repository's revision links.
pub fn revisions(name: &RepoName) -> String {
    format!("{}/revisions", manifests(name.as_str()))
}

/// Directory of a repository's layer links.
pub fn layers(name: &RepoName) -> String {
    format!("{}/_layers", repository(name.as_str()))
}

/// Directory of the links to all that a tag once stood for.
pub fn tag_index(name: &RepoName, tag_name: &Tag) -> String {
    format!("{}/index", tag(name, tag_name))
}

/// Directory of the link that makes a manifest part of a repository.
pub fn revision(name: &RepoName, digest: &Digest) -> String {
    format!("{}/{}/{}", revisions(name), digest.algorithm().name(), digest.hex())
}

/// Link that makes a manifest part of a repository.
pub fn revision_link(name: &RepoName, digest: &Digest) -> String {
    format!("{}/link", revision(name, digest))
}

/// Directory of a repository's tags.
pub fn tags(name: &RepoName) -> String {
    format!("{}/tags", manifests(name.as_str()))
}

/// Directory of a tag.
pub fn tag(name: &RepoName, tag: &Tag) -> String {
    format!("{}/{tag}", tags(name))
}

/// Link to the manifest that a tag stands for.
pub fn tag_current_link(name: &RepoName, tag_name: &Tag) -> String {
    format!("{}/current/link", tag(name, tag_name))
}

/// Link that records that a tag once stood for a manifest.
pub fn tag_index_link(name: &RepoName, tag_name: &Tag, digest: &Digest) -> String {
    format!(
        "{}/index/{}/{}/link",
        tag(name, tag_name),
        digest.algorithm().name(),
        digest.hex()
    )
}

/// Directory of a repository's unfinished uploads.
pub fn uploads(name: &str) -> String {
    format!("{}/_uploads", repository(name))
}

/// Directory of an unfinished upload.
pub fn upload(name: &RepoName, id: &str) -> String {
    format!("{}/{id}", uploads(name.as_str()))
}

/// Bytes of an unfinished upload.
pub fn upload_data(name: &RepoName, id: &str) -> String {
    format!("{}/data", upload(name, id))
}

/// When an upload was started (RFC 3339).
pub fn upload_started_at(name: &RepoName, id: &str) -> String {
    format!("{}/startedat", upload(name, id))
}

/// Running digest of an unfinished upload; only this registry reads it.
pub fn upload_digest_state(name: &RepoName, id: &str) -> String {
    format!("{}/digest-state", upload(name, id))
}
