//! What should run, and whether it answers.

use super::finding::{Finding, Verdict};
use super::logins;
use super::scene::Scene;
use crate::services;
use crate::supervisor::client::ClientError;
use crate::supervisor::probe;
use crate::supervisor::protocol::{JobStatus, Ready, StateName};

/// Looks at the services.
pub fn check(scene: &Scene) -> Verdict {
    let jobs = match &scene.jobs {
        Ok(jobs) => jobs,
        Err(error @ ClientError::Silent(pid)) => {
            let mut found = Finding::problem("supervisor-silent", error.to_string())
                .why("nothing can be started or stopped")
                .suggest(&["kill"]);
            if let Some(pid) = pid {
                found = found.by_hand(format!("kill -CONT {pid}"));
            }
            return Verdict::Found(vec![found]);
        }
        Err(error) => return Verdict::Unknown(error.to_string()),
    };
    let mut found: Vec<Finding> = jobs.iter().filter_map(trouble).collect();
    if let Ok(config) = scene.config() {
        let is_down = |name: &str| jobs.iter().all(|job| job.name != name || job.state == StateName::Down);
        let down: Vec<String> = services::catalogue(config)
            .into_iter()
            .map(|spec| spec.name)
            .filter(|name| is_down(name))
            .collect();
        if !down.is_empty() {
            let names: Vec<&str> = down.iter().map(String::as_str).collect();
            let arguments = [&["start"], &*names].concat();
            found.push(
                Finding::problem("service-down", format!("not running: {}", down.join(", "))).mended_by(&arguments),
            );
        }
    }
    found.into()
}

fn trouble(job: &JobStatus) -> Option<Finding> {
    let name = &job.name;
    match job.state {
        StateName::Backoff | StateName::CrashLoop | StateName::Failed => {
            let text = format!("{name} {}: {}", job.state.text(), job.detail);
            return Some(Finding::problem("service-fails", text).suggest(&["tail", "--no-follow", name]));
        }
        state if !state.is_alive() => return None,
        _ => {}
    }
    let silent = || {
        Finding::problem("service-silent", format!("{name} does not answer within a second"))
            .mended_by(&["restart", name])
    };
    let url = match &job.ready {
        Ready::Running => return None,
        Ready::Http(url) => url,
        other => return (!probe::is_ready(other)).then(silent),
    };
    let Ok(answer) = logins::get(url) else {
        return Some(silent());
    };
    let status = answer.status();
    let text = match logins::warnings(&answer) {
        Some(warnings) => format!("{name}: {warnings}"),
        None if status.is_server_error() => format!("{name} answers {status}"),
        None => return None,
    };
    Some(Finding::problem("service-degraded", text).suggest(&["tail", "--no-follow", name]))
}
