//! What should run, and whether it answers.

use super::finding::{Finding, Verdict};
use super::logins;
use super::scene::Scene;
use crate::config::Config;
use crate::services::{self, Unready};
use crate::supervisor::client::ClientError;
use crate::supervisor::probe;
use crate::supervisor::protocol::{JobSpec, JobStatus, Ready, StateName};

/// How often a service is asked before it counts as silent.
const TRIES: u32 = 3;

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
        found.extend(
            services::catalogue(config)
                .iter()
                .filter_map(|spec| unready(config, spec)),
        );
        let is_down = |name: &str| jobs.iter().all(|job| job.name != name || job.state == StateName::Down);
        let down: Vec<String> = services::catalogue(config)
            .into_iter()
            .filter(|spec| is_down(&spec.name) && services::preflight(config, spec).is_ok())
            .map(|spec| spec.name)
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

/// Says why a service could not even be tried.
fn unready(config: &Config, spec: &JobSpec) -> Option<Finding> {
    let error = services::preflight(config, spec).err()?;
    let found = Finding::problem("service-unready", error.to_string());
    Some(match error {
        Unready::NoConfiguration { .. } => found.mended_by(&["reconfigure"]),
        Unready::NoProgram { log: Some(_), .. } => found
            .suggest(&["reconfigure"])
            .by_hand("or take the built-in one: kdk config set registry.version embedded && kdk reconfigure"),
        Unready::NoProgram { log: None, .. } => found.suggest(&["config", "unset", "registry.bin"]),
        Unready::NoDirectory { .. } => found.suggest(&["config", "set", "rails.dir", "DIRECTORY"]),
        Unready::NoImage { .. } | Unready::NotPulled { .. } => found.suggest(&["reconfigure"]),
        Unready::NoEngine { .. } | Unready::Engine { .. } => found.by_hand(
            "install or start it, or take the built-in registry: kdk config unset registry.image && kdk reconfigure",
        ),
        Unready::Unreadable { file, .. } => found.by_hand(format!("see who may read it: ls -l {file}")),
        Unready::Postgresql(_) => found.by_hand("kdk start postgresql says what helps"),
    })
}

fn trouble(job: &JobStatus) -> Option<Finding> {
    let name = &job.name;
    match job.state {
        StateName::Backoff | StateName::CrashLoop | StateName::Failed => {
            let text = format!("{name} {}: {}", job.state.text(), job.detail);
            return Some(Finding::problem("service-fails", text).suggest(&["tail", "--no-follow", name]));
        }
        // What is being started or stopped need not answer.
        StateName::Ready => {}
        _ => return None,
    }
    let silent = || {
        Finding::problem(
            "service-silent",
            format!("{name} does not answer within a second, asked {TRIES} times"),
        )
        .suggest(&["restart", name])
    };
    let url = match &job.ready {
        Ready::Running => return None,
        Ready::Http(url) => url,
        other => return (0..TRIES).all(|_| !probe::is_ready(other)).then(silent),
    };
    let Some(answer) = (0..TRIES).find_map(|_| logins::get(url).ok()) else {
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
