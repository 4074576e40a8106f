//! What jobs of a pipeline have in common.

use serde_json::{Value, json};

use super::client::Scene;
use super::plan::SetupError;

/// Writes YAML.
///
/// # Errors
/// Never for what is planned here.
pub fn yaml(value: &Value) -> Result<String, SetupError> {
    serde_yaml::to_string(value).map_err(|error| std::io::Error::other(error).into())
}

/// Returns the service in which jobs build: Docker in Docker, told of plain
/// HTTP where the registry speaks it.
pub fn service(scene: &Scene<'_>) -> Value {
    if scene.is_https() {
        return json!("docker:stable-dind");
    }
    let flags: Vec<String> = scene
        .names()
        .iter()
        .map(|name| format!("--insecure-registry={name}"))
        .collect();
    json!({"name": "docker:stable-dind", "command": flags})
}

/// Returns the job that logs in, builds and pushes.
pub fn build(scene: &Scene<'_>) -> Value {
    const IMAGE: &str = "$CI_REGISTRY_IMAGE/$CI_COMMIT_REF_SLUG:$CI_COMMIT_SHA";
    let mut script = Vec::new();
    if scene.config.registry_auth_enabled() {
        script.push(
            "echo \"$CI_REGISTRY_PASSWORD\" | docker login -u \"$CI_REGISTRY_USER\" --password-stdin \"$CI_REGISTRY\""
                .to_owned(),
        );
    }
    script.push(format!("docker pull {IMAGE} || true"));
    script.push(format!("docker build -t {IMAGE} ."));
    script.push(format!("docker push {IMAGE}"));
    json!({"stage": "build", "variables": {"DOCKER_TLS_CERTDIR": ""}, "script": script})
}

/// What a person must know of a pipeline's nested Docker over HTTPS.
pub const TRUST: &str =
    "the nested Docker trusts the registry's certificate once the runner mounts it: kdk setup runner --apply";
