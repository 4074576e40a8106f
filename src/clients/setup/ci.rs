//! A pipeline that logs in, builds and pushes.

use serde_json::json;

use super::client::{Client, Scene};
use super::pipeline;
use super::plan::{Plan, SetupError};

/// `kdk setup ci`.
pub struct Ci;

impl Client for Ci {
    fn name(&self) -> &'static str {
        "ci"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["pipeline"]
    }

    fn about(&self) -> &'static str {
        "a pipeline that builds and pushes, in .khulnasoft-ci.yml"
    }

    fn is_here(&self) -> bool {
        false
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let text = pipeline::yaml(&json!({
            "image": "docker:stable",
            "services": [pipeline::service(scene)],
            "stages": ["build"],
            "build": pipeline::build(scene),
        }))?;
        let plan = scene.of_jobs(Plan::text(text));
        Ok(if scene.has_own_certificate() {
            plan.note(pipeline::TRUST)
        } else {
            plan
        })
    }
}
