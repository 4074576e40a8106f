//! k3d: containerd on the nodes of its k3s.

use super::client::{Client, Scene};
use super::kind::{config_map, on_node};
use super::plan::{Plan, SetupError};

/// `kdk setup k3d`.
pub struct K3d;

impl Client for K3d {
    fn name(&self) -> &'static str {
        "k3d"
    }

    fn about(&self) -> &'static str {
        "the nodes of a k3d cluster"
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let mut lines = vec![
            "set -eu".to_owned(),
            "for node in $(k3d node list --no-headers | awk '$2 == \"server\" || $2 == \"agent\" {print $1}'); do"
                .to_owned(),
        ];
        // k3s keeps what its containerd reads elsewhere.
        let own = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d";
        lines.extend(
            on_node(scene)?
                .into_iter()
                .map(|line| line.replace("/etc/containerd/certs.d", own)),
        );
        lines.push("done".to_owned());
        lines.push(config_map(scene)?);
        Ok(scene.of_proxy(Plan::text(lines.join("\n")).note("run these lines with: kdk setup k3d | sh")))
    }
}
