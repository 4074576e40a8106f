//! `kdk trust-docker-registry`: let container clients trust the registry.

use camino::Utf8Path;
use clap::Args;
use serde_json::json;

use super::run_state;
use crate::certs::{Authority, Verdict, fingerprint, served_fingerprint};
use crate::cli::Session;
use crate::cli::error::{CommandError, USER};
use crate::clients::setup::apply::{self, Handled};
use crate::clients::setup::file::Done;
use crate::clients::setup::plan::{Plan, SetupError};
use crate::clients::setup::{self, Client as _, Scene};
use crate::clients::{Found, needs};
use crate::config::Config;
use crate::reconfigure::{make_pair, registry_pair};
use crate::services;
use crate::supervisor::protocol::StateName;
use crate::sys::clock::{Clock, backup_stamp};

/// Arguments of `kdk trust-docker-registry`.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// Take the certificate away again
    #[arg(long)]
    remove: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the records call the jobs of a runner.
const JOBS: &str = "jobs";

/// Tells the clients of this machine what they must know of the registry: its
/// certificate, or that it speaks plain HTTP. With `--remove` takes that back.
pub fn run(session: &Session, args: &TrustArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    if args.remove {
        let mut all = Vec::new();
        for (client, plan) in plans(&config)? {
            all.extend(apply::remove(config.root(), &client, &plan)?);
        }
        return report(session, &config, args, &all);
    }
    if !needs::is_https(&config) {
        return plain(session, &config, args);
    }
    if !config.clients_see_own_certificate() {
        session.ui.say(&format!(
            "{} is HTTPS behind a proxy, whose certificate is not kdk's: nothing to install.",
            config.registry_url()
        ));
        return Ok(());
    }
    ensure_pair(session, &config)?;
    refresh_registry(
        session,
        &config,
        &crate::sys::fs::read(&registry_pair(&config).certificate)?,
    )?;
    let mut all = Vec::new();
    for (client, plan) in plans(&config)? {
        all.extend(apply::apply(config.root(), &client, &plan, Clock::System.now())?);
    }
    report(session, &config, args, &all)?;
    still_needed(session, &config);
    Ok(())
}

/// Returns what is planned for the clients of this machine that are told here.
fn plans(config: &Config) -> Result<Vec<(String, Plan)>, CommandError> {
    let scene = Scene::of(config);
    let mut plans = Vec::new();
    let docker = setup::docker::Docker;
    let plan = if docker.is_here() || Utf8Path::new("/etc/docker").is_dir() {
        docker.plan(&scene).or_else(unmade)?
    } else {
        Plan::default()
    };
    // What is elsewhere is told of by kdk setup docker.
    plans.push((docker.key(&scene), plan));
    let podman = setup::podman::Podman;
    plans.push((podman.key(&scene), podman.plan(&scene).or_else(unmade)?));
    let jobs = if config.runner_enabled() {
        setup::runner::certificates(&scene).or_else(unmade)?
    } else {
        Plan::default()
    };
    plans.push((JOBS.to_owned(), jobs));
    Ok(plans)
}

/// Plans nothing where there is nothing to tell yet.
fn unmade(error: SetupError) -> Result<Plan, CommandError> {
    match error {
        SetupError::Missing { .. } => Ok(Plan::default()),
        error => Err(error.into()),
    }
}

/// Over plain HTTP there is no certificate to trust: clients are told that instead.
fn plain(session: &Session, config: &Config, args: &TrustArgs) -> Result<(), CommandError> {
    let ui = &session.ui;
    // Certificates of an earlier mode are in the way of nobody, and of no use.
    let mut all = Vec::new();
    let docker = setup::docker::Docker.key(&Scene::of(config));
    for client in [docker.as_str(), JOBS] {
        let is_certificate = |path: &Utf8Path| path.file_name() == Some("ca.crt");
        all.extend(apply::take_back(config.root(), client, is_certificate)?);
    }
    let podman = setup::podman::Podman;
    let plan = podman.plan(&Scene::of(config))?;
    all.extend(apply::apply(config.root(), podman.name(), &plan, Clock::System.now())?);
    if args.json {
        return ui.json(&as_json(&all));
    }
    ui.say("The registry speaks plain HTTP: there is no certificate to trust.");
    for item in &all {
        match &item.done {
            Done::Absent | Done::Foreign => {}
            Done::Denied(command) => ui.tip(&format!(
                "an older certificate is still installed; remove it with: {command}"
            )),
            done => ui.say(&format!("  {:12} {} ({})", done.word(), item.path, item.reader)),
        }
    }
    still_needed(session, config);
    Ok(())
}

/// Says what clients that are found on this machine still need.
fn still_needed(session: &Session, config: &Config) {
    let places = [Found::Docker, Found::Podman];
    let found = places.into_iter().filter(|client| client.is_here());
    let mut needs: Vec<String> = if needs::is_https(config) {
        // What was placed, and where rights were missing, is said already.
        Vec::new()
    } else {
        found.flat_map(|client| needs::of(config, client)).collect()
    };
    needs.extend(needs::of_tools(config));
    if needs.is_empty() {
        session.ui.done(&format!(
            "The clients found here take {} as it is.",
            config.registry_address()
        ));
    }
    for need in needs {
        session.ui.tip(&need);
    }
}

fn ensure_pair(session: &Session, config: &Config) -> Result<(), CommandError> {
    let root = config.root();
    let wanted = registry_pair(config);
    let authority = Authority::new(root.certificates());
    let now = Clock::System.now();
    match authority.judge(&wanted, now)? {
        Verdict::Keep => {}
        Verdict::Complain(reason) => session.ui.warn(&format!("{}: {reason}", wanted.certificate)),
        Verdict::Useless(reason) => {
            return Err(CommandError::user(format!(
                "{}: {reason}: no client would accept it; nothing was changed",
                wanted.certificate
            ))
            .hint(wanted.remedy()));
        }
        Verdict::Make | Verdict::Renew(_) => {
            crate::sys::fs::create_private_dir(&root.state())?;
            make_pair(root, &authority, &wanted, &backup_stamp(now), now)?;
            session.ui.say(&format!(
                "New certificate {} for {}.",
                root.relative(&wanted.certificate),
                wanted.names.join(", ")
            ));
        }
    }
    Ok(())
}

/// Restarts a registry that still serves another certificate.
fn refresh_registry(session: &Session, config: &Config, pem: &str) -> Result<(), CommandError> {
    if !config.registry_enabled() || !config.registry_self_signed() {
        return Ok(());
    }
    let runs = services::supervisor(config.root())
        .status()?
        .iter()
        .any(|job| job.name == services::public_service(config) && job.state == StateName::Ready);
    if !runs {
        return Ok(());
    }
    let address = services::reachable(&config.registry_listen_address(), config.registry_port());
    let served = served_fingerprint(&address, &config.registry_host());
    if served.is_ok_and(|served| Some(served) != fingerprint(pem)) {
        session
            .ui
            .say("Restarting registry, which serves an older certificate.");
        run_state::restart_named(session, config, &[services::public_service(config).to_owned()])?;
    }
    Ok(())
}

fn as_json(handled: &[Handled]) -> Vec<serde_json::Value> {
    let item = |item: &Handled| json!({"client": item.reader, "path": item.path, "result": item.done.word()});
    handled.iter().map(item).collect()
}

fn report(session: &Session, config: &Config, args: &TrustArgs, placed: &[Handled]) -> Result<(), CommandError> {
    let ui = &session.ui;
    if args.json {
        ui.json(&as_json(placed))?;
    } else {
        for item in placed.iter().filter(|item| item.done != Done::Absent) {
            ui.say(&format!("  {:12} {} ({})", item.done.word(), item.path, item.reader));
        }
        if placed.iter().all(|item| item.done == Done::Absent) {
            ui.say("No client had the certificate.");
        }
    }
    let failures: Vec<String> = placed
        .iter()
        .filter_map(|item| match &item.done {
            Done::Failed(reason) => Some(reason.clone()),
            _ => None,
        })
        .collect();
    let by_hand: Vec<&str> = placed
        .iter()
        .filter_map(|item| match &item.done {
            Done::Denied(command) => Some(command.as_str()),
            _ => None,
        })
        .collect();
    if !by_hand.is_empty() {
        ui.tip("no permission to write to some places; if you use a client that reads them, run:");
        by_hand.iter().for_each(|command| ui.say(&format!("  {command}")));
    }
    let changed = placed.iter().any(|item| {
        item.reader == setup::docker::DESKTOP && matches!(item.done, Done::Added | Done::Replaced | Done::Removed)
    });
    if changed {
        ui.say("Don't forget to restart Docker Desktop!");
    }
    if !failures.is_empty() {
        return Err(CommandError::user(failures.join("\n")));
    }
    if args.remove || args.json {
        return Ok(());
    }
    let trusting = |denied: bool| {
        let mut clients: Vec<&str> = Vec::new();
        for item in placed
            .iter()
            .filter(|item| matches!(item.done, Done::Denied(_)) == denied)
            .filter(|item| !matches!(item.done, Done::Removed | Done::Absent | Done::Foreign))
        {
            if !clients.contains(&item.reader) {
                clients.push(item.reader);
            }
        }
        clients.join("; ")
    };
    let (yes, no) = (trusting(false), trusting(true));
    if yes.is_empty() {
        return Err(CommandError::silent(USER));
    }
    ui.done(&format!("These trust {} now: {yes}.", config.registry_address()));
    if !no.is_empty() {
        ui.warn(&format!("these do not: {no}"));
    }
    Ok(())
}
