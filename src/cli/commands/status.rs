//! `kdk status`: what runs.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::Session;
use crate::cli::error::{CommandError, USER};
use crate::cli::failures;
use crate::cli::ui::{Tone, paint};
use crate::config::Config;
use crate::doctor::finding::Finding;
use crate::doctor::{elsewhere, logins, preflight};
use crate::reconfigure::exposure;
use crate::root::Root;
use crate::services::origin::{self, Origin};
use crate::services::{self, NameError, RAILS, REGISTRY};
use crate::supervisor::probe;
use crate::supervisor::protocol::{JobSpec, JobStatus, Ready, StateName};
use crate::sys::clock::{Clock, human_duration};

/// Arguments of `kdk status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Services to show (default: all)
    services: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show it again every two seconds, until Ctrl-C
    #[arg(long, short, conflicts_with = "json")]
    watch: bool,
    /// Accepted for habit's sake: services that are down are shown anyway
    #[arg(long, short, hide = true)]
    all: bool,
}

/// A service, as it is shown.
struct Shown {
    job: JobStatus,
    health: &'static str,
    reason: Option<String>,
    origin: Option<Origin>,
    /// Whether it runs with the settings as they are now; nothing where they
    /// cannot be read.
    is_current: Option<bool>,
    /// Whether somebody else runs it.
    is_elsewhere: bool,
}

impl Shown {
    /// Describes a service that somebody else runs, by what was found there.
    fn elsewhere(name: &str, url: String, finding: Option<Finding>) -> Self {
        let health = match &finding {
            None => "ok",
            Some(finding) if finding.id.ends_with("silent") => "no answer",
            Some(_) => "unhealthy",
        };
        Self {
            job: JobStatus {
                name: name.to_owned(),
                state: StateName::Down,
                detail: String::new(),
                pid: None,
                uptime_seconds: None,
                restarts: 0,
                ready: Ready::Running,
                address: url,
                fingerprint: String::new(),
                program: String::new(),
            },
            health,
            reason: finding.map(|finding| finding.evidence),
            origin: Some(Origin {
                kind: "external",
                version: String::new(),
            }),
            is_current: None,
            is_elsewhere: true,
        }
    }

    fn state(&self) -> &'static str {
        if self.is_elsewhere {
            "elsewhere"
        } else {
            self.job.state.text()
        }
    }

    /// Says whether something is wrong with it, beside not having been started.
    fn is_broken(&self) -> bool {
        matches!(
            self.job.state,
            StateName::Backoff | StateName::CrashLoop | StateName::Failed
        ) || matches!(self.health, "no answer" | "unhealthy")
    }
}

/// How often it is looked again.
const AGAIN: Duration = Duration::from_secs(2);

/// Shows services, once or again and again.
pub fn run(session: &Session, args: &StatusArgs) -> Result<(), CommandError> {
    if !args.watch {
        return once(session, args);
    }
    if !std::io::stdout().is_terminal() {
        return Err(
            CommandError::user("--watch needs a terminal").hint("in a script, look again with: kdk status --json")
        );
    }
    loop {
        session.ui.clear();
        let now = Clock::System.now().strftime("%H:%M:%S").to_string();
        session.ui.out(&paint(
            Tone::Faint,
            &format!("kdk status at {now} UTC, again in 2 s; Ctrl-C ends it"),
        ));
        // What is broken is seen; it ends nothing.
        if let Err(error) = once(session, args)
            && !error.message.is_empty()
        {
            session.ui.error(&error.message);
        }
        std::thread::sleep(AGAIN);
    }
}

/// Shows services. Works with a broken `kdk.yml` too: what runs is known without it.
fn once(session: &Session, args: &StatusArgs) -> Result<(), CommandError> {
    let root = session.root()?;
    let config = session
        .config()
        .inspect_err(|error| {
            session.ui.warn(&error.message);
            error.hints.iter().for_each(|hint| session.ui.hint(hint));
        })
        .ok();
    let all = gather(&root, config.as_ref(), args)?;
    if args.json {
        let list: Vec<_> = all.iter().map(described).collect();
        session.ui.json(&list)?;
    } else if all.is_empty() && config.is_none() {
        session.ui.say("Nothing runs.");
    } else if all.is_empty() {
        session
            .ui
            .say("Nothing runs, and no service is enabled; enable one with: kdk config set registry.enabled true");
    } else {
        let pending = config.as_ref().map(preflight::pending).unwrap_or_default();
        // What is said of the settings as a whole need not be said of each service.
        show(session, &all, pending.is_empty());
        let told = pending.into_iter().chain(config.as_ref().and_then(exposure::exposure));
        told.for_each(|notice| session.ui.warn(&notice));
    }
    if all.iter().any(Shown::is_broken) {
        return Err(CommandError::silent(USER));
    }
    Ok(())
}

/// Returns the services that are asked for and that kdk runs.
fn picked(config: &Config, names: &[String]) -> Result<Vec<JobSpec>, CommandError> {
    if names.is_empty() {
        return Ok(services::catalogue(config));
    }
    let mut all = Vec::new();
    for name in names {
        match services::pick(config, std::slice::from_ref(name)) {
            Ok(specs) => all.extend(specs),
            Err(NameError::Elsewhere { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

fn gather(root: &Root, config: Option<&Config>, args: &StatusArgs) -> Result<Vec<Shown>, CommandError> {
    let catalogue = match config {
        Some(config) => picked(config, &args.services)?,
        None => Vec::new(),
    };
    let mut jobs = services::supervisor(root).status()?;
    for spec in &catalogue {
        if !jobs.iter().any(|job| job.name == spec.name) {
            jobs.push(JobStatus::down(spec));
        }
    }
    let wanted: Vec<&str> = args.services.iter().map(|name| services::canonical(name)).collect();
    // A service that is neither enabled nor running is nobody's concern.
    jobs.retain(|job| {
        let enabled = config.is_none() || catalogue.iter().any(|spec| spec.name == job.name);
        (wanted.is_empty() || wanted.contains(&job.name.as_str())) && (enabled || job.state != StateName::Down)
    });
    let shown = jobs.into_iter().map(|mut job| {
        let spec = catalogue.iter().find(|spec| spec.name == job.name);
        let is_current = spec.map(|spec| !job.state.is_alive() || spec.fingerprint == job.fingerprint);
        match spec {
            Some(spec) if job.state == StateName::Down => job = JobStatus::down(spec),
            // Names may change without a restart.
            Some(spec) if is_current == Some(true) => job.address.clone_from(&spec.address),
            _ => {}
        }
        let (mut health, mut reason) = health(&job);
        if matches!(health, "degraded" | "unhealthy")
            && let Some(error) = failures::last_error(root, &job.name)
        {
            // Its place in the log may be far above what a tail shows.
            reason = reason.map(|reason| format!("{reason}; last error there: {error}"));
        }
        if let Some(config) = config
            && job.name == services::public_service(config)
            && health == "ok"
            // What is asked is where the settings say.
            && is_current != Some(false)
            && let Some(no_logins) = logins::impossible(config)
        {
            health = "no logins";
            reason = Some(no_logins.reason);
        }
        // Until it is exchanged, another program than the settings name may run.
        let is_named = spec.is_none_or(|spec| !job.state.is_alive() || spec.program() == job.program);
        Shown {
            origin: config
                .filter(|_| is_named)
                .and_then(|config| origin::of(config, &job.name)),
            job,
            health,
            reason,
            is_current,
            is_elsewhere: false,
        }
    });
    let mut all: Vec<Shown> = shown.collect();
    if let Some(config) = config {
        let others = elsewhere(config).into_iter();
        all.extend(others.filter(|shown| wanted.is_empty() || wanted.contains(&shown.job.name.as_str())));
    }
    all.sort_by(|a, b| a.job.name.cmp(&b.job.name));
    Ok(all)
}

/// Looks at what somebody else runs for this root.
fn elsewhere(config: &Config) -> Vec<Shown> {
    let mut all = Vec::new();
    if config.registry_is_elsewhere() {
        all.push(Shown::elsewhere(
            REGISTRY,
            config.registry_api_url(),
            elsewhere::registry(config),
        ));
    }
    if !config.runs_rails() && config.registry_enabled() {
        all.push(Shown::elsewhere(RAILS, config.rails_url(), elsewhere::rails(config)));
    }
    all
}

fn described(shown: &Shown) -> serde_json::Value {
    let Shown { job, origin, .. } = shown;
    json!({
        "name": job.name, "state": shown.state(), "detail": job.detail, "pid": job.pid,
        "uptime_seconds": job.uptime_seconds, "restarts": job.restarts, "address": job.address,
        "health": shown.health, "reason": shown.reason, "settings_applied": shown.is_current,
        "kind": origin.as_ref().map(|origin| origin.kind), "version": origin.as_ref().map(|origin| &origin.version),
    })
}

fn show(session: &Session, all: &[Shown], tell_of_stale: bool) {
    let cells = |shown: &Shown| {
        let job = &shown.job;
        let health_tone = match shown.health {
            "ok" => Some(Tone::Good),
            "-" => Some(Tone::Faint),
            _ => Some(Tone::Bad),
        };
        let state = match job.restarts {
            0 => shown.state().to_owned(),
            count => format!("{} ({count}×)", shown.state()),
        };
        vec![
            (job.name.clone(), Some(Tone::Strong)),
            (state, Some(tone(job.state))),
            (job.pid.map_or("-".to_owned(), |pid| pid.to_string()), None),
            (job.uptime_seconds.map_or("-".to_owned(), human_duration), None),
            (shown.health.to_owned(), health_tone),
            (shown.origin.as_ref().map_or("-".to_owned(), Origin::text), None),
            (job.address.clone(), Some(Tone::Name)),
        ]
    };
    let head = ["SERVICE", "STATE", "PID", "UPTIME", "HEALTH", "VERSION", "ADDRESS"];
    let rows: Vec<_> = all.iter().map(cells).collect();
    session.ui.narrow_table(&head, &rows, &["VERSION", "PID", "UPTIME"]);
    for Shown { job, reason, .. } in all {
        // A reason is a sentence, which no column holds.
        let detail = Some(&job.detail).filter(|_| !job.detail.is_empty());
        for reason in detail.into_iter().chain(reason) {
            session.ui.warn(&format!("{}: {reason}", job.name));
        }
    }
    let stale: Vec<&str> = all
        .iter()
        .filter(|shown| shown.is_current == Some(false))
        .map(|shown| shown.job.name.as_str())
        .collect();
    if tell_of_stale && !stale.is_empty() {
        session.ui.warn(&format!(
            "settings not applied to {}: run kdk reconfigure",
            stale.join(", ")
        ));
    }
}

fn tone(state: StateName) -> Tone {
    match state {
        StateName::Ready => Tone::Good,
        StateName::Down => Tone::Faint,
        StateName::CrashLoop | StateName::Failed => Tone::Bad,
        StateName::Waiting | StateName::Starting | StateName::Stopping | StateName::Backoff => Tone::Odd,
    }
}

/// Says what helps against a service that does not answer.
fn silent(job: &JobStatus) -> String {
    format!(
        "it does not answer within a second; its log: kdk tail --no-follow {0}; start it anew with: kdk restart {0}",
        job.name
    )
}

/// Asks a running service how it is; returns a word, and what more there is to say.
fn health(job: &JobStatus) -> (&'static str, Option<String>) {
    let url = match &job.ready {
        _ if !job.state.is_alive() => return ("-", None),
        Ready::Running => return ("-", None),
        Ready::Http(url) => url,
        other if probe::is_ready(other) => return ("ok", None),
        _ => return ("no answer", Some(silent(job))),
    };
    let Ok(answer) = logins::get(url) else {
        return ("no answer", Some(silent(job)));
    };
    let is_unhealthy = answer.status().is_server_error();
    match (logins::warnings(&answer), is_unhealthy) {
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
