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

use super::key::{Key, Prefix};
use crate::registry::oci::{Algorithm, Digest, RepoName, Tag};

const TOP: &str = "docker/registry/v2";

/// Says, where it exists, that the metadata are in a database: then there are
/// no links, and nothing here tells what is alive (GitLab's registry).
pub fn database_in_use() -> Key {
    Key::new("docker/registry/lockfiles/database-in-use".to_owned())
}

/// Says, where it exists, that the metadata are the links (GitLab's registry).
pub fn filesystem_in_use() -> Key {
    Key::new("docker/registry/lockfiles/filesystem-in-use".to_owned())
}

/// All that a registry keeps of images.
pub fn registry() -> Prefix {
    Prefix::new(TOP.to_owned())
}

/// Blobs of an algorithm.
pub fn blobs_of(algorithm: Algorithm) -> Prefix {
    blobs().below(algorithm.name())
}

fn of_digest(prefix: &Prefix, digest: &Digest) -> Prefix {
    Prefix::new(format!("{prefix}/{}/{}", digest.algorithm().name(), digest.hex()))
}

/// Directory of all repositories.
pub fn repositories() -> Prefix {
    Prefix::new(format!("{TOP}/repositories"))
}

/// Directory of all blobs.
pub fn blobs() -> Prefix {
    Prefix::new(format!("{TOP}/blobs"))
}

/// Directory of a blob.
pub fn blob(digest: &Digest) -> Prefix {
    let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
    Prefix::new(format!("{TOP}/blobs/{algorithm}/{}/{hex}", &hex[..2]))
}

/// Content of a blob.
pub fn blob_data(digest: &Digest) -> Key {
    blob(digest).key("data")
}

/// Directory of a repository, or of a group of them.
pub fn repository(name: &str) -> Prefix {
    Prefix::new(format!("{TOP}/repositories/{name}"))
}

/// Directory of the link that makes a blob part of a repository.
pub fn layer(name: &RepoName, digest: &Digest) -> Prefix {
    of_digest(&layers(name), digest)
}

/// Link that makes a blob part of a repository.
pub fn layer_link(name: &RepoName, digest: &Digest) -> Key {
    layer(name, digest).key("link")
}

/// Directory of a repository's manifests.
pub fn manifests(name: &str) -> Prefix {
    Prefix::new(format!("{TOP}/repositories/{name}/_manifests"))
}

/// Directory of a repository's revision links.
pub fn revisions(name: &RepoName) -> Prefix {
    Prefix::new(format!("{TOP}/repositories/{name}/_manifests/revisions"))
}

/// Directory of a repository's layer links.
pub fn layers(name: &RepoName) -> Prefix {
    Prefix::new(format!("{TOP}/repositories/{name}/_layers"))
}

/// Directory of the links to all that a tag once stood for, by the tag's own.
pub fn tag_index_in(tag: &Prefix) -> Prefix {
    tag.below("index")
}

/// Link to the manifest that a tag stands for, by the tag's directory.
pub fn tag_current_link_in(tag: &Prefix) -> Key {
    tag.below("current").key("link")
}

/// Link that every directory named after a digest has.
pub fn link_in(directory: &Prefix) -> Key {
    directory.key("link")
}

/// Directory of the link that makes a manifest part of a repository.
pub fn revision(name: &RepoName, digest: &Digest) -> Prefix {
    of_digest(&revisions(name), digest)
}

/// Link that makes a manifest part of a repository.
pub fn revision_link(name: &RepoName, digest: &Digest) -> Key {
    revision(name, digest).key("link")
}

/// Directory of a repository's tags.
pub fn tags(name: &RepoName) -> Prefix {
    Prefix::new(format!("{TOP}/repositories/{name}/_manifests/tags"))
}

/// Directory of a tag.
pub fn tag(name: &RepoName, tag: &Tag) -> Prefix {
    tags(name).below(tag.as_str())
}

/// Link to the manifest that a tag stands for.
pub fn tag_current_link(name: &RepoName, tag_name: &Tag) -> Key {
    tag_current_link_in(&tag(name, tag_name))
}

/// The same, by the tag's directory.
pub fn tag_index_link_in(tag: &Prefix, digest: &Digest) -> Key {
    of_digest(&tag_index_in(tag), digest).key("link")
}

/// Link that records that a tag once stood for a manifest.
pub fn tag_index_link(name: &RepoName, tag_name: &Tag, digest: &Digest) -> Key {
    tag_index_link_in(&tag(name, tag_name), digest)
}

/// Directory of a repository's unfinished uploads.
pub fn uploads(name: &str) -> Prefix {
    Prefix::new(format!("{TOP}/repositories/{name}/_uploads"))
}

/// Directory of an unfinished upload.
pub fn upload(name: &str, id: &str) -> Prefix {
    uploads(name).below(id)
}

/// Bytes of an unfinished upload.
pub fn upload_data(name: &str, id: &str) -> Key {
    upload(name, id).key("data")
}

/// When an upload was started (RFC 3339).
pub fn upload_started_at(name: &str, id: &str) -> Key {
    upload(name, id).key("startedat")
}
