//! Clients that are told by flags and variables alone.

use super::client::{Client, Scene};
use super::plan::{Plan, SetupError};
use crate::clients::needs::{self, TOOLS};
use crate::sys;

const TOKEN: &str = "kdk token create --expires 8h";

/// `kdk setup generic`.
pub struct Generic;

impl Client for Generic {
    fn name(&self) -> &'static str {
        "generic"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["oras", "crane", "regctl", "helm", "cosign", "ko", "curl"]
    }

    fn about(&self) -> &'static str {
        "oras, crane, regctl, helm, cosign, ko, curl: flags and variables"
    }

    fn is_here(&self) -> bool {
        self.aliases()
            .iter()
            .any(|name| sys::process::find_program(name).is_some())
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        if !scene.config.registry_auth_enabled() {
            let plan = Plan::default().note("the registry asks nobody to log in (registry.auth_enabled is false)");
            return Ok(needs::of_tools(scene.config).into_iter().fold(plan, Plan::note));
        }
        let address = scene.address();
        let wanted = |name: &str| scene.asked == name || scene.asked == self.name();
        let mut lines = Vec::new();
        let is_own = scene.is_https() && scene.config.clients_see_own_certificate();
        if is_own {
            lines.push("eval \"$(kdk env)\"".to_owned());
        }
        let mut notes = Vec::new();
        let own = scene.config.root().registry_anchor();
        for tool in TOOLS.iter().filter(|tool| wanted(tool.program)) {
            let flag = needs::flag(scene.config, tool);
            let login = tool.login.replace("ADDRESS", &address);
            let login = login.replace("FLAG", flag.as_deref().unwrap_or_default());
            lines.push(format!("{TOKEN} | {}", login.trim_end()));
            if let Some(flag) = flag {
                notes.push(format!("{} takes plain HTTP with {flag}", tool.program));
            }
            if let Some(option) = tool.certificate.filter(|_| is_own) {
                let option = option.replace("FILE", own.as_str()).replace("ADDRESS", &address);
                notes.push(format!("{} without kdk env: {option}", tool.program));
            }
        }
        if wanted("curl") {
            let config = scene.config;
            let realm = if config.registry_is_elsewhere() {
                config.registry_token_realm()
            } else {
                format!("{}/jwt/auth", config.registry_url())
            };
            lines.push(format!(
                "curl -u \"khulnasoft-token:$({TOKEN})\" '{realm}?service=container_registry'"
            ));
            if is_own {
                notes.push(format!("curl without kdk env: --cacert {own}"));
            }
        }
        let plan = Plan::text(format!("{}\n", lines.join("\n")));
        let plan = notes.into_iter().fold(plan, Plan::note);
        Ok(scene.of_proxy(plan))
    }
}
