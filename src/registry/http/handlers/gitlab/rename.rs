//! `PATCH /gitlab/v1/repositories/<path>/`: another path for a project's repositories.

use hyper::header::AUTHORIZATION;
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::json::time;
use crate::registry::auth::Asked;
use crate::registry::http::body::whole;
use crate::registry::http::context::Context;
use crate::registry::http::error::ApiError;
use crate::registry::http::respond;
use crate::registry::metadata::postgres::rename::{MOST, Renamed};
use crate::registry::oci::{ErrorCode, RepoName};
use crate::registry::token::Scope;
use crate::serve::Body;

/// Most bytes of a body.
const LIMIT: usize = 16 * 1024;

/// What is asked for: one of both.
#[derive(Debug, Default, Deserialize)]
struct Asking {
    /// The new last part of the path.
    #[serde(default, deserialize_with = "crate::registry::token::claims::null_as_default")]
    name: String,
    /// The new parts before it.
    #[serde(default, deserialize_with = "crate::registry::token::claims::null_as_default")]
    namespace: String,
}

/// Reads the new path of a repository.
fn destination(from: &RepoName, asking: &Asking) -> Result<RepoName, ApiError> {
    let invalid = |reason: &str| ApiError::new(ErrorCode::InvalidBodyParameter).detail(reason);
    let (before, last) = from.as_str().rsplit_once('/').unwrap_or(("", from.as_str()));
    let (parameter, path) = match (asking.name.as_str(), asking.namespace.as_str()) {
        ("", "") => return Err(invalid("name or namespace is needed")),
        (name, "") if before.is_empty() => ("name", name.to_owned()),
        (name, "") => ("name", format!("{before}/{name}")),
        ("", namespace) => ("namespace", format!("{namespace}/{last}")),
        _ => return Err(invalid("only one of name and namespace may be given")),
    };
    let to: Result<RepoName, _> = path.parse();
    let to = match to {
        Ok(to) if !(parameter == "name" && asking.name.contains('/')) => to,
        Ok(_) => return Err(wrong_form(parameter, "a name is one part of a path, without a slash")),
        Err(error) => return Err(wrong_form(parameter, &error.to_string())),
    };
    let top = |path: &RepoName| path.as_str().split('/').next().map(str::to_owned);
    if top(from) != top(&to) {
        return Err(invalid("top level namespaces can not be changed"));
    }
    if to.as_str().starts_with(&format!("{from}/")) {
        return Err(invalid("a repository cannot be moved below itself"));
    }
    Ok(to)
}

fn wrong_form(parameter: &str, reason: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidBodyParameterType).detail(json!({"parameter": parameter, "reason": reason}))
}

/// Checks that the token is for the project at this path.
fn check_project(context: &Context, name: &RepoName) -> Result<(), ApiError> {
    match &context.actor.project_path {
        _ if !context.shared.authorizer.has_claims() => Ok(()),
        None => Err(ApiError::new(ErrorCode::UnknownProjectPathClaim).detail("project path not found")),
        Some(path) if path == name.as_str() => Ok(()),
        Some(_) => Err(ApiError::new(ErrorCode::MismatchProjectPathClaim).detail(format!(
            "meta.project_path claim does not match requested repository path {name}"
        ))),
    }
}

async fn asked(context: &mut Context) -> Result<Asking, ApiError> {
    let invalid = |reason: String| ApiError::new(ErrorCode::InvalidJsonBody).detail(reason);
    let body = whole(context.request.body_mut(), LIMIT).await;
    let body = body.map_err(|error| invalid(error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))
}

/// Moves a project's repositories, or keeps the new path for them.
pub async fn rename(mut context: Context, name: &RepoName) -> Result<Response<Body>, ApiError> {
    check_project(&context, name)?;
    let dry_run = match context.query_one("dry_run").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            return Err(ApiError::new(ErrorCode::InvalidQueryParameterType)
                .detail(json!({"parameter": "dry_run", "reason": "must be true or false"})));
        }
    };
    let asking = asked(&mut context).await?;
    let to = destination(name, &asking)?;
    if !asking.namespace.is_empty() {
        // Whoever brings something into a namespace may push there.
        let asked = Asked {
            authorization: context.header(AUTHORIZATION),
            host: context.host(),
        };
        let needed = [Scope::repository(&format!("{}/*", asking.namespace), &["push"])];
        let shared = &context.shared;
        let checked = shared.authorizer.check(asked, &needed).await;
        checked.map_err(|refusal| context.refused(refusal))?;
    }
    let renamed = super::base::database(&context)?.rename(name, &to, dry_run).await;
    match renamed? {
        Renamed::Done => {
            let kind = if asking.namespace.is_empty() {
                "name"
            } else {
                "namespace"
            };
            context
                .notify_change("rename", name, |event| {
                    event.rename = Some([kind.to_owned(), name.to_string(), to.to_string()]);
                })
                .await;
            Ok(respond::empty(StatusCode::NO_CONTENT, &[]))
        }
        Renamed::Leased(until) => Ok(respond::json(StatusCode::ACCEPTED, &json!({"ttl": time(until)}))),
        Renamed::Unknown => Err(ApiError::new(ErrorCode::NameUnknown).detail(json!({"name": name.as_str()}))),
        Renamed::Taken => Err(ApiError::new(ErrorCode::RenameConflict)
            .detail(json!({"name": to.as_str(), "reason": "there are repositories at this path or below it"}))),
        Renamed::Kept(until) => Err(ApiError::new(ErrorCode::RenameConflict).detail(
            json!({"name": to.as_str(), "reason": format!("this path is reserved by another rename until {}", time(until))}),
        )),
        Renamed::TooMany => {
            Err(ApiError::new(ErrorCode::ExceedsLimits)
                .detail(format!("at most {MOST} repositories are renamed at once")))
        }
        Renamed::TooLong => Err(ApiError::new(ErrorCode::InvalidBodyParameter)
            .detail("a repository below it would have a path of more than 255 characters")),
        Renamed::NoLeases => Err(ApiError::new(ErrorCode::NotImplemented)
            .detail("the database's user may not make the schema kdk, where leases on paths are kept")),
    }
}
