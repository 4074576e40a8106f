//! The fields of a request for a token.

use hyper::{Response, StatusCode};

use super::service::SERVICE;
use crate::rails::respond::error;
use crate::registry::oci::RepoName;
use crate::registry::token::Scope;
use crate::serve::Body;

/// The fields of a query or a form.
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads them.
    pub fn read(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    /// Returns the first value of a field; nothing is empty.
    pub fn first(&self, name: &str) -> String {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// Returns the scopes that are asked for.
    pub fn asked(&self) -> Result<Vec<Scope>, Box<Response<Body>>> {
        let service = self.first("service");
        if service != SERVICE {
            let reason = format!("there is no service {service:?}; the registry is {SERVICE:?}");
            return Err(Box::new(error(StatusCode::NOT_FOUND, "UNAVAILABLE", &reason)));
        }
        let refused = |reason: &str| Box::new(error(StatusCode::BAD_REQUEST, "INVALID_SCOPE", reason));
        let scopes = self.0.iter().filter(|(key, _)| key == "scope");
        let scopes = Scope::parse_all(scopes.map(|(_, value)| value.as_str()));
        let scopes = scopes.map_err(|reason| refused(&reason.to_string()))?;
        // All below a repository may be asked for, too.
        let is_name = |name: &str| name.strip_suffix("/*").unwrap_or(name).parse::<RepoName>().is_ok();
        match scopes
            .iter()
            .find(|scope| scope.kind == "repository" && !is_name(&scope.name))
        {
            Some(scope) => Err(refused(&format!("no repository is named {:?}", scope.name))),
            None => Ok(scopes),
        }
    }
}
