//! `kdk status`: what runs.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::ui::Tone;
use crate::config::Config;
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
    /// Accepted for habit's sake: services that are down are shown anyway
    #[arg(long, short, hide = true)]
    all: bool,
}

/// Shows services. Works with a broken `kdk.yml` too: what runs is known without it.
pub fn run(session: &Session, args: &StatusArgs) -> Result<(), CommandError> {
    let root = session.root()?;
    let config = session
        .config()
        .inspect_err(|error| session.ui.warn(&error.message))
        .ok();
    let catalogue = match &config {
        Some(config) => services::pick(config, &args.services)?,
        None => Vec::new(),
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
    let (mut health, mut reasons): (Vec<&str>, Vec<Option<String>>) = jobs
        .iter()
        .map(|job| health(job, catalogue.iter().find(|spec| spec.name == job.name)))
        .unzip();
    for ((job, health), reason) in jobs.iter().zip(&mut health).zip(&mut reasons) {
        if config
            .as_ref()
            .is_some_and(|config| job.name == services::public_service(config))
            && *health == "ok"
            && let Some(why) = config.as_ref().and_then(why_no_logins)
        {
            *health = "no logins";
            *reason = Some(why);
        }
    }
    if args.json {
        let list: Vec<_> = jobs
            .iter()
            .zip(&health)
            .zip(&reasons)
            .map(|((job, health), reason)| {
                json!({
                    "name": job.name, "state": job.state, "detail": job.detail, "pid": job.pid, "uptime_seconds": job.uptime_seconds,
                    "restarts": job.restarts, "address": job.address, "health": health, "reason": reason,
                })
            })
            .collect();
        return session.ui.json(&list);
    }
    let rows: Vec<_> = jobs
        .iter()
        .zip(&health)
        .map(|(job, health)| {
            let health_tone = match *health {
                "ok" => Some(Tone::Good),
                "-" => Some(Tone::Faint),
                _ => Some(Tone::Bad),
            };
            vec![
                (job.name.clone(), Some(Tone::Strong)),
                (job.state.text().to_owned(), Some(tone(job.state))),
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
    for (job, reason) in jobs.iter().zip(&reasons) {
        // A reason is a sentence, which no column holds.
        let detail = Some(&job.detail).filter(|detail| !detail.is_empty());
        for reason in detail.into_iter().chain(reason) {
            session.ui.warn(&format!("{}: {reason}", job.name));
        }
    }
    Ok(())
}

/// Says why nobody can log in, when that is so.
fn why_no_logins(config: &Config) -> Option<String> {
    let service = services::token_service(config)?;
    match ask(&services::token_url(config)) {
        Ok(status) if !status.is_server_error() => return None,
        Ok(_) | Err(_) => {}
    }
    // The registry tells nobody why; from here it is seen as well.
    let reason = match ask(&service) {
        Err(error) => {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(next) = cause.source() {
                cause = next;
            }
            format!("does not answer: {cause}")
        }
        Ok(status) if status.is_server_error() => format!("answers {status}"),
        Ok(_) => "is not reached by the registry; see: kdk tail registry".to_owned(),
    };
    Some(format!("nobody can log in: the token service {service} {reason}"))
}

fn tone(state: StateName) -> Tone {
    match state {
        StateName::Ready => Tone::Good,
        StateName::Down => Tone::Faint,
        StateName::CrashLoop | StateName::Failed => Tone::Bad,
        StateName::Waiting | StateName::Starting | StateName::Stopping | StateName::Backoff => Tone::Odd,
    }
}

/// Asks a running service how it is; returns a word, and what more there is to say.
fn health(job: &JobStatus, spec: Option<&JobSpec>) -> (&'static str, Option<String>) {
    let Some(Ready::Http(url)) = spec.filter(|_| job.state.is_alive()).map(|spec| &spec.ready) else {
        return ("-", None);
    };
    let Ok(answer) = get(url) else {
        return ("no answer", None);
    };
    let is_unhealthy = answer.status().is_server_error();
    match (warnings(&answer), is_unhealthy) {
        (Some(warnings), is_unhealthy) => {
            let word = if is_unhealthy { "unhealthy" } else { "degraded" };
            (word, Some(format!("{warnings}; see: kdk tail {}", job.name)))
        }
        (None, true) => {
            let status = answer.status();
            (
                "unhealthy",
                Some(format!("answers {status}; see: kdk tail {}", job.name)),
            )
        }
        (None, false) => ("ok", None),
    }
}

/// Reads what a registry warns of (OCI distribution-spec 1.1, "Warnings").
fn warnings(answer: &reqwest::blocking::Response) -> Option<String> {
    let texts: Vec<&str> = answer
        .headers()
        .get_all(reqwest::header::WARNING)
        .iter()
        .filter_map(|value| value.to_str().ok()?.strip_prefix("299 - \"")?.strip_suffix('"'))
        .collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

fn ask(url: &str) -> reqwest::Result<reqwest::StatusCode> {
    Ok(get(url)?.status())
}

fn get(url: &str) -> reqwest::Result<reqwest::blocking::Response> {
    let client = reqwest::blocking::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        // Nothing is sent that an impostor could use.
        .tls_danger_accept_invalid_certs(true)
        .build()?;
    client.get(url).send()
}
