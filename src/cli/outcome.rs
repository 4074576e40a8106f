//! What became of services that were started.

use super::ui::{Tone, Ui, paint};
use crate::config::Config;
use crate::doctor::preflight;
use crate::services;
use crate::supervisor::client::Outcome;
use crate::supervisor::protocol::{JobStatus, StateName};

/// Says what became of services; and whether the registry serves as it is set to.
pub fn tell(ui: &Ui, config: &Config, outcome: &Outcome, wanted: &[(String, String)], silent: bool) -> bool {
    let mut registry_answers = false;
    for job in &outcome.jobs {
        let as_set = wanted.iter().find(|(name, _)| *name == job.name);
        let has_failed = outcome.failures.iter().any(|failure| failure.name == job.name);
        let Some((_, fingerprint)) = as_set.filter(|_| !has_failed) else {
            continue;
        };
        let current = *fingerprint == job.fingerprint;
        if !silent {
            ui.say(&format!("  {}", job_line(job)));
        }
        if !current && !silent {
            let remedy = if preflight::pending(config).is_empty() {
                format!("kdk restart {}", job.name)
            } else {
                "kdk reconfigure".to_owned()
            };
            ui.warn(&format!(
                "{} runs with older settings; apply the new ones with: {remedy}",
                job.name
            ));
        }
        registry_answers |= job.name == services::public_service(config) && job.state == StateName::Ready && current;
    }
    // Behind a front something else may answer.
    let has_failed = outcome
        .failures
        .iter()
        .any(|failure| failure.name == services::REGISTRY);
    registry_answers && !has_failed
}

fn job_line(job: &JobStatus) -> String {
    let pid = job.pid.map(|pid| format!("(process {pid})")).unwrap_or_default();
    format!(
        "{} {} {pid} {}",
        paint(Tone::Good, job.state.text()),
        job.name,
        paint(Tone::Faint, &job.address)
    )
}
