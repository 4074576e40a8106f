//! Docker in Docker: the service of a job.

use serde_json::json;

use super::client::{Client, Scene};
use super::pipeline;
use super::plan::{Plan, SetupError};

/// `kdk setup dind`.
pub struct Dind;

impl Client for Dind {
    fn name(&self) -> &'static str {
        "dind"
    }

    fn about(&self) -> &'static str {
        "Docker in Docker, as a job's service in .khulnasoft-ci.yml"
    }

    fn is_here(&self) -> bool {
        false
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let text = pipeline::yaml(&json!({"services": [pipeline::service(scene)]}))?;
        let plan = scene.of_jobs(Plan::text(text));
        Ok(if scene.has_own_certificate() {
            plan.note(pipeline::TRUST)
        } else {
            plan
        })
    }
}
