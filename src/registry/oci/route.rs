//! Paths of the API, matched from the right: a repository may be named
//! `x/manifests`, so the left end decides nothing.

use percent_encoding::percent_decode_str;

use super::digest::{Digest, DigestError};
use super::gitlab_route::GitlabRoute;
use super::name::RepoName;
use super::reference::{Reference, ReferenceError};

/// A resource of the registry API (OCI distribution-spec, "Endpoints").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/`: answers that the process lives.
    Root,
    /// `/v2/`: the API's version check.
    Base,
    /// `/v2/_catalog`: repositories.
    Catalog,
    /// `/v2/<name>/tags/list`.
    Tags(RepoName),
    /// `/v2/<name>/manifests/<reference>`.
    Manifest(RepoName, Reference),
    /// `/v2/<name>/blobs/<digest>`.
    Blob(RepoName, Digest),
    /// `/v2/<name>/referrers/<digest>`.
    Referrers(RepoName, Digest),
    /// `/v2/<name>/blobs/uploads/`.
    Uploads(RepoName),
    /// `/v2/<name>/blobs/uploads/<id>`.
    Upload(RepoName, String),
    /// Below `/gitlab/v1/`.
    Gitlab(GitlabRoute),
}

/// Why a path is no resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// Nothing is there.
    NotFound,
    /// The resource is at this path (a slash too many or too few).
    Moved(String),
    /// A manifest's reference is neither tag nor digest.
    Reference(ReferenceError),
    /// A blob's digest is malformed.
    Digest(DigestError),
}

impl Route {
    /// Reads a request's path, still percent-encoded.
    ///
    /// # Errors
    /// When it names no resource.
    pub fn parse(path: &str) -> Result<Self, RouteError> {
        let decoded = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| RouteError::NotFound)?;
        let rest = match decoded.as_ref() {
            "/" => return Ok(Self::Root),
            "/v2" => return Err(RouteError::Moved("/v2/".to_owned())),
            "/v2/" => return Ok(Self::Base),
            "/v2/_catalog" => return Ok(Self::Catalog),
            other if other.starts_with("/gitlab/") => {
                return GitlabRoute::parse(other).map(Self::Gitlab).ok_or(RouteError::NotFound);
            }
            other => other.strip_prefix("/v2/").ok_or(RouteError::NotFound)?,
        };
        let parts: Vec<&str> = rest.split('/').collect();
        match parts.as_slice() {
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            [name @ .., "manifests", reference] if !reference.is_empty() => {
                let name = repository(name)?;
                Ok(Self::Manifest(name, reference.parse().map_err(RouteError::Reference)?))
            }
            [name @ .., "referrers", digest] if !digest.is_empty() => {
                let name = repository(name)?;
                Ok(Self::Referrers(name, digest.parse().map_err(RouteError::Digest)?))
            }
            [name @ .., "blobs", "uploads", ""] => Ok(Self::Uploads(repository(name)?)),
            [name @ .., "blobs", "uploads"] => {
                let name = repository(name)?;
                Err(RouteError::Moved(format!("/v2/{name}/blobs/uploads/")))
            }
            [name @ .., "blobs", "uploads", id] => Ok(Self::Upload(repository(name)?, (*id).to_owned())),
            [name @ .., "blobs", digest] if !digest.is_empty() => {
                let name = repository(name)?;
                Ok(Self::Blob(name, digest.parse().map_err(RouteError::Digest)?))
            }
            [.., ""] => {
                let shorter = decoded.trim_end_matches('/');
                match Self::parse(shorter) {
                    Ok(_) => Err(RouteError::Moved(shorter.to_owned())),
                    Err(_) => Err(RouteError::NotFound),
                }
            }
            _ => Err(RouteError::NotFound),
        }
    }

    /// Returns the methods that the resource understands.
    pub fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Gitlab(GitlabRoute::Repository(_)) => &["GET", "HEAD", "OPTIONS", "PATCH"],
            Self::Root | Self::Base | Self::Catalog | Self::Tags(_) | Self::Referrers(..) | Self::Gitlab(_) => {
                &["GET", "HEAD", "OPTIONS"]
            }
            Self::Manifest(..) => &["DELETE", "GET", "HEAD", "OPTIONS", "PUT"],
            Self::Blob(..) => &["DELETE", "GET", "HEAD", "OPTIONS"],
            Self::Uploads(_) => &["OPTIONS", "POST"],
            Self::Upload(..) => &["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"],
        }
    }

    /// Returns the resource's path with names for what varies.
    pub fn template(&self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Base => "/v2/",
            Self::Catalog => "/v2/_catalog",
            Self::Tags(_) => "/v2/{name}/tags/list",
            Self::Manifest(..) => "/v2/{name}/manifests/{reference}",
            Self::Blob(..) => "/v2/{name}/blobs/{digest}",
            Self::Referrers(..) => "/v2/{name}/referrers/{digest}",
            Self::Uploads(_) => "/v2/{name}/blobs/uploads/",
            Self::Upload(..) => "/v2/{name}/blobs/uploads/{uuid}",
            Self::Gitlab(route) => route.template(),
        }
    }

    /// Returns the repository that the resource belongs to.
    pub fn repository(&self) -> Option<&RepoName> {
        match self {
            Self::Root | Self::Base | Self::Catalog => None,
            Self::Gitlab(route) => route.repository(),
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Referrers(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _) => Some(name),
        }
    }

    /// Returns the resource's path.
    pub fn path(&self) -> String {
        match self {
            Self::Root => "/".to_owned(),
            Self::Base => "/v2/".to_owned(),
            Self::Catalog => "/v2/_catalog".to_owned(),
            Self::Tags(name) => format!("/v2/{name}/tags/list"),
            Self::Manifest(name, reference) => format!("/v2/{name}/manifests/{reference}"),
            Self::Blob(name, digest) => format!("/v2/{name}/blobs/{digest}"),
            Self::Referrers(name, digest) => format!("/v2/{name}/referrers/{digest}"),
            Self::Uploads(name) => format!("/v2/{name}/blobs/uploads/"),
            Self::Upload(name, id) => format!("/v2/{name}/blobs/uploads/{id}"),
            Self::Gitlab(route) => route.path(),
        }
    }
}

fn repository(parts: &[&str]) -> Result<RepoName, RouteError> {
    parts.join("/").parse().map_err(|_| RouteError::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn repositories_may_be_named_like_resources() {
        let route = Route::parse("/v2/x/manifests/manifests/latest").expect("a manifest");
        assert_eq!(route.repository().expect("named").as_str(), "x/manifests");
        let route = Route::parse(&format!("/v2/a/blobs/blobs/sha256%3A{HEX}")).expect("a blob");
        assert_eq!(route.repository().expect("named").as_str(), "a/blobs");
    }

    #[test]
    fn paths_that_lead_elsewhere_are_not_found() {
        for path in [
            "/v3/",
            "/v2/UPPER/tags/list",
            "/v2/../tags/list",
            "/v2/a%2F..%2Fb/tags/list",
            "/v2//manifests/x",
            "/v2/a%00/tags/list",
            "/v2/manifests/x",
        ] {
            assert_eq!(Route::parse(path), Err(RouteError::NotFound), "{path}");
        }
        assert_eq!(Route::parse("/v2"), Err(RouteError::Moved("/v2/".into())));
        assert_eq!(
            Route::parse("/v2/a/blobs/uploads"),
            Err(RouteError::Moved("/v2/a/blobs/uploads/".into()))
        );
        assert!(matches!(
            Route::parse("/v2/a/manifests/sha256:bad"),
            Err(RouteError::Reference(_))
        ));
        assert!(matches!(
            Route::parse("/v2/a/blobs/sha256:bad"),
            Err(RouteError::Digest(_))
        ));
    }

    proptest::proptest! {
        #[test]
        fn parsing_undoes_writing(name in "[a-z0-9]{1,4}(/(tags|list|blobs|manifests|uploads|referrers|[a-z]{1,3})){0,4}", tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}") {
            let name: RepoName = name.parse().expect("valid by construction");
            let digest: Digest = format!("sha256:{HEX}").parse().expect("valid");
            let tag = Reference::Tag(tag.parse().expect("valid by construction"));
            for route in [
                Route::Tags(name.clone()),
                Route::Manifest(name.clone(), tag.clone()),
                Route::Manifest(name.clone(), Reference::Digest(digest.clone())),
                Route::Blob(name.clone(), digest.clone()),
                Route::Referrers(name.clone(), digest.clone()),
                Route::Uploads(name.clone()),
                Route::Upload(name.clone(), "0f8fad5b-d9cb-469f-a165-70867728950e".into()),
                Route::Gitlab(GitlabRoute::Tags(name.clone())),
                Route::Gitlab(GitlabRoute::Below(name.clone())),
            ] {
                proptest::prop_assert_eq!(Route::parse(&route.path()), Ok(route));
            }
        }

        #[test]
        fn parsing_never_panics(path in "/(v2/)?[ -~]{0,60}") {
            let _ = Route::parse(&path);
        }
    }
}
