//! A pull secret, and a Deployment that uses it.

use data_encoding::BASE64;
use serde_json::json;

use super::client::{Client, Scene};
use super::pipeline;
use super::plan::{Plan, SetupError};
use crate::sys;

/// `kdk setup kubernetes`.
pub struct Kubernetes;

/// The user that goes with a token.
const USER: &str = "khulnasoft-token";

impl Client for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn about(&self) -> &'static str {
        "a pull secret, and a Deployment that uses it"
    }

    fn is_here(&self) -> bool {
        sys::process::find_program("kubectl").is_some()
    }

    fn token_purpose(&self) -> Option<&'static str> {
        Some("kdk setup kubernetes")
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        const SECRET: &str = "kdk-registry";
        scene.check_reachable()?;
        let address = scene.address();
        let mut container = json!({"name": "my-image", "image": format!("{address}/my-image:latest")});
        let mut pod = json!({"containers": [container.take()]});
        let mut documents = Vec::new();
        if let Some(token) = scene.token {
            let auth = BASE64.encode(format!("{USER}:{token}").as_bytes());
            let mut logins = serde_json::Map::new();
            for name in scene.names() {
                logins.insert(name, json!({"username": USER, "password": token, "auth": auth}));
            }
            let login = json!({"auths": logins}).to_string();
            documents.push(json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": SECRET},
                "type": "kubernetes.io/dockerconfigjson",
                "data": {".dockerconfigjson": BASE64.encode(login.as_bytes())},
            }));
            pod["imagePullSecrets"] = json!([{"name": SECRET}]);
        }
        let labels = json!({"app": "my-image"});
        documents.push(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "my-image"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }));
        let texts: Vec<String> = documents.iter().map(pipeline::yaml).collect::<Result<_, _>>()?;
        let mut plan = Plan::text(texts.join("---\n")).note(
            "apply it with: kdk setup kubernetes | kubectl apply -f -; the secret counts in its own namespace, and an image is named in full",
        );
        if scene.token.is_some() {
            plan = plan.note("the token in it holds for 30 days; printing it again makes a new one, and ends this one");
        }
        if scene.has_own_certificate() || !scene.is_https() {
            plan = plan
                .note("nodes must know of the registry, too: kdk setup minikube, kind, k3d, microk8s or containerd");
        }
        Ok(scene.of_proxy(plan))
    }
}
