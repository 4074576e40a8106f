//! kind: containerd on its nodes, and the ConfigMap that tells of a local
//! registry (KEP-1755).

use serde_json::json;

use super::client::{Client, Scene};
use super::containerd::hosts_toml;
use super::pipeline;
use super::plan::{Plan, SetupError};

/// `kdk setup kind`.
pub struct Kind;

impl Client for Kind {
    fn name(&self) -> &'static str {
        "kind"
    }

    fn about(&self) -> &'static str {
        "the nodes of a kind cluster"
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let mut lines = vec!["set -eu".to_owned(), "for node in $(kind get nodes); do".to_owned()];
        lines.extend(on_node(scene)?);
        lines.push("done".to_owned());
        lines.push(config_map(scene)?);
        Ok(scene.of_proxy(
            Plan::text(lines.join("\n"))
                .note("run these lines with: kdk setup kind | sh")
                .note("nodes read them where the cluster was made with containerdConfigPatches that set config_path = \"/etc/containerd/certs.d\" (the default since kind 0.27)"),
        ))
    }
}

/// Returns the lines that put a registry's `hosts.toml` on `$node`.
pub fn on_node(scene: &Scene<'_>) -> Result<Vec<String>, SetupError> {
    let pem = scene.pem()?;
    let mut lines = Vec::new();
    for name in scene.names() {
        let directory = format!("/etc/containerd/certs.d/{name}");
        let text = hosts_toml(scene, &name, pem.as_ref().map(|_| format!("{directory}/ca.crt")))?;
        lines.push(format!("  docker exec \"$node\" mkdir -p {directory}"));
        let mut put = |file: &str, text: &str| {
            lines.push(format!(
                "  docker exec -i \"$node\" cp /dev/stdin {directory}/{file} <<'EOF'\n{}\nEOF",
                text.trim_end()
            ));
        };
        put("hosts.toml", &text);
        if let Some(pem) = &pem {
            put("ca.crt", pem);
        }
    }
    Ok(lines)
}

/// Returns the line that tells the cluster's tools of the registry: by which
/// address this machine, the nodes' runtime and pods reach it.
pub fn config_map(scene: &Scene<'_>) -> Result<String, SetupError> {
    let address = scene.address();
    let hosting = pipeline::yaml(&json!({
        "host": address,
        "hostFromContainerRuntime": address,
        "hostFromClusterNetwork": address,
    }))?;
    let map = pipeline::yaml(&json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "local-registry-hosting", "namespace": "kube-public"},
        "data": {"localRegistryHosting.v1": hosting},
    }))?;
    Ok(format!("kubectl apply -f - <<'EOF'\n{map}EOF\n"))
}
