//! `kdk trust-docker-registry`: let container clients trust the registry.

use clap::Args;
use serde_json::json;

use super::run_state;
use crate::certs::{Authority, Verdict, fingerprint, served_fingerprint};
use crate::cli::Session;
use crate::cli::error::{CommandError, USER};
use crate::clients::trust::{Done, Placed, place, remove};
use crate::config::Config;
use crate::reconfigure::{make_pair, registry_pair};
use crate::services::{self, REGISTRY};
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

/// Makes a missing pair, restarts a registry that serves another, and places the certificate.
pub fn run(session: &Session, args: &TrustArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    let wanted = registry_pair(&config);
    let placed = if args.remove {
        let pem = bundle(&config)?.ok_or_else(|| {
            CommandError::user(format!(
                "{} does not exist, so there is nothing to take away",
                wanted.certificate
            ))
        })?;
        remove(&config, &pem)
    } else {
        ensure_pair(session, &config)?;
        refresh_registry(session, &config, &crate::sys::fs::read(&wanted.certificate)?)?;
        let pem = bundle(&config)?.unwrap_or_default();
        // What administrators copy by hand where rights are missing.
        let file = config.root().state().join("ca.crt");
        crate::sys::fs::write_atomic(&file, pem.as_bytes(), crate::sys::fs::PUBLIC)?;
        place(&config, &file, &pem)
    };
    report(session, &config, args, &placed)
}

/// Returns what clients must trust: the registry's certificate, and that of
/// the token service when it speaks HTTPS too, to which they are sent.
fn bundle(config: &Config) -> Result<Option<String>, CommandError> {
    let Some(mut pem) = crate::sys::fs::read_optional(&config.root().registry_pair().0)? else {
        return Ok(None);
    };
    if config.https_enabled() && config.registry_auth_enabled() && !config.registry_forwards() {
        pem.push_str(&crate::sys::fs::read_optional(&config.root().signing_pair().0)?.unwrap_or_default());
    }
    Ok(Some(pem))
}

fn ensure_pair(session: &Session, config: &Config) -> Result<(), CommandError> {
    let root = config.root();
    let wanted = registry_pair(config);
    let authority = Authority::new(root.certificates());
    let now = Clock::System.now();
    match authority.judge(&wanted, now)? {
        Verdict::Keep => {}
        Verdict::Complain(reason) => session.ui.warn(&format!("{}: {reason}", wanted.certificate)),
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
    if !config.registry_self_signed() {
        session
            .ui
            .warn("registry.self_signed is false: the registry speaks plain HTTP, for which no certificate counts");
        session
            .ui
            .hint("serve HTTPS with: kdk config set registry.self_signed true && kdk reconfigure");
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
        .any(|job| job.name == REGISTRY && job.state == StateName::Ready);
    if !runs {
        return Ok(());
    }
    let address = services::reachable(&config.registry_listen_address(), config.registry_port());
    let served = served_fingerprint(&address, &config.registry_host());
    if served.is_ok_and(|served| Some(served) != fingerprint(pem)) {
        session
            .ui
            .say("Restarting registry, which serves an older certificate.");
        run_state::restart_named(session, config, &[REGISTRY.to_owned()])?;
    }
    Ok(())
}

fn report(session: &Session, config: &Config, args: &TrustArgs, placed: &[Placed]) -> Result<(), CommandError> {
    let ui = &session.ui;
    let word = |done: &Done| match done {
        Done::Added => "added",
        Done::Replaced => "overwritten",
        Done::Unchanged => "unchanged",
        Done::Removed => "removed",
        Done::Absent => "absent",
        Done::Foreign => "left: another certificate",
        Done::Denied(_) => "no rights",
        Done::Failed(_) => "failed",
    };
    if args.json {
        let list: Vec<_> = placed
            .iter()
            .map(|item| json!({"client": item.client, "path": item.path, "result": word(&item.done)}))
            .collect();
        ui.json(&list)?;
    } else {
        for item in placed.iter().filter(|item| item.done != Done::Absent) {
            ui.say(&format!("  {:12} {} ({})", word(&item.done), item.path, item.client));
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
        ui.hint("rights are missing for some places; if you use a client that looks there, run:");
        by_hand.iter().for_each(|command| ui.say(&format!("  {command}")));
    }
    let changed = placed
        .iter()
        .any(|item| item.restart && matches!(item.done, Done::Added | Done::Replaced | Done::Removed));
    if changed {
        ui.say("Don't forget to restart Docker!");
    }
    if !failures.is_empty() {
        return Err(CommandError::user(failures.join("\n")));
    }
    if args.remove || !config.registry_self_signed() {
        return Ok(());
    }
    let trusting = |denied: bool| {
        let mut clients: Vec<&str> = Vec::new();
        for item in placed
            .iter()
            .filter(|item| matches!(item.done, Done::Denied(_)) == denied)
        {
            if !clients.contains(&item.client) {
                clients.push(item.client);
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
