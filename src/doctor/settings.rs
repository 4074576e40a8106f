//! `kdk.yml`, and whether it is applied.

use super::finding::{Finding, Verdict};
use super::preflight;
use super::scene::Scene;
use crate::config::ConfigError;

/// Looks at the settings.
pub fn check(scene: &Scene) -> Verdict {
    let config = match &scene.settings {
        Ok(config) => config,
        Err(ConfigError::Problems(problems)) => {
            let found = problems.iter().map(|problem| {
                Finding::problem("settings-invalid", problem.to_string())
                    .why("no setting is used while one is wrong")
                    .suggest(&["config", "edit"])
            });
            return Verdict::Found(found.collect());
        }
        Err(ConfigError::Gone {
            path,
            backup: Some(backup),
        }) => {
            let found = Finding::problem("settings-gone", format!("{path} is gone"));
            return Verdict::Found(vec![found.by_hand(format!("cp {backup} {path}"))]);
        }
        Err(error) => {
            let found = Finding::problem("settings-invalid", error.to_string());
            return Verdict::Found(vec![found.suggest(&["config", "edit"])]);
        }
    };
    let found = preflight::pending_settings(config).into_iter().map(|text| {
        if text.contains("would fail") {
            Finding::problem("settings-refused", text)
        } else {
            Finding::warning("settings-pending", text).mended_by(&["reconfigure"])
        }
    });
    found.collect::<Vec<_>>().into()
}
