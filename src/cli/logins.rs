//! Whether clients can get tokens at all.

use std::time::Duration;

use reqwest::StatusCode;

use crate::config::Config;
use crate::services;

/// How long a service may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says why nobody can log in, when that is so.
pub fn impossible(config: &Config) -> Option<String> {
    let service = services::token_service(config)?;
    if ask(&services::token_url(config)).is_ok_and(is_token_service) {
        return None;
    }
    // The registry tells nobody why; from here it is seen as well.
    let reason = match ask(&service) {
        Err(error) => {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(next) = cause.source() {
                cause = next;
            }
            format!("does not answer: {cause}")
        }
        Ok(status) if is_token_service(status) => "is not reached by the registry; see: kdk tail registry".to_owned(),
        Ok(status) => format!("answers {status}"),
    };
    Some(format!("nobody can log in: the token service {service} {reason}"))
}

/// Says whether one who may log in or not was told so: anything else comes from
/// another server at that address, or from one that is broken.
fn is_token_service(status: StatusCode) -> bool {
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
    let client = reqwest::blocking::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        // Nothing is sent that an impostor could use.
        .tls_danger_accept_invalid_certs(true)
        .build()?;
    client.get(url).send()
}
