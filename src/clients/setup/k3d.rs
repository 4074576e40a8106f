//! k3d: containerd on the nodes of its k3s.

use super::client::{Client, Scene};
use super::kind::{config_map, on_node};
use super::plan::{Plan, SetupError};
use super::script::Script;

/// `kdk setup k3d`.
pub struct K3d;

/// Where k3s keeps what its containerd reads.
const DIRECTORY: &str = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d";

impl Client for K3d {
    fn name(&self) -> &'static str {
        "k3d"
    }

    fn about(&self) -> &'static str {
        "the nodes of a k3d cluster"
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let script = Script::new().line(
            "for node in $(k3d node list --no-headers </dev/null | awk '$2 == \"server\" || $2 == \"agent\" {print $1}'); do",
        );
        let script = on_node(scene, script, DIRECTORY)?.line("done");
        let text = config_map(scene, script)?.end();
        Ok(scene.of_proxy(Plan::text(text).note("run these lines with: kdk setup k3d | sh")))
    }
}
