//! Dockers whose files are not this machine's: docker-machine, Rancher Desktop,
//! an engine on another machine.

use serde_json::json;

use super::client::Scene;
use super::pipeline;
use super::plan::{Plan, SetupError};
use super::script::Script;
use crate::sys::shell::word;

/// Plans lines for a docker-machine.
///
/// # Errors
/// When something is missing that must be there before.
pub fn machine(scene: &Scene<'_>, name: &str) -> Result<Plan, SetupError> {
    scene.check_reachable()?;
    let mut script = Script::new();
    let ssh = format!("docker-machine ssh {} ", word(name));
    if let Some(pem) = scene.pem()? {
        for registry in scene.names() {
            let directory = format!("/etc/docker/certs.d/{registry}");
            script = script.files(&format!("{ssh}sudo "), &directory, &[("ca.crt", &pem)]);
        }
    } else if !scene.is_https() {
        for registry in scene.names() {
            let extra = format!("EXTRA_ARGS=\"$EXTRA_ARGS --insecure-registry {registry}\"");
            let profile = "/var/lib/boot2docker/profile";
            let line = format!(
                "sudo grep -qF {} {profile} || sudo tee -a {profile} >/dev/null",
                word(&registry)
            );
            script = script.feed(&format!("{ssh}{}", word(&line)), &extra);
        }
        script = script.run(format!("docker-machine restart {}", word(name)));
    }
    Ok(Plan::text(script.end())
        .note(format!("docker talks to the docker-machine {name}: run these lines with: kdk setup docker | sh"))
        .note(format!(
            "in the hosts file, the registry's names lead to the address of: docker-machine ip {}",
            word(name)
        ))
        .note("for the Docker of this machine instead: unset DOCKER_CERT_PATH DOCKER_HOST DOCKER_MACHINE_NAME DOCKER_TLS_VERIFY"))
}

/// Plans a provisioning script for Rancher Desktop's machine.
///
/// # Errors
/// When something is missing that must be there before.
pub fn rancher(scene: &Scene<'_>) -> Result<Plan, SetupError> {
    scene.check_reachable()?;
    let mut script = Script::new();
    if let Some(pem) = scene.pem()? {
        for registry in scene.names() {
            let directory = format!("/etc/docker/certs.d/{registry}");
            script = script.files("", &directory, &[("ca.crt", &pem)]);
        }
    } else if !scene.is_https() {
        let names = json!(scene.names());
        // What is there already stays.
        let add = format!(". + {{\"insecure-registries\": ((.[\"insecure-registries\"] // []) + {names} | unique)}}");
        script = script
            .line("file=/etc/docker/daemon.json")
            .line("mkdir -p /etc/docker && { [ -s \"$file\" ] || echo '{}' >\"$file\"; }")
            .line(format!(
                "jq {} \"$file\" >\"$file.new\" && mv \"$file.new\" \"$file\"",
                word(&add)
            ));
    }
    let script = format!("#!/bin/sh\n{}", script.end());
    let text = pipeline::yaml(&json!({"provision": [{"mode": "system", "script": script}]}))?;
    let place = if cfg!(target_os = "macos") {
        "~/Library/Application Support/rancher-desktop/lima/_config/override.yaml"
    } else {
        "~/.local/share/rancher-desktop/lima/_config/override.yaml"
    };
    Ok(Plan::text(text).note(format!(
        "docker talks to Rancher Desktop: add this to {place}, beside what is there, and restart Rancher Desktop"
    )))
}

/// Plans what is to be in the files of another machine.
///
/// # Errors
/// When something is missing that must be there before.
pub fn remote(scene: &Scene<'_>, host: &str) -> Result<Plan, SetupError> {
    scene.check_reachable()?;
    let (text, place) = if let Some(pem) = scene.pem()? {
        let directories: Vec<String> = scene
            .names()
            .iter()
            .map(|name| format!("/etc/docker/certs.d/{name}/ca.crt"))
            .collect();
        (pem, directories.join(" and "))
    } else if scene.is_https() {
        return Ok(Plan::default());
    } else {
        let text = serde_json::to_string_pretty(&json!({"insecure-registries": scene.names()})).unwrap_or_default();
        (format!("{text}\n"), "/etc/docker/daemon.json".to_owned())
    };
    Ok(Plan::text(text).note(format!(
        "docker talks to {host}: this goes into {place} of that machine"
    )))
}
