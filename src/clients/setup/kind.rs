//! kind: containerd on its nodes, and the ConfigMap that tells of a local
//! registry (KEP-1755).

use serde_json::json;

use super::client::{Client, Scene};
use super::containerd::hosts_toml;
use super::pipeline;
use super::plan::{Plan, SetupError};
use super::script::Script;
use crate::sys::shell::word;

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
        let script = Script::new().line("for node in $(kind get nodes </dev/null); do");
        let script = on_node(scene, script, "/etc/containerd/certs.d")?.line("done");
        Ok(scene.of_proxy(
            Plan::text(config_map(scene, script)?.end())
                .note("run these lines with: kdk setup kind | sh")
                .note("nodes read them where the cluster was made with containerdConfigPatches that set config_path = \"/etc/containerd/certs.d\" (the default since kind 0.27)"),
        ))
    }
}

/// Adds lines that let `$node` know the registry's names, and how to reach it.
pub fn on_node(scene: &Scene<'_>, script: Script, directory: &str) -> Result<Script, SetupError> {
    scene.check_reachable()?;
    let pem = scene.pem()?;
    let mut script = script;
    for (name, address) in scene.known_only_here() {
        let line = word(&format!(
            "grep -q ' {name}$' /etc/hosts || echo '{address} {name}' >>/etc/hosts"
        ));
        script = script.run(format!("docker exec \"$node\" sh -c {line}"));
    }
    for name in scene.names() {
        let text = hosts_toml(scene, &name, pem.is_some())?;
        let mut files = vec![("hosts.toml", text.as_str())];
        files.extend(pem.as_deref().map(|pem| ("ca.crt", pem)));
        script = script.files("docker exec -i \"$node\" ", &format!("{directory}/{name}"), &files);
    }
    Ok(script)
}

/// Adds the line that tells the cluster's tools of the registry: by which
/// address this machine, the nodes' runtime and pods reach it.
pub fn config_map(scene: &Scene<'_>, script: Script) -> Result<Script, SetupError> {
    let address = scene.address();
    let hosting = pipeline::yaml(&json!({
        "host": address,
        "hostFromContainerRuntime": address,
        // Pods do not read the nodes' hosts files.
        "hostFromClusterNetwork": scene.numeric_address().unwrap_or_else(|| address.clone()),
    }))?;
    let map = pipeline::yaml(&json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "local-registry-hosting", "namespace": "kube-public"},
        "data": {"localRegistryHosting.v1": hosting},
    }))?;
    Ok(script.feed("kubectl apply -f -", &map))
}
