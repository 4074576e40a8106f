//! What is said once services run: where they are, and what to do with them.

use std::time::Duration;

use super::Session;
use super::ui::{Tone, paint};
use crate::clients::hosts;
use crate::clients::shell::word;
use crate::clients::{self, Found};
use crate::config::Config;
use crate::doctor::logins;
use crate::root::Root;
use crate::services;
use crate::sys;
use crate::sys::net::Taker;

/// How long a registry may take to answer that it serves.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says where the registry is, which answers; but only by a name that leads to it.
pub fn announce(session: &Session, config: &Config) {
    let ui = &session.ui;
    let endpoint = services::public_endpoint(config);
    if endpoint.port != config.registry_port() {
        let at = sys::net::host_port(&config.registry_host(), endpoint.port);
        ui.warn(&format!(
            "the registry listens on {at}, not on registry.port of kdk.yml: its configuration file says port {}",
            endpoint.port
        ));
    } else if sys::net::resolve(&config.registry_host()).is_err() {
        ui.warn("the registry answers, but nobody finds it by its name:");
    } else if is_elsewhere(config, endpoint.port) {
        ui.warn(&format!(
            "the registry listens on {}, where its name {} does not lead; let it listen there with: kdk config set registry.listen_address {1} && kdk reconfigure",
            endpoint.host,
            config.registry_host()
        ));
    } else if let Some(trouble) = trouble(&endpoint.url("/v2/")) {
        ui.warn(&format!(
            "the registry does not serve: {} {trouble}; see: kdk status, and kdk tail --no-follow registry",
            config.registry_address()
        ));
    } else {
        ui.done(&format!(
            "A container registry is available at {}.",
            config.registry_address()
        ));
        let answer = logins::get(&endpoint.url("/v2/")).ok();
        let warnings = answer.as_ref().and_then(logins::warnings);
        let no_logins = logins::impossible(config).map(|no_logins| no_logins.reason);
        for trouble in warnings.into_iter().chain(no_logins) {
            ui.warn(&trouble);
        }
    }
    hosts::lacking(config).iter().for_each(|line| ui.warn(line));
}

/// Says whether the registry's name leads to addresses on which nobody listens.
fn is_elsewhere(config: &Config, port: u16) -> bool {
    // Behind a proxy the name is that one's.
    config.registry_external_url().is_none()
        && sys::net::resolve(&config.registry_host())
            .is_ok_and(|all| all.iter().all(|ip| sys::net::taker(*ip, port) == Taker::Nobody))
}

/// Says what keeps a registry that runs from serving, if anything does.
fn trouble(url: &str) -> Option<String> {
    let client = reqwest::blocking::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        // It is only asked whether it answers; nothing secret is sent.
        .tls_danger_accept_invalid_certs(true)
        .build()
        .ok()?;
    match client.get(url).send() {
        Ok(answer) if answer.status().is_server_error() => Some(format!("answers {}", answer.status())),
        Err(error) if error.is_timeout() => Some("does not answer".to_owned()),
        _ => None,
    }
}

/// Says in three lines how to log in, push and look; and what a client needs
/// besides, where these lines alone would fail. `logged_in` is who is logged in
/// already.
pub fn next(session: &Session, config: &Config, logged_in: Option<Found>) {
    let ui = &session.ui;
    let kdk = command_name(config.root());
    if !config.registry_enabled() {
        if config.runs_rails() {
            ui.say(&format!(
                "  Look    {}",
                paint(Tone::Name, &services::rails_url(config))
            ));
        }
        ui.tip("enable the container registry with: kdk config set registry.enabled true && kdk reconfigure");
        return;
    }
    let client = logged_in.or_else(clients::preferred).unwrap_or(Found::Docker);
    let address = services::public_address(config);
    let needs = clients::needs::of(config, client);
    let log_in = match (config.registry_auth_enabled(), logged_in) {
        (false, _) => "not needed".to_owned(),
        (true, Some(client)) => format!("done, with {client}"),
        (true, None) if config.rails_mode() == "embedded" => format!("{kdk} login"),
        (true, None) => format!(
            "{client} login {address}, with a token made there: {}",
            config.rails_url()
        ),
    };
    let flag = if client == Found::Podman && !needs.is_empty() && !clients::needs::is_https(config) {
        "--tls-verify=false "
    } else {
        ""
    };
    let push = format!("{client} push {flag}{address}/my-image");
    let look = services::rails_url(config);
    for (what, how) in [("Log in", log_in), ("Push", push), ("Look", look)] {
        ui.say(&format!("  {} {how}", paint(Tone::Strong, &format!("{what:7}"))));
    }
    for need in needs {
        ui.tip(&need);
    }
}

/// Returns how this kdk is called from here: by its name where that finds
/// it, with the root where that is not found by itself.
pub fn command_name(root: &Root) -> String {
    let exe = sys::env::current_exe().unwrap_or_else(|_| "kdk".into());
    let on_path = sys::process::find_program("kdk").and_then(|found| found.canonicalize_utf8().ok());
    let name = if on_path == exe.canonicalize_utf8().ok() && on_path.is_some() {
        "kdk".to_owned()
    } else {
        word(exe.as_str())
    };
    let here = sys::env::current_dir()
        .ok()
        .and_then(|here| here.canonicalize_utf8().ok());
    let inside = here.is_some_and(|here| here.starts_with(root.path()));
    if inside {
        name
    } else {
        format!("{name} --root {}", word(root.path().as_str()))
    }
}
