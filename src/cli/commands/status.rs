//! `kdk status`: what runs.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::ui::Tone;
use crate::services;
use crate::supervisor::protocol::{JobSpec, JobStatus, Ready, StateName};
use crate::sys::clock::human_duration;

/// How long a service may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// Arguments of `kdk status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Services to show (default: all)
    services: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows services. Works with a broken `kdk.yml` too: what runs is known without it.
pub fn run(session: &Session, args: &StatusArgs) -> Result<(), CommandError> {
    let root = session.root()?;
    let catalogue = match session.config() {
        Ok(config) => services::pick(&config, &args.services)?,
        Err(error) => {
            session.ui.warn(&error.message);
            Vec::new()
        }
    };
    let mut jobs = services::supervisor(&root).status()?;
    for spec in &catalogue {
        if !jobs.iter().any(|job| job.name == spec.name) {
            jobs.push(JobStatus::down(spec));
        }
    }
    let wanted: Vec<&str> = args.services.iter().map(|name| services::canonical(name)).collect();
    // A service that is neither enabled nor running is nobody's concern.
    jobs.retain(|job| {
        let enabled = catalogue.is_empty() || catalogue.iter().any(|spec| spec.name == job.name);
        (wanted.is_empty() || wanted.contains(&job.name.as_str())) && (enabled || job.state != StateName::Down)
    });
    for job in &mut jobs {
        match catalogue.iter().find(|spec| spec.name == job.name) {
            Some(spec) if job.state == StateName::Down => *job = JobStatus::down(spec),
            // Names may change without a restart.
            Some(spec) if spec.fingerprint == job.fingerprint => job.address.clone_from(&spec.address),
            _ => {}
        }
    }
    jobs.sort_by(|a, b| a.name.cmp(&b.name));
    let health: Vec<&str> = jobs
        .iter()
        .map(|job| health(job, catalogue.iter().find(|spec| spec.name == job.name)))
        .collect();
    if args.json {
        let list: Vec<_> = jobs
            .iter()
            .zip(&health)
            .map(|(job, health)| {
                json!({
                    "name": job.name, "state": job.state, "detail": job.detail, "pid": job.pid, "uptime_seconds": job.uptime_seconds,
                    "restarts": job.restarts, "address": job.address, "health": health,
                })
            })
            .collect();
        return session.ui.json(&list);
    }
    let rows: Vec<_> = jobs
        .iter()
        .zip(&health)
        .map(|(job, health)| {
            let state = if job.detail.is_empty() {
                job.state.text().to_owned()
            } else {
                format!("{} ({})", job.state.text(), job.detail)
            };
            let health_tone = match *health {
                "ok" => Some(Tone::Good),
                "-" => Some(Tone::Faint),
                _ => Some(Tone::Bad),
            };
            vec![
                (job.name.clone(), Some(Tone::Strong)),
                (state, Some(tone(job.state))),
                (job.pid.map_or("-".to_owned(), |pid| pid.to_string()), None),
                (job.uptime_seconds.map_or("-".to_owned(), human_duration), None),
                (job.restarts.to_string(), (job.restarts > 0).then_some(Tone::Odd)),
                ((*health).to_owned(), health_tone),
                (job.address.clone(), Some(Tone::Name)),
            ]
        })
        .collect();
    session.ui.table(
        &["SERVICE", "STATE", "PID", "UPTIME", "RESTARTS", "HEALTH", "ADDRESS"],
        &rows,
    );
    Ok(())
}

fn tone(state: StateName) -> Tone {
    match state {
        StateName::Ready => Tone::Good,
        StateName::Down => Tone::Faint,
        StateName::CrashLoop | StateName::Failed => Tone::Bad,
        StateName::Waiting | StateName::Starting | StateName::Stopping | StateName::Backoff => Tone::Odd,
    }
}

/// Asks a running service how it is.
fn health(job: &JobStatus, spec: Option<&JobSpec>) -> &'static str {
    let Some(Ready::Http(url)) = spec.filter(|_| job.state.is_alive()).map(|spec| &spec.ready) else {
        return "-";
    };
    let client = reqwest::blocking::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        // Nothing is sent that an impostor could use.
        .tls_danger_accept_invalid_certs(true)
        .build();
    match client.and_then(|client| client.get(url).send()) {
        Ok(answer) if answer.status().is_server_error() => "unhealthy",
        Ok(_) => "ok",
        Err(_) => "no answer",
    }
}
