//! Container scanning of what a pipeline built.

use serde_json::json;

use super::client::{Client, Scene};
use super::pipeline;
use super::plan::{Plan, SetupError};

/// `kdk setup scanning`.
pub struct Scanning;

impl Client for Scanning {
    fn name(&self) -> &'static str {
        "scanning"
    }

    fn about(&self) -> &'static str {
        "container scanning of what a pipeline built, in .khulnasoft-ci.yml"
    }

    fn is_here(&self) -> bool {
        false
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let (variables, note) = if !scene.is_https() {
            (
                json!({"CS_REGISTRY_INSECURE": "true"}),
                "analyzers before the renaming read REGISTRY_INSECURE instead",
            )
        } else if let Some(pem) = scene.pem()? {
            (
                json!({"ADDITIONAL_CA_CERT_BUNDLE": pem}),
                "without the certificate: CS_DOCKER_INSECURE: \"true\" in its place (DOCKER_INSECURE for analyzers before the renaming)",
            )
        } else {
            (
                json!({}),
                "the proxy's certificate goes into ADDITIONAL_CA_CERT_BUNDLE, unless it is one that everybody trusts",
            )
        };
        let text = pipeline::yaml(&json!({
            "include": {"template": "Container-Scanning.khulnasoft-ci.yml"},
            "image": "docker:stable",
            "services": [pipeline::service(scene)],
            "stages": ["build", "test"],
            "build": pipeline::build(scene),
            "container_scanning": {"variables": variables},
        }))?;
        Ok(Plan::text(text).note(note))
    }
}
