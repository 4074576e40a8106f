//! Whether clients can get tokens at all.

use std::time::Duration;

use reqwest::StatusCode;

use crate::config::Config;
use crate::services::{self, RAILS};

/// How long a service may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why nobody can log in.
pub struct NoLogins {
    /// The reason, with what helps.
    pub reason: String,
    /// The service that is to be started anew, where it is one of kdk's.
    pub restart: Option<&'static str>,
}

/// Says why nobody can log in, when that is so.
pub fn impossible(config: &Config) -> Option<NoLogins> {
    let service = services::token_service(config)?;
    let by_registry = ask(&services::token_url(config));
    if by_registry.as_ref().is_ok_and(|status| is_token_service(*status)) {
        return None;
    }
    // The registry tells nobody why; from here it is seen as well.
    let reason = match (ask(&format!("{service}?service=container_registry")), by_registry) {
        (Ok(status), Err(error)) if is_token_service(status) => {
            let name = services::public_service(config);
            return Some(NoLogins {
                reason: format!(
                    "nobody can log in: {name} does not answer: {}; start it anew with: kdk restart {name}",
                    cause_of(&error)
                ),
                restart: Some(name),
            });
        }
        (Ok(status), Ok(_)) if is_token_service(status) => {
            "is not reached by the registry; see: kdk tail registry".to_owned()
        }
        (Ok(status), _) => format!("answers {status}"),
        // One that is far away may take longer than is waited for here.
        (Err(error), _) if error.is_timeout() && config.rails_mode() != "embedded" => return None,
        (Err(error), _) => format!("does not answer: {}", cause_of(&error)),
    };
    let restart = config.runs_rails().then_some(RAILS);
    let remedy = restart.map_or(String::new(), |name| format!("; start it with: kdk restart {name}"));
    Some(NoLogins {
        reason: format!("nobody can log in: the token service {service} {reason}{remedy}"),
        restart,
    })
}

/// Returns why a service did not answer.
pub fn cause_of(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Reads what a registry warns of (OCI distribution-spec 1.1, "Warnings").
pub fn warnings(answer: &reqwest::blocking::Response) -> Option<String> {
    let texts: Vec<&str> = answer
        .headers()
        .get_all(reqwest::header::WARNING)
        .iter()
        .filter_map(|value| value.to_str().ok()?.strip_prefix("299 - \"")?.strip_suffix('"'))
        .collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// Says whether one who may log in or not was told so: anything else comes from
/// another server at that address, or from one that is broken.
pub fn is_token_service(status: StatusCode) -> bool {
    status.is_success()
        || status.is_redirection()
        || [
            StatusCode::BAD_REQUEST,
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::TOO_MANY_REQUESTS,
        ]
        .contains(&status)
}

fn ask(url: &str) -> reqwest::Result<StatusCode> {
    Ok(get(url)?.status())
}

/// Gets a page of a service of this root, whatever certificate it has.
///
/// # Errors
/// When it does not answer within a second.
pub fn get(url: &str) -> reqwest::Result<reqwest::blocking::Response> {
    // Nothing is sent that an impostor could use.
    client()?.get(url).send()
}

/// How long what is far away may take.
const FAR: Duration = Duration::from_secs(5);

/// Gets a page of what runs elsewhere: it may be far away, and behind a proxy.
///
/// # Errors
/// When it does not answer within seconds.
pub fn get_far(url: &str) -> reqwest::Result<reqwest::blocking::Response> {
    far(url)?.get(url).send()
}

/// The same with a bearer token, which must grant nothing.
///
/// # Errors
/// When it does not answer within seconds.
pub fn get_with(url: &str, token: &str) -> reqwest::Result<reqwest::blocking::Response> {
    far(url)?.get(url).bearer_auth(token).send()
}

fn far(url: &str) -> reqwest::Result<reqwest::blocking::Client> {
    let is_local =
        url::Url::parse(url).is_ok_and(|url| url.host_str().is_some_and(crate::sys::net::is_loopback_literal));
    if is_local {
        return client();
    }
    reqwest::blocking::Client::builder()
        .timeout(FAR)
        .redirect(reqwest::redirect::Policy::none())
        // Nothing is sent that an impostor could use.
        .tls_danger_accept_invalid_certs(true)
        .build()
}

/// The same with a name and a password, which only this root's own services
/// may be sent.
///
/// # Errors
/// When it does not answer within a second.
pub fn get_as(url: &str, name: &str, password: &str) -> reqwest::Result<reqwest::blocking::Response> {
    client()?.get(url).basic_auth(name, Some(password)).send()
}

fn client() -> reqwest::Result<reqwest::blocking::Client> {
    reqwest::blocking::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(true)
        .build()
}
