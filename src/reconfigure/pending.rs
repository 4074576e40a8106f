//! What of `kdk.yml` has yet to be applied.

use super::plan;
use crate::config::Config;
use crate::sys::clock::Clock;

/// Says what of `kdk.yml` was changed and is not applied yet.
pub fn pending(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if crate::services::source::is_pending(config) {
        let version = config.registry_version();
        found.push(format!(
            "registry.version {version} was not built yet; build it with: kdk reconfigure"
        ));
    }
    if plan(config, Clock::System.now()).is_ok_and(|plan| plan.outdated()) {
        found.push("kdk.yml was changed since the last reconfigure; apply it with: kdk reconfigure".to_owned());
    }
    found
}
