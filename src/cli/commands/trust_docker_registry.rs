//! `kdk trust-docker-registry`: let container clients trust the registry.

use camino::Utf8Path;
use clap::Args;

use super::run_state;
use crate::certs::{Authority, Verdict, exchange, fingerprint, served_fingerprint};
use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::trusting::{self, How, JOBS};
use crate::clients::needs;
use crate::clients::setup::apply;
use crate::clients::setup::file::Done;
use crate::clients::setup::{self, Client as _, Scene};
use crate::config::Config;
use crate::reconfigure::{make_pair, registry_pair};
use crate::services;
use crate::supervisor::protocol::StateName;
use crate::sys::clock::{Clock, backup_stamp};
use crate::sys::fs::Lock;

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

/// Tells the clients of this machine what they must know of the registry: its
/// certificate, or that it speaks plain HTTP. With `--remove` takes that back.
pub fn run(session: &Session, args: &TrustArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    let how = How {
        remove: args.remove,
        json: args.json,
    };
    if args.remove {
        let mut all = Vec::new();
        for (client, plan) in trusting::plans(&config)? {
            all.extend(apply::remove(config.root(), &client, &plan)?);
        }
        return trusting::report(&session.ui, &config, how, &all);
    }
    if !needs::is_https(&config) {
        return plain(session, &config, args);
    }
    if !config.clients_see_own_certificate() {
        let place = if config.registry_is_elsewhere() {
            "runs elsewhere"
        } else {
            "is behind a proxy"
        };
        session.ui.say(&format!(
            "{} {place}, with a certificate that is not kdk's: nothing to install.",
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
    trusting::trust(&session.ui, &config, how)
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
        return ui.json(&trusting::as_json(&all));
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
    trusting::still_needed(ui, config);
    Ok(())
}

fn ensure_pair(session: &Session, config: &Config) -> Result<(), CommandError> {
    let root = config.root();
    crate::sys::fs::create_private_dir(&root.state())?;
    let _lock = Lock::take(&root.reconfiguring())?;
    exchange::finish_locked(&root.state())?;
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
    if !config.runs_registry() || !config.registry_self_signed() {
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
