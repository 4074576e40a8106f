//! Whether the logins that clients hold still count.

use data_encoding::BASE64;
use reqwest::StatusCode;
use serde_json::Value;

use super::finding::Finding;
use super::logins;
use super::scene::Scene;
use crate::clients::Found;
use crate::config::Config;
use crate::services;
use crate::sys::fs::read_optional;

/// Says which logins at this root's registry are refused.
pub fn refused(scene: &Scene, config: &Config, clients: &[Found]) -> Vec<Finding> {
    // A password goes to nobody but this root's own services.
    if config.rails_mode() != "embedded"
        || !config.registry_auth_enabled()
        || scene.running(services::RAILS).is_none()
        || scene.running(services::public_service(config)).is_none()
        || services::public_endpoint(config).port != config.registry_port()
    {
        return Vec::new();
    }
    let address = config.registry_address();
    let url = services::token_url(config);
    let mut found = Vec::new();
    for client in clients {
        let Some((name, password)) = held(*client, &address) else {
            continue;
        };
        let answer = logins::get_as(&url, &name, &password);
        if answer.is_ok_and(|answer| [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status())) {
            found.push(
                Finding::warning(
                    "login-refused",
                    format!("{client}'s login to {address} does not count any more"),
                )
                .why("its token was revoked, or has expired")
                .suggest(&["login", "--client", client.program()]),
            );
        }
    }
    found
}

/// Returns the name and the password that a client has for an address, where
/// its file holds them itself.
fn held(client: Found, address: &str) -> Option<(String, String)> {
    let text = read_optional(&client.login_file()).ok()??;
    let file: Value = serde_json::from_str(&text).ok()?;
    let encoded = file["auths"][address]["auth"].as_str()?;
    let decoded = String::from_utf8(BASE64.decode(encoded.as_bytes()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
