//! A registry that somebody else runs, with this root's Rails for its tokens.

use serde_json::json;

use super::client::{Client, Scene};
use super::pipeline;
use super::plan::{Plan, SetupError};

/// `kdk setup external-registry`.
pub struct ExternalRegistry;

impl Client for ExternalRegistry {
    fn name(&self) -> &'static str {
        "external-registry"
    }

    fn about(&self) -> &'static str {
        "another registry's config.yml, for tokens and notifications of this root"
    }

    fn is_here(&self) -> bool {
        false
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        const BUNDLE: &str = "/etc/docker/registry/kdk.crt";
        let config = scene.config;
        let pages = config.rails_url();
        let pages = pages.trim_end_matches('/');
        let mut token = json!({
            "auth": {"token": {
                "realm": format!("{pages}/jwt/auth"),
                "service": "container_registry",
                "issuer": config.registry_issuer(),
                "rootcertbundle": BUNDLE,
            }},
        });
        let secret = scene.secret.unwrap_or("the secret of this root's notifications");
        token["notifications"] = json!({"endpoints": [{
            "name": "khulnasoft",
            "url": format!("{pages}/api/v4/container_registry_event/events"),
            "headers": {"Authorization": [secret]},
            "timeout": "500ms",
            "threshold": 5,
            "backoff": "1s",
        }]});
        if config.rails_mode() != "embedded" {
            // To these a real KhulnaSoft answers 400.
            token["notifications"]["endpoints"][0]["ignore"] = json!({"actions": ["mount", "rename"]});
        }
        let mut plan = Plan::text(pipeline::yaml(&token)?).note(format!(
            "copy {} to that machine, as {BUNDLE}: the registry knows this root's tokens by it",
            config.registry_rootcertbundle()
        ));
        if scene.secret.is_none() {
            plan = plan.note(
                "the secret of notifications is printed in its place with: kdk setup external-registry --with-secret",
            );
        }
        if crate::clients::needs::leads_to_loopback(&config.hostname()) {
            plan = plan.note(format!(
                "{} leads to the loopback of whoever asks: clients elsewhere need another name, from: kdk config set hostname NAME",
                config.hostname()
            ));
        }
        if config.registry_is_elsewhere() {
            return Ok(plan);
        }
        Ok(plan.note(
            "then let this root use it: kdk config set registry.mode=external registry.api_url=URL && kdk reconfigure",
        ))
    }
}
