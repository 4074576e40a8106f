//! What of `kdk.yml` has yet to be applied.

use camino::Utf8Path;

use super::applied::Applied;
use super::{Plan, ReconfigureError, plan};
use crate::certs::Verdict;
use crate::config::Config;
use crate::sys::clock::Clock;

/// Says what of `kdk.yml` was changed and is not applied yet, and why it cannot
/// be: `check` judges a plan that changes something.
pub fn pending(config: &Config, check: impl FnOnce(&Plan) -> Result<(), ReconfigureError>) -> Vec<String> {
    let (mut found, plan) = settings(config, check);
    found.extend(plan.map(|plan| certificates(config, plan)).unwrap_or_default());
    found
}

/// Says so of the settings; returns also the plan, where there is one to go by.
pub fn settings(
    config: &Config,
    check: impl FnOnce(&Plan) -> Result<(), ReconfigureError>,
) -> (Vec<String>, Option<Plan>) {
    let mut found = Vec::new();
    if crate::services::source::is_pending(config) {
        let version = config.registry_version();
        found.push(format!(
            "registry.version {version} was not built yet; build it with: kdk reconfigure"
        ));
    }
    let planned = plan(config, Clock::System.now()).and_then(|plan| {
        if plan.outdated() {
            check(&plan)?;
        }
        Ok(plan)
    });
    let plan = match planned {
        Ok(plan) => plan,
        Err(error) => {
            found.push(format!("kdk reconfigure would fail: {error}"));
            return (found, None);
        }
    };
    let applied = Applied::load(config);
    let edited = applied
        .as_ref()
        .map(|applied| applied.edited(&plan))
        .unwrap_or_default();
    if let Some(was) = applied.as_ref().and_then(|applied| applied.elsewhere(config)) {
        found.push(moved(config, was));
        return (found, None);
    }
    for path in &edited {
        let name = config.root().relative(path);
        found.push(format!("{name} was changed by hand; kdk reconfigure writes it anew"));
    }
    if plan.outdated() && (edited.is_empty() || applied.is_some_and(|applied| !applied.changes(config).is_empty())) {
        found.push("kdk.yml was changed since the last reconfigure; apply it with: kdk reconfigure".to_owned());
    }
    (found, Some(plan))
}

fn certificates(config: &Config, plan: Plan) -> Vec<String> {
    let mut found = Vec::new();
    for pair in plan.pairs {
        let name = config.root().relative(&pair.wanted.certificate).to_string();
        match pair.verdict {
            Verdict::Renew(reason) => found.push(format!("{name}: {reason}; renew it with: kdk reconfigure")),
            Verdict::Complain(reason) => found.push(format!(
                "{name}: {reason}; it was not made by kdk: if that is not meant, {}",
                pair.wanted.remedy()
            )),
            Verdict::Useless(reason) => found.push(format!(
                "{name}: {reason}: clients refuse it; it was not made by kdk: {}",
                pair.wanted.remedy()
            )),
            Verdict::Keep | Verdict::Make => {}
        }
    }
    found
}

/// Says that a root's files name the place where it was before.
pub fn moved(config: &Config, was: &Utf8Path) -> String {
    format!(
        "this root was moved or copied from {was} to {}, and its files still name the old place; render them anew with: kdk reconfigure",
        config.root().path()
    )
}
