//! Whether the registry and KhulnaSoft say the same of what they share: the
//! issuer, the service, the notifications' secret, and the time.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::blocking::Client;
use serde_json::Value;

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use crate::config::Config;
use crate::services;
use crate::sys::clock::Clock;
use crate::sys::fs::read_optional;

/// How long a service may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Seconds by which clocks may differ: a token counts for minutes.
const SKEW: i64 = 60;

/// Compares the rendered files, and asks both services.
pub fn check(scene: &Scene) -> Verdict {
    let config = match scene.registry() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let root = config.root();
    let read = |path| -> Option<Value> { serde_yaml::from_str(&read_optional(path).ok()??).ok() };
    let (Some(registry), Some(rails)) = (read(&root.registry_config()), read(&config.khulnasoft_yml())) else {
        return Verdict::Skipped("nothing was applied yet".to_owned());
    };
    let mut found = files(&registry, &rails);
    if scene.running(services::public_service(config)).is_some() {
        found.extend(notifications(config, &registry));
        found.extend(clocks(config));
        found.extend(proxy(config));
    } else if found.is_empty() {
        return Verdict::Skipped("the registry does not run, and nobody could be asked".to_owned());
    }
    found.into()
}

/// Compares what both files say.
fn files(registry: &Value, rails: &Value) -> Vec<Finding> {
    let rails = &rails["production"]["registry"];
    let token = &registry["auth"]["token"];
    let mut found = Vec::new();
    let mut differ = |id, what: &str, ours: &Value, theirs: &Value, why| {
        if let (Some(ours), Some(theirs)) = (ours.as_str(), theirs.as_str())
            && ours != theirs
        {
            let evidence = match id {
                // Neither is anybody's business.
                "secrets-differ" => format!("registry/config.yml and khulnasoft.yml have different {what}"),
                _ => format!("registry/config.yml says {what} {ours}, and khulnasoft.yml says {theirs}"),
            };
            found.push(Finding::problem(id, evidence).why(why).mended_by(&["reconfigure"]));
        }
    };
    differ(
        "issuer-differs",
        "issuer",
        &token["issuer"],
        &rails["issuer"],
        "the registry takes no token of another issuer",
    );
    let endpoints = registry["notifications"]["endpoints"].as_array();
    let own = endpoints.and_then(|all| {
        let is_own = |endpoint: &&Value| {
            let url = endpoint["url"].as_str().unwrap_or_default();
            url.ends_with("/container_registry_event/events")
        };
        all.iter().find(is_own)
    });
    if let Some(own) = own {
        differ(
            "secrets-differ",
            "secrets of notifications",
            &own["headers"]["Authorization"][0],
            &rails["notification_secret"],
            "KhulnaSoft refuses the registry's notifications",
        );
    }
    found
}

fn client() -> Option<Client> {
    // Certificates are looked at by another check.
    Client::builder()
        .timeout(PATIENCE)
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .build()
        .ok()
}

/// Sends an envelope with nothing in it where the registry sends its own.
fn notifications(config: &Config, registry: &Value) -> Option<Finding> {
    if !config.registry_notifications_enabled() {
        return None;
    }
    let endpoints = registry["notifications"]["endpoints"].as_array()?;
    // Others' endpoints, and their secrets, are nobody's business here.
    let is_own = |url: &str| url.ends_with("/container_registry_event/events");
    let endpoint = endpoints
        .iter()
        .find(|endpoint| endpoint["disabled"] != true && endpoint["url"].as_str().is_some_and(is_own))?;
    let url = endpoint["url"].as_str()?;
    let mut request = client()?
        .post(url)
        .header("Content-Type", "application/vnd.docker.distribution.events.v1+json")
        .body(r#"{"events":[]}"#);
    if let Some(secret) = endpoint["headers"]["Authorization"][0].as_str() {
        request = request.header("Authorization", secret);
    }
    let status = request.send().ok()?.status();
    (status == 401 || status == 403).then(|| {
        Finding::problem(
            "notifications-refused",
            format!("{url} answers {status} to the registry's notifications"),
        )
        .why("its secret is not the receiver's: storage usage and events are missing there")
        .suggest(&["config", "set", "registry.notification_secret", "SECRET"])
        .suggest(&["reconfigure"])
    })
}

/// Compares the token service's clock with this machine's.
fn clocks(config: &Config) -> Option<Finding> {
    let answer = client()?.get(services::token_service(config)?).send().ok()?;
    let date = answer.headers().get("date")?.to_str().ok()?;
    let there: Timestamp = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let skew = there.as_second() - Clock::System.now().as_second();
    (skew.abs() > SKEW).then(|| {
        let (amount, word) = (skew.abs(), if skew > 0 { "ahead of" } else { "behind" });
        Finding::problem(
            "clock-skew",
            format!("the token service's clock is {amount} seconds {word} this machine's"),
        )
        .why("tokens count for minutes: they are refused as too old, or as not valid yet")
        .by_hand("set both clocks by NTP, such as with: timedatectl set-ntp true")
    })
}

/// Looks at what a proxy before the registry leaves of an answer.
fn proxy(config: &Config) -> Option<Finding> {
    let url = config.registry_external_url()?;
    let answer = client()?
        .get(format!("{}/v2/", url.trim_end_matches('/')))
        .send()
        .ok()?;
    let has = |name: &str| answer.headers().contains_key(name);
    let lacks = match answer.status().as_u16() {
        200 | 401 if !has("docker-distribution-api-version") => "Docker-Distribution-Api-Version",
        401 if !has("www-authenticate") => "WWW-Authenticate",
        200 | 401 => return None,
        status => {
            return Some(
                Finding::problem(
                    "proxy-answers",
                    format!("{url}/v2/ is answered {status}, not by the registry"),
                )
                .suggest(&["setup", "nginx"]),
            );
        }
    };
    Some(
        Finding::problem(
            "proxy-drops-headers",
            format!("the proxy at {url} drops the header {lacks}"),
        )
        .why("clients neither recognise the registry nor learn where to log in")
        .suggest(&["setup", "nginx"]),
    )
}
