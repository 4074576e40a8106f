//! Auto DevOps: the service of its build job.

use serde_json::json;

use super::client::{Client, Scene};
use super::pipeline;
use super::plan::{Plan, SetupError};

/// `kdk setup autodevops`.
pub struct AutoDevOps;

impl Client for AutoDevOps {
    fn name(&self) -> &'static str {
        "autodevops"
    }

    fn about(&self) -> &'static str {
        "the build job of Auto DevOps, in .khulnasoft-ci.yml"
    }

    fn is_here(&self) -> bool {
        false
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        // Its build job runs where nobody mounts certificates: over HTTPS, too,
        // Docker is told not to look at them.
        let flags: Vec<String> = scene
            .names()
            .iter()
            .map(|name| format!("--insecure-registry={name}"))
            .collect();
        let text = pipeline::yaml(&json!({
            "include": [{"template": "Auto-DevOps.khulnasoft-ci.yml"}],
            "build": {"services": [{"name": "docker:stable-dind", "command": flags}]},
        }))?;
        let plan = scene.of_jobs(Plan::text(text));
        Ok(plan.note("for the cluster that runs the result: kdk setup minikube, kind, k3d or microk8s"))
    }
}
