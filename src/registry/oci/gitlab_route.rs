//! Paths of GitLab's own API, which needs a metadata database.

use super::name::RepoName;
use super::reference::Tag;

/// A resource of GitLab's API (container registry, "API: GitLab V1").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GitlabRoute {
    /// `/gitlab/v1/`: whether there is such an API.
    Base,
    /// `/gitlab/v1/repositories/<path>/`.
    Repository(RepoName),
    /// `/gitlab/v1/repositories/<path>/tags/list/`.
    Tags(RepoName),
    /// `/gitlab/v1/repositories/<path>/tags/detail/<tag>/`.
    Tag(RepoName, Tag),
    /// `/gitlab/v1/repository-paths/<path>/repositories/list/`.
    Below(RepoName),
    /// `/gitlab/v1/statistics/`.
    Statistics,
}

impl GitlabRoute {
    /// Reads a decoded path; a slash at its end may be missing.
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/gitlab/v1")?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let rest = rest.trim_matches('/');
        let name = |parts: &[&str]| parts.join("/").parse::<RepoName>().ok();
        let parts: Vec<&str> = rest.split('/').collect();
        match parts.as_slice() {
            [""] => Some(Self::Base),
            ["statistics"] => Some(Self::Statistics),
            ["repositories", path @ .., "tags", "list"] => Some(Self::Tags(name(path)?)),
            ["repositories", path @ .., "tags", "detail", tag] => Some(Self::Tag(name(path)?, tag.parse().ok()?)),
            ["repositories", path @ ..] => Some(Self::Repository(name(path)?)),
            ["repository-paths", path @ .., "repositories", "list"] => Some(Self::Below(name(path)?)),
            _ => None,
        }
    }

    /// Returns the resource's path with names for what varies.
    pub fn template(&self) -> &'static str {
        match self {
            Self::Base => "/gitlab/v1/",
            Self::Repository(_) => "/gitlab/v1/repositories/{path}/",
            Self::Tags(_) => "/gitlab/v1/repositories/{path}/tags/list/",
            Self::Tag(..) => "/gitlab/v1/repositories/{path}/tags/detail/{tag}/",
            Self::Below(_) => "/gitlab/v1/repository-paths/{path}/repositories/list/",
            Self::Statistics => "/gitlab/v1/statistics/",
        }
    }

    /// Returns the resource's path.
    pub fn path(&self) -> String {
        match self {
            Self::Base => "/gitlab/v1/".to_owned(),
            Self::Repository(path) => format!("/gitlab/v1/repositories/{path}/"),
            Self::Tags(path) => format!("/gitlab/v1/repositories/{path}/tags/list/"),
            Self::Tag(path, tag) => format!("/gitlab/v1/repositories/{path}/tags/detail/{tag}/"),
            Self::Below(path) => format!("/gitlab/v1/repository-paths/{path}/repositories/list/"),
            Self::Statistics => "/gitlab/v1/statistics/".to_owned(),
        }
    }

    /// Returns the repository that the resource belongs to.
    pub fn repository(&self) -> Option<&RepoName> {
        match self {
            Self::Base | Self::Statistics => None,
            Self::Repository(path) | Self::Tags(path) | Self::Tag(path, _) | Self::Below(path) => Some(path),
        }
    }
}
