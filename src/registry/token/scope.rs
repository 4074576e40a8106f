//! Scopes: what a token is asked for and grants (distribution, "Token scope").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Access to one resource, written `repository:a/b:pull,push`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// `repository` or `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name of the repository, or `catalog`.
    pub name: String,
    /// `pull`, `push`, `delete`, or `*` for all.
    #[serde(default, deserialize_with = "super::claims::null_as_default")]
    pub actions: Vec<String>,
    /// What limits it further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
}

/// Limits of a grant (GitLab, "Protected container tags").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Path of the project that the repository belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_path: Option<String>,
    /// Patterns of tags that must not be pushed or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_deny_access_patterns: Option<DenyPatterns>,
    /// Patterns of tags that, once there, stay as they are.
    #[serde(
        default,
        deserialize_with = "super::claims::null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub tag_immutable_patterns: Vec<String>,
}

/// Patterns of tags by what is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyPatterns {
    /// Must not be pushed.
    #[serde(default, deserialize_with = "super::claims::null_as_default")]
    pub push: Vec<String>,
    /// Must not be deleted.
    #[serde(default, deserialize_with = "super::claims::null_as_default")]
    pub delete: Vec<String>,
}

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope; one looks like repository:group/project:pull,push or registry:catalog:*")]
pub struct ScopeError(pub String);

impl Scope {
    /// Makes a scope on a repository.
    pub fn repository(name: &str, actions: &[&str]) -> Self {
        Self {
            kind: "repository".to_owned(),
            name: name.to_owned(),
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
            meta: None,
        }
    }

    /// Makes the scope that lists all repositories.
    pub fn catalog() -> Self {
        Self {
            kind: "registry".to_owned(),
            name: "catalog".to_owned(),
            actions: vec!["*".to_owned()],
            meta: None,
        }
    }

    /// Says whether this grant gives an action on a resource.
    pub fn grants(&self, kind: &str, name: &str, action: &str) -> bool {
        self.kind == kind && self.name == name && self.actions.iter().any(|given| given == action || given == "*")
    }

    /// Reads scopes as they come in a query: repeated, or joined by spaces.
    ///
    /// # Errors
    /// Names the first text that is no scope.
    pub fn parse_all<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Vec<Self>, ScopeError> {
        values
            .into_iter()
            .flat_map(str::split_whitespace)
            .map(str::parse)
            .collect()
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let error = || ScopeError(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(error)?;
        let (name, actions) = rest.rsplit_once(':').ok_or_else(error)?;
        // `repository(plugin)` carries a class, which no registry here uses.
        let kind = kind.split('(').next().unwrap_or_default();
        if kind.is_empty() || name.is_empty() {
            return Err(error());
        }
        let actions = actions
            .split(',')
            .filter(|action| !action.is_empty())
            .map(str::to_owned)
            .collect();
        Ok(Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            actions,
            meta: None,
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_round_trip() {
        let scopes = Scope::parse_all(["repository:a/b:pull,push registry:catalog:*"]).expect("valid");
        assert_eq!(scopes[0], Scope::repository("a/b", &["pull", "push"]));
        assert_eq!(scopes[1], Scope::catalog());
        assert_eq!(scopes[0].to_string(), "repository:a/b:pull,push");
        assert!(scopes[1].grants("registry", "catalog", "list"));
        assert!(!scopes[0].grants("repository", "a/b", "delete"));
    }

    #[test]
    fn what_is_no_scope_is_named() {
        assert_eq!("catalog".parse::<Scope>(), Err(ScopeError("catalog".into())));
        assert!("repository::pull".parse::<Scope>().is_err());
    }
}
