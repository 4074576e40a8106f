//! BuildKit: `docker buildx` builders, and `buildkitd` by itself.

use super::client::{Client, Scene};
use super::edit::Edit;
use super::plan::{Plan, SetupError};
use super::toml::Toml;
use crate::sys;

/// `kdk setup buildkit`.
pub struct Buildkit;

impl Client for Buildkit {
    fn name(&self) -> &'static str {
        "buildkit"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["buildx"]
    }

    fn about(&self) -> &'static str {
        "docker buildx builders, and buildkitd"
    }

    fn is_here(&self) -> bool {
        let home = sys::env::home().unwrap_or_default();
        let plugin = "docker-buildx";
        let places = [
            home.join(".docker/cli-plugins"),
            "/usr/libexec/docker/cli-plugins".into(),
            "/usr/lib/docker/cli-plugins".into(),
        ];
        sys::process::find_program("buildkitd").is_some()
            || sys::process::find_program("buildctl").is_some()
            || places.iter().any(|place| place.join(plugin).exists())
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let mut toml = Toml::default();
        let pem = scene.pem()?;
        for name in scene.names() {
            let at = |key: &'static str| ["registry".to_owned(), name.clone(), key.to_owned()];
            let at = |key| at(key).each_ref().map(String::as_str).map(str::to_owned);
            if !scene.is_https() {
                for key in ["http", "insecure"] {
                    let place = at(key);
                    toml = toml.set(&place.each_ref().map(String::as_str), true);
                }
            } else if pem.is_some() {
                let place = at("ca");
                let file = scene.config.root().registry_anchor();
                toml = toml.add(&place.each_ref().map(String::as_str), vec![file.to_string()]);
            }
        }
        let own = scene.home().join(".docker/buildx/buildkitd.default.toml");
        let mut plan = Plan::default();
        if toml != Toml::default() {
            plan = plan.file(own.clone(), "buildx, for new builders", Edit::Toml(toml.clone()));
            // A buildkitd that runs by itself reads its own.
            let usual = if sys::process::user_id() == 0 {
                "/etc/buildkit/buildkitd.toml".into()
            } else {
                scene.home().join(".config/buildkit/buildkitd.toml")
            };
            if sys::process::find_program("buildkitd").is_some() {
                plan = plan.file(usual, "buildkitd", Edit::Toml(toml));
            }
        }
        if !plan.files.is_empty() {
            plan = plan.note(format!(
                "a builder takes it up when it is made: docker buildx create --name multi-arch-builder --driver-opt network=host --config {own}; buildkitd, when it is started"
            ));
        }
        if pem.is_some() {
            plan =
                plan.note("who builds fetches tokens by itself, and trusts the certificate after: eval \"$(kdk env)\"");
        }
        Ok(scene.of_proxy(plan))
    }
}
