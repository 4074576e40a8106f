//! minikube: the Docker in its machine.

use super::client::{Client, Scene};
use super::plan::{Plan, SetupError};

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
        let Some(pem) = scene.pem()? else {
            if scene.is_https() {
                return Ok(scene.of_proxy(Plan::default()));
            }
            let flags: Vec<String> = scene
                .names()
                .iter()
                .map(|name| format!("--insecure-registry={name}"))
                .collect();
            return Ok(Plan::text(format!("minikube start {}\n", flags.join(" ")))
                .note("the flag counts when a cluster is made: minikube delete goes before, where there is one"));
        };
        let mut lines = vec!["set -eu".to_owned()];
        for name in scene.names() {
            let directory = format!("/etc/docker/certs.d/{name}");
            lines.push(format!("minikube ssh -- sudo mkdir -p {directory}"));
            lines.push(format!(
                "minikube ssh -- 'sudo tee {directory}/ca.crt >/dev/null' <<'EOF'\n{}\nEOF",
                pem.trim_end()
            ));
        }
        lines.push("minikube ssh -- sudo systemctl restart docker\n".to_owned());
        Ok(Plan::text(lines.join("\n")).note("run these lines with: kdk setup minikube | sh"))
    }
}
