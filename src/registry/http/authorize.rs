//! What a request takes: a method, a scope.

use hyper::header::HeaderValue;
use hyper::{Method, Response};

use super::context::Context;
use super::row::{Needs, Row, When};
use super::shared::Shared;
use crate::registry::oci::RepoName;
use crate::registry::token::Scope;
use crate::serve::Body;
use crate::serve::route::{Params, Route};

/// Returns the methods that a resource takes now.
pub fn allowed(shared: &Shared, route: &Route<Row>) -> Vec<&'static str> {
    const NAMES: [(Method, &str); 5] = [
        (Method::DELETE, "DELETE"),
        (Method::GET, "GET"),
        (Method::PATCH, "PATCH"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
    ];
    let mut methods = vec!["OPTIONS"];
    for (method, row) in route.methods() {
        let is_refused = row.when == When::Deletion && !shared.config.storage.delete
            || shared.is_readonly() && *method != Method::GET;
        if is_refused {
            continue;
        }
        methods.extend(NAMES.iter().find(|(known, _)| known == method).map(|(_, name)| name));
        if *method == Method::GET {
            methods.push("HEAD");
        }
    }
    methods.sort_unstable();
    methods
}

/// Names the methods that a resource takes.
pub fn allow(response: &mut Response<Body>, methods: &[&str]) {
    if let Ok(value) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(hyper::header::ALLOW, value);
    }
}

/// Returns what an action takes.
pub fn required_scopes(row: &Row, params: &Params, context: &Context) -> Vec<Scope> {
    let name = params.long().unwrap_or_default();
    let mut scopes = match row.needs {
        Needs::Login => Vec::new(),
        Needs::Registry(name) => vec![Scope {
            kind: "registry".to_owned(),
            name: name.to_owned(),
            ..Scope::catalog()
        }],
        Needs::Repository(actions) => vec![Scope::repository(name, actions)],
    };
    if let Some(also) = row.also {
        scopes.extend(also(context, name));
    }
    scopes
}

/// What is below a path may be looked at, too.
pub fn descendants(_: &Context, name: &str) -> Vec<Scope> {
    vec![Scope::repository(&format!("{name}/*"), &["pull"])]
}

/// The same, where a size is asked for that counts it.
pub fn descendants_if_asked(context: &Context, name: &str) -> Vec<Scope> {
    let is_asked = context.query_one("size").as_deref() == Some("self_with_descendants");
    if is_asked {
        descendants(context, name)
    } else {
        Vec::new()
    }
}

/// The repository that a blob is mounted from may be pulled from.
pub fn mount_source(context: &Context, name: &str) -> Vec<Scope> {
    let from = context.query_one("mount").and_then(|_| context.query_one("from"));
    let from = from.filter(|from| from != name && from.parse::<RepoName>().is_ok());
    from.map(|from| Scope::repository(&from, &["pull"]))
        .into_iter()
        .collect()
}
