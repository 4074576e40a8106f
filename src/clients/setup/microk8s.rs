//! MicroK8s: its containerd pulls from this registry; and its own registry
//! takes pushes on port 32000.

use std::process::Command;

use serde_json::Value;

use super::client::{Client, Scene};
use super::containerd::hosts_toml;
use super::plan::{Plan, SetupError};
use super::script::Script;
use crate::sys;

/// `kdk setup microk8s`.
pub struct Microk8s;

const DIRECTORY: &str = "/var/snap/microk8s/current/args/certs.d";

impl Client for Microk8s {
    fn name(&self) -> &'static str {
        "microk8s"
    }

    fn about(&self) -> &'static str {
        "MicroK8s, by itself or in a Multipass machine"
    }

    fn is_here(&self) -> bool {
        ["microk8s", "multipass"]
            .iter()
            .any(|program| sys::process::find_program(program).is_some())
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let machine = machine();
        if machine.is_some() {
            scene.check_reachable()?;
        }
        // On this machine itself, or in the machine that holds it.
        let inside = if machine.is_some() {
            "multipass exec microk8s-vm -- "
        } else {
            ""
        };
        let pem = scene.pem()?;
        let mut script = Script::new();
        for name in scene.names() {
            let text = hosts_toml(scene, &name, pem.is_some())?;
            let mut files = vec![("hosts.toml", text.as_str())];
            files.extend(pem.as_deref().map(|pem| ("ca.crt", pem)));
            script = script.files(&format!("{inside}sudo "), &format!("{DIRECTORY}/{name}"), &files);
        }
        let own = machine.map_or_else(|| "localhost:32000".to_owned(), |address| format!("{address}:32000"));
        Ok(scene.of_proxy(
            Plan::text(script.end())
                .note("run these lines with: kdk setup microk8s | sh")
                .note(format!(
                    "MicroK8s's own registry takes pushes at {own} once Docker holds it among insecure-registries; pods name it localhost:32000"
                ))
                .note("that registry's version: microk8s kubectl set image deployment/registry -n container-registry registry=registry:2.8.3 && microk8s kubectl rollout restart deployment/registry -n container-registry"),
        ))
    }
}

/// Returns the address of the Multipass machine that holds MicroK8s.
fn machine() -> Option<String> {
    let program = sys::process::find_program("multipass")?;
    let output = Command::new(program)
        .args(["info", "microk8s-vm", "--format", "json"])
        .output()
        .ok()?;
    address(&serde_json::from_slice(&output.stdout).ok()?)
}

fn address(info: &Value) -> Option<String> {
    Some(info["info"]["microk8s-vm"]["ipv4"].get(0)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_address_is_read() {
        let info = serde_json::json!({"errors": [], "info": {"microk8s-vm": {"ipv4": ["192.168.64.1", "10.1.254.64"], "state": "Running"}}});
        assert_eq!(address(&info).as_deref(), Some("192.168.64.1"));
        assert_eq!(address(&serde_json::json!({"errors": []})), None);
    }
}
