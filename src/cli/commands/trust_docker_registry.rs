//! `kdk trust-docker-registry`: let container clients trust the registry.

use clap::Args;
use serde_json::json;

use super::run_state;
use crate::certs::{Authority, Verdict, fingerprint, served_fingerprint};
use crate::cli::Session;
use crate::cli::error::{CommandError, USER};
use crate::clients::trust::{self, Done, Placed};
use crate::clients::{Found, insecure, needs};
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

/// Tells the clients of this machine what they must know of the registry: its
/// certificate, or that it speaks plain HTTP. With `--remove` takes that back.
pub fn run(session: &Session, args: &TrustArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    let names = trust::names(&config);
    if args.remove {
        let placed = trust::remove(&config, &bundles(&config)?)?;
        let untold = insecure::tell_podman(config.root(), &[])?;
        if untold && !args.json {
            session.ui.say(&format!(
                "  removed      {} (podman, buildah, skopeo)",
                insecure::podman_file()
            ));
        }
        return report(session, &config, args, &placed, untold);
    }
    if !needs::is_https(&config) {
        return plain(session, &config, args, &names);
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
    let pem = bundle(&config)?.unwrap_or_default();
    // What administrators copy by hand where rights are missing.
    let file = config.root().state().join("ca.crt");
    crate::sys::fs::write_atomic(&file, pem.as_bytes(), crate::sys::fs::PUBLIC)?;
    let placed = trust::place(&config, &file, &pem)?;
    // It may have spoken plain HTTP before.
    insecure::tell_podman(config.root(), &[])?;
    report(session, &config, args, &placed, false)?;
    still_needed(session, &config);
    Ok(())
}

/// Over plain HTTP there is no certificate to trust: clients are told that instead.
fn plain(session: &Session, config: &Config, args: &TrustArgs, names: &[String]) -> Result<(), CommandError> {
    let ui = &session.ui;
    // Certificates of an earlier mode are in the way of nobody, and of no use.
    let placed = trust::remove(config, &[])?;
    let told = insecure::tell_podman(config.root(), names)?;
    let file = insecure::podman_file();
    let word = if told { "added" } else { "unchanged" };
    if args.json {
        let list = [json!({"client": "podman, buildah, skopeo", "path": file, "result": word})];
        return ui.json(&list);
    }
    ui.say("The registry speaks plain HTTP: there is no certificate to trust.");
    for item in &placed {
        match &item.done {
            Done::Removed => ui.say(&format!("  removed      {} ({})", item.path, item.client)),
            Done::Denied(command) => ui.tip(&format!(
                "an older certificate is still installed; remove it with: {command}"
            )),
            _ => {}
        }
    }
    ui.say(&format!("  {word:12} {file} (podman, buildah, skopeo)"));
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

/// Returns what clients must trust: the registry's certificate, and that of
/// the token service when it speaks HTTPS too, to which they are sent.
fn bundle(config: &Config) -> Result<Option<String>, CommandError> {
    let Some(mut pem) = crate::sys::fs::read_optional(&config.root().registry_pair().0)? else {
        return Ok(None);
    };
    if config.https_enabled() && config.registry_auth_enabled() && !config.has_one_origin() {
        pem.push_str(&crate::sys::fs::read_optional(&config.https_pair().0)?.unwrap_or_default());
    }
    Ok(Some(pem))
}

/// Returns what an earlier version of kdk may have put where clients look.
fn bundles(config: &Config) -> Result<Vec<String>, CommandError> {
    let Some(own) = crate::sys::fs::read_optional(&config.root().registry_pair().0)? else {
        return Ok(Vec::new());
    };
    let signing = crate::sys::fs::read_optional(&config.https_pair().0)?.unwrap_or_default();
    Ok(vec![format!("{own}{signing}"), own])
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

fn report(
    session: &Session,
    config: &Config,
    args: &TrustArgs,
    placed: &[Placed],
    untold: bool,
) -> Result<(), CommandError> {
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
        if !untold && placed.iter().all(|item| item.done == Done::Absent) {
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
    let changed = placed
        .iter()
        .any(|item| item.restart && matches!(item.done, Done::Added | Done::Replaced | Done::Removed));
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
