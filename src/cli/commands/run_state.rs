//! `kdk start`, `stop`, `restart` and `kill`.

use clap::Args;

use crate::certs::exchange;
use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::ui::{Tone, paint};
use crate::cli::welcome;
use crate::cli::{elsewhere, failures, leftovers, outcome};
use crate::clients::hosts;
use crate::config::Config;
use crate::doctor::{preflight, storage};
use crate::reconfigure::exposure;
use crate::root::Root;
use crate::services::postgresql::Postgresql;
use crate::services::{self, POSTGRESQL, REGISTRY};
use crate::supervisor::client::Outcome;
use crate::supervisor::protocol::{JobSpec, Request, StateName};
use crate::sys;
use crate::sys::clock::{Clock, log_stamp};

/// Arguments of `kdk start`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kdk start\n  kdk start registry")]
pub struct StartArgs {
    /// Services to start (default: all)
    services: Vec<String>,
}

/// Arguments of `kdk stop`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kdk stop\n  kdk stop registry")]
pub struct StopArgs {
    /// Services to stop (default: all, and the supervisor)
    services: Vec<String>,
}

/// Arguments of `kdk restart`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kdk restart\n  kdk restart registry")]
pub struct RestartArgs {
    /// Services to restart (default: all)
    services: Vec<String>,
}

/// Arguments of `kdk kill`.
#[derive(Debug, Args)]
#[command(
    after_help = "Only services of this root are killed. Without a terminal, say --yes or KDK_KILL_CONFIRM=true."
)]
pub struct KillArgs {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `kdk start`.
pub fn start(session: &Session, args: &StartArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    preflight::check_place(&config).map_err(CommandError::user)?;
    let specs = services::pick(&config, &args.services)?;
    check_data(&config, &specs)?;
    super::database::before_start(session, &config, &specs)?;
    preflight::pending(&config)
        .iter()
        .for_each(|notice| session.ui.warn(notice));
    if let Some(notice) = exposure::exposure(&config) {
        session.ui.warn(&notice);
    }
    bring_up(session, &config, specs, Manner::Start)?;
    if args.services.is_empty() {
        elsewhere::announce(&session.ui, &config);
        welcome::next(session, &config, None);
    }
    Ok(())
}

/// Starts everything that is enabled and does not run.
pub fn start_all(session: &Session, config: &Config) -> Result<(), CommandError> {
    let specs = services::pick(config, &[])?;
    check_data(config, &specs)?;
    super::database::before_start(session, config, &specs)?;
    bring_up(session, config, specs, Manner::Start)?;
    elsewhere::announce(&session.ui, config);
    Ok(())
}

/// `kdk stop`.
pub fn stop(session: &Session, args: &StopArgs) -> Result<(), CommandError> {
    let root = session.root()?;
    stop_named(session, &root, named(session, &root, &args.services)?)
}

/// `kdk restart`.
pub fn restart(session: &Session, args: &RestartArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    preflight::check_place(&config).map_err(CommandError::user)?;
    let specs = services::pick(&config, &args.services)?;
    exchange::finish(&config.root().state(), &config.root().reconfiguring())?;
    if !specs.is_empty() || !config.registry_is_elsewhere() {
        ready(&config, specs.clone(), true)?;
    }
    check_data(&config, &specs)?;
    super::database::before_start(session, &config, &specs)?;
    preflight::pending(&config)
        .iter()
        .for_each(|notice| session.ui.warn(notice));
    if args.services.is_empty() {
        // What is not enabled any more ends with a restart of everything.
        let running = services::supervisor(config.root()).status()?;
        let others = running
            .into_iter()
            .filter(|job| job.state != StateName::Down)
            .map(|job| job.name);
        let others: Vec<String> = others
            .filter(|name| specs.iter().all(|spec| spec.name != *name))
            .collect();
        if !others.is_empty() {
            stop_named(session, config.root(), Some(others))?;
        }
    }
    bring_up(session, &config, specs, Manner::Restart)?;
    if args.services.is_empty() {
        elsewhere::announce(&session.ui, &config);
        welcome::next(session, &config, None);
    }
    Ok(())
}

/// `kdk kill`.
pub fn kill(session: &Session, args: &KillArgs) -> Result<(), CommandError> {
    let root = session.root()?;
    session.ui.consent(
        "End all services of this KDK at once, without letting them finish?",
        args.yes,
        "KDK_KILL_CONFIRM",
    )?;
    match ask_stop(session, &root, None, true)? {
        None => session.ui.say("Nothing runs."),
        Some(outcome) => report_stop(session, &outcome)?,
    }
    Ok(())
}

/// Stops and starts services that run.
pub fn restart_named(session: &Session, config: &Config, names: &[String]) -> Result<(), CommandError> {
    bring_up(session, config, services::pick(config, names)?, Manner::Restart)
}

/// Restarts services without a word, unless one fails.
pub fn restart_quietly(session: &Session, config: &Config, names: &[String]) -> Result<(), CommandError> {
    bring_up(session, config, services::pick(config, names)?, Manner::RestartSilently)
}

/// Stops services, all when none is named.
pub fn stop_named(session: &Session, root: &Root, names: Option<Vec<String>>) -> Result<(), CommandError> {
    match ask_stop(session, root, names, false)? {
        None => session.ui.say("Nothing runs."),
        Some(outcome) => report_stop(session, &outcome)?,
    }
    Ok(())
}

/// Resolves names for commands that must work with a broken `kdk.yml` too.
fn named(session: &Session, root: &Root, names: &[String]) -> Result<Option<Vec<String>>, CommandError> {
    if names.is_empty() {
        return Ok(None);
    }
    let known = services::supervisor(root).status()?;
    let mut found = Vec::new();
    for name in names {
        let own = services::canonical(name);
        if !known.iter().any(|job| job.name == own) {
            // Not one that was ever started; the settings tell what is wrong with the name.
            services::pick(&session.config()?, std::slice::from_ref(name))?;
        }
        found.push(own.to_owned());
    }
    Ok(Some(found))
}

/// Starts services that do not run.
pub fn start_named(session: &Session, config: &Config, names: &[String]) -> Result<(), CommandError> {
    bring_up(session, config, services::pick(config, names)?, Manner::Start)
}

/// Starts a service without a word, unless it fails.
pub fn start_quietly(session: &Session, config: &Config, spec: JobSpec) -> Result<(), CommandError> {
    bring_up(session, config, vec![spec], Manner::StartSilently)
}

/// Stops services without a word, unless one fails.
pub fn stop_quietly(session: &Session, root: &Root, names: &[String]) -> Result<(), CommandError> {
    match ask_stop(session, root, Some(names.to_vec()), false)? {
        Some(outcome) if !outcome.failures.is_empty() => report_stop(session, &outcome),
        _ => Ok(()),
    }
}

/// Checks that no empty storage or database is made where a full one is missing.
pub fn check_data(config: &Config, specs: &[JobSpec]) -> Result<(), CommandError> {
    if specs.iter().any(|spec| spec.name == REGISTRY)
        && let Some(reason) = storage::gone(config)
    {
        return Err(CommandError::user(reason));
    }
    let wanted = specs
        .iter()
        .any(|spec| spec.name == POSTGRESQL || spec.depends_on.iter().any(|name| name == POSTGRESQL));
    if !wanted {
        return Ok(());
    }
    if super::database::is_ours(config)
        && storage::is_in_database(config)
        && let Ok(found) = Postgresql::find(config)
    {
        found.check_data().map_err(services::Unready::from)?;
    }
    Ok(())
}

/// Adds what services depend on and does not run.
fn with_needed(config: &Config, specs: Vec<JobSpec>) -> Result<Vec<JobSpec>, CommandError> {
    let needed = |name: &String| specs.iter().any(|spec| spec.depends_on.contains(name));
    let mut all: Vec<JobSpec> = services::catalogue(config)
        .into_iter()
        .filter(|other| needed(&other.name) && specs.iter().all(|spec| spec.name != other.name))
        .collect();
    if !all.is_empty() {
        let running = services::supervisor(config.root()).status()?;
        all.retain(|spec| !running.iter().any(|job| job.name == spec.name && job.state.is_alive()));
    }
    all.extend(specs);
    Ok(all)
}

/// Checks that services can be tried at all, before anything is stopped for
/// them. Without PostgreSQL, or where one's address lacks, the others go on;
/// the error is for the end.
fn ready(
    config: &Config,
    mut specs: Vec<JobSpec>,
    is_restart: bool,
) -> Result<(Vec<JobSpec>, Option<CommandError>), CommandError> {
    if specs.is_empty() {
        return Err(CommandError::user("no service is enabled")
            .hint("enable the registry with: kdk config set registry.enabled true && kdk reconfigure"));
    }
    let mut unready: Vec<(String, CommandError)> = Vec::new();
    for spec in &specs {
        let name = spec.name.clone();
        match services::preflight(config, spec) {
            Err(error @ services::Unready::Postgresql(_)) => unready.push((name, error.into())),
            Err(error) => return Err(error.into()),
            // One that runs is not stopped for what cannot be.
            Ok(()) if is_restart => {
                let error = without_address(config, spec).or_else(|| not_startable(config, spec));
                unready.extend(error.map(|error| (name, error)));
            }
            Ok(()) => {}
        }
    }
    let is_left = |name: &String| unready.iter().all(|(out, _)| out != name);
    specs.retain(|spec| is_left(&spec.name));
    for spec in &mut specs {
        spec.depends_on.retain(is_left);
    }
    let later = unready.into_iter().map(|(_, error)| error).reduce(|mut all, error| {
        all.message = format!("{}\n{}", all.message, error.message);
        let new: Vec<String> = error
            .hints
            .into_iter()
            .filter(|hint| !all.hints.contains(hint))
            .collect();
        all.hints.extend(new);
        all
    });
    match later {
        Some(error) if specs.is_empty() => Err(error),
        later => Ok((specs, later)),
    }
}

/// Why the built-in registry would not start again.
fn not_startable(config: &Config, spec: &JobSpec) -> Option<CommandError> {
    if spec.name != REGISTRY {
        return None;
    }
    let reason = preflight::check_rendered(config).err()?;
    let error = CommandError::user(format!("registry is not restarted, as it would not start: {reason}"));
    // What is not kdk's to make has its remedy in the reason.
    Some(if storage::gone(config).is_some() {
        error
    } else {
        error.hint("kdk's own files and certificates are made anew by: kdk reconfigure")
    })
}

/// Says why a service could not listen where it is to.
fn without_address(config: &Config, spec: &JobSpec) -> Option<CommandError> {
    let (host, _) = spec.listen.as_deref()?.rsplit_once(':')?;
    let reason = sys::net::own_address(host).err()?;
    let error = CommandError::user(format!("{} is not restarted: {reason}", spec.name));
    Some(hosts::lacking(config).into_iter().fold(error, CommandError::hint))
}

/// How services are brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// What is down is started.
    Start,
    /// So it is, and only failures are told.
    StartSilently,
    /// What runs is stopped first.
    Restart,
    /// So it is, and only failures are told.
    RestartSilently,
}

/// Starts services, or restarts them, and waits until they are ready.
fn bring_up(session: &Session, config: &Config, specs: Vec<JobSpec>, manner: Manner) -> Result<(), CommandError> {
    let ui = &session.ui;
    let is_restart = matches!(manner, Manner::Restart | Manner::RestartSilently);
    if specs.is_empty() && config.registry_is_elsewhere() {
        return Ok(());
    }
    exchange::finish(&config.root().state(), &config.root().reconfiguring())?;
    let (mut specs, later) = ready(config, with_needed(config, specs)?, is_restart)?;
    services::limit_logs(config)?;
    leftovers::end(ui, &specs);
    if let Some(error) = &later {
        ui.error(&error.message);
    }
    if let Some(spec) = specs.iter_mut().find(|spec| spec.name == POSTGRESQL) {
        let found = Postgresql::find(config).map_err(services::Unready::from)?;
        let _progress = ui.progress("preparing PostgreSQL");
        if found.prepare().map_err(services::Unready::from)? {
            // Now that its data are there, they count.
            *spec = services::postgresql(config);
        }
    }
    // When each was started: what an earlier run said explains nothing.
    let mut since: Vec<(String, String)> = Vec::new();
    let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let wanted: Vec<(String, String)> = specs
        .iter()
        .map(|spec| (spec.name.clone(), spec.fingerprint.clone()))
        .collect();
    let wait_seconds = services::postgresql::patience(config, &specs);
    let request = if is_restart {
        Request::Restart {
            jobs: specs,
            wait_seconds,
        }
    } else {
        Request::Start {
            jobs: specs,
            wait_seconds,
        }
    };
    let outcome = {
        let progress = ui.progress(&format!("starting {}", names.join(", ")));
        services::supervisor(config.root()).ask(&request, |status| {
            if status.state == StateName::Starting {
                // A little earlier: the process may have been quicker than this line.
                let started = Clock::System.now() - jiff::SignedDuration::from_millis(50);
                since.push((status.name.clone(), log_stamp(started)));
            }
            progress.set(&format!("{}: {}", status.name, status.state.text()));
        })?
    };
    let silent = matches!(manner, Manner::StartSilently | Manner::RestartSilently);
    let registry_answers = outcome::tell(ui, config, &outcome, &wanted, silent);
    if registry_answers {
        storage::note(config);
    }
    if registry_answers && !silent {
        welcome::announce(session, config);
    }
    failures::explain(ui, config, &outcome, &since)?;
    // Its message stands above.
    later.map_or(Ok(()), |error| {
        Err(CommandError {
            message: String::new(),
            ..error
        })
    })
}

fn ask_stop(
    session: &Session,
    root: &Root,
    names: Option<Vec<String>>,
    kill: bool,
) -> Result<Option<Outcome>, CommandError> {
    let progress = session.ui.progress("stopping");
    let supervisor = services::supervisor(root);
    let filter = names.clone();
    let outcome = supervisor.stop(names, kill, |status| {
        progress.set(&format!("{}: {}", status.name, status.state.text()));
    })?;
    // Of interest is only what was asked for.
    Ok(outcome.map(|mut outcome| {
        outcome
            .jobs
            .retain(|job| filter.as_ref().is_none_or(|names| names.contains(&job.name)));
        outcome
    }))
}

fn report_stop(session: &Session, outcome: &Outcome) -> Result<(), CommandError> {
    for job in outcome.jobs.iter().filter(|job| job.state == StateName::Down) {
        session
            .ui
            .say(&format!("  {} {}", paint(Tone::Faint, job.state.text()), job.name));
    }
    if outcome.failures.is_empty() {
        return Ok(());
    }
    let reasons: Vec<String> = outcome
        .failures
        .iter()
        .map(|failure| format!("{}: {}", failure.name, failure.reason))
        .collect();
    Err(CommandError::user(reasons.join("\n")).hint("kill all services of this root at once with: kdk kill"))
}

/// Arguments of `kdk run-as`.
#[derive(Debug, Args)]
pub struct RunAsArgs {
    /// The user
    user: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

/// `kdk run-as`: becomes a program of another user. PostgreSQL refuses root.
pub fn run_as(args: &RunAsArgs) -> Result<(), CommandError> {
    Err(sys::process::become_as(&args.user, &args.command).into())
}
