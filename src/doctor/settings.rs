//! `kdk.yml`, and whether it is applied.

use super::finding::{Finding, Verdict};
use super::preflight;
use super::scene::Scene;
use crate::config::ConfigError;
use crate::reconfigure::applied::Applied;
use crate::sys::shell::word;

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
            let copy = format!("cp {} {}", word(backup.as_str()), word(path.as_str()));
            return Verdict::Found(vec![found.by_hand(copy)]);
        }
        Err(ConfigError::Gone { path, backup: None }) => {
            let found = Finding::problem("settings-gone", format!("{path} is gone"));
            return Verdict::Found(vec![found.suggest(&["init", scene.root.path().as_str()])]);
        }
        Err(error) => {
            let found = Finding::problem("settings-invalid", error.to_string());
            return Verdict::Found(vec![found.suggest(&["config", "edit"])]);
        }
    };
    let applied = Applied::load(config);
    let later = applied.as_ref().and_then(Applied::later_kdk).map(|version| {
        Finding::warning(
            "later-kdk",
            format!(
                "this root's files were made by kdk {version}, and this is kdk {}",
                env!("CARGO_PKG_VERSION")
            ),
        )
        .why("what a later kdk wrote may mean something else to this one, or nothing")
        .by_hand(format!(
            "use kdk {version} or later here; or let this one write its own: kdk reconfigure"
        ))
    });
    let found = preflight::pending_settings(config).into_iter().map(|text| {
        if text.contains("would fail") {
            Finding::problem("settings-refused", text)
        } else if text.contains("changed by hand") {
            // What somebody wrote there would be overwritten.
            Finding::warning("file-edited", text)
                .suggest(&["diff-config"])
                .suggest(&["reconfigure"])
        } else {
            Finding::warning("settings-pending", text).mended_by(&["reconfigure"])
        }
    });
    later.into_iter().chain(found).collect::<Vec<_>>().into()
}
