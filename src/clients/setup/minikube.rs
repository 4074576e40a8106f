//! minikube: the Docker in its machine.

use super::client::{Client, Scene};
use super::plan::{Plan, SetupError};
use super::script::Script;
use crate::sys::shell::word;

/// `kdk setup minikube`.
pub struct Minikube;

impl Client for Minikube {
    fn name(&self) -> &'static str {
        "minikube"
    }

    fn about(&self) -> &'static str {
        "the Docker of minikube's machine"
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        scene.check_reachable()?;
        let Some(pem) = scene.pem()? else {
            if scene.is_https() {
                return Ok(scene.of_proxy(Plan::default()));
            }
            let flags: Vec<String> = scene
                .names()
                .iter()
                .map(|name| format!("--insecure-registry={}", word(name)))
                .collect();
            return Ok(Plan::text(format!("minikube start {}\n", flags.join(" ")))
                .note("the flag counts when a cluster is made: minikube delete goes before, where there is one"));
        };
        let mut script = Script::new();
        for (name, address) in scene.known_only_here() {
            script = script.feed(
                "minikube ssh -- 'sudo tee -a /etc/hosts >/dev/null'",
                &format!("{address} {name}"),
            );
        }
        for name in scene.names() {
            let directory = format!("/etc/docker/certs.d/{name}");
            script = script
                .run(format!("minikube ssh -- sudo mkdir -p {}", word(&directory)))
                .feed(
                    &format!("minikube ssh -- 'sudo tee {directory}/ca.crt >/dev/null'"),
                    &pem,
                );
        }
        let script = script.run("minikube ssh -- sudo systemctl restart docker");
        Ok(Plan::text(script.end()).note("run these lines with: kdk setup minikube | sh"))
    }
}
