//! `kdk reconfigure`: bring everything in line with kdk.yml.

use std::collections::BTreeSet;

use clap::Args;

use super::diff_config::show_diff;
use super::run_state;
use crate::certs::Verdict;
use crate::cli::Session;
use crate::cli::error::{CommandError, WOULD_CHANGE};
use crate::config::Config;
use crate::reconfigure::{Action, Plan, apply, plan};
use crate::services::{self, REGISTRY, source};
use crate::sys::clock::Clock;
use crate::sys::fs::Lock;

/// Arguments of `kdk reconfigure`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done or nothing to do, 1 failed, 3 --dry-run and something would change.")]
pub struct ReconfigureArgs {
    /// Change nothing; exit with 3 when something would change
    #[arg(long)]
    dry_run: bool,
    /// Do not restart running services; say which ones should be
    #[arg(long)]
    no_restart: bool,
}

/// Plans, shows, applies, restarts.
pub fn run(session: &Session, args: &ReconfigureArgs) -> Result<(), CommandError> {
    let config = session.config()?;
    let ui = &session.ui;
    let now = Clock::System.now();
    let root = config.root();
    if args.dry_run {
        let plan = plan(&config, now)?;
        plan.notices.iter().for_each(|notice| ui.warn(notice));
        show(session, &config, &plan);
        if plan.changes_anything() {
            ui.say("Nothing was changed: this was a dry run.");
            return Err(CommandError::silent(WOULD_CHANGE));
        }
        ui.done("Nothing would change.");
        return Ok(());
    }
    crate::sys::fs::create_private_dir(&root.state())?;
    let _lock = Lock::take(&root.state().join("reconfigure.lock"))?;
    let plan = plan(&config, now)?;
    plan.notices.iter().for_each(|notice| ui.warn(notice));
    show(session, &config, &plan);
    let applied = {
        let _progress = ui.progress("writing files and certificates");
        apply(&config, &plan, now)?
    };
    for backup in &applied.backups {
        ui.say(&format!("  the old version is kept in {}", root.relative(backup)));
    }
    let mut affected: BTreeSet<&str> = plan.affected(root);
    let built =
        if config.registry_enabled() && config.registry_bin().is_none() && config.registry_version() != "embedded" {
            let progress = ui.progress("preparing the registry");
            let prepared = source::prepare(&config, |line| {
                progress.set(line);
                ui.say(&format!("  {line}"));
            })?;
            matches!(prepared, source::Prepared::Built(_))
        } else {
            false
        };
    if built {
        affected.insert(REGISTRY);
    }
    if plan.changes_anything() || built {
        ui.done("Successfully reconfigured!");
    } else {
        ui.done("Nothing to change: everything is as kdk.yml says.");
    }
    restart(session, &config, &affected, args.no_restart)?;
    if applied.trust_again && config.registry_self_signed() {
        ui.hint("the registry's certificate is new; let clients trust it with: kdk trust-docker-registry");
    }
    Ok(())
}

/// Restarts running services that read something new; ends those that are not enabled any more.
fn restart(session: &Session, config: &Config, affected: &BTreeSet<&str>, only_say: bool) -> Result<(), CommandError> {
    let supervisor = services::supervisor(config.root());
    let running: Vec<_> = supervisor
        .status()?
        .into_iter()
        .filter(|job| !matches!(job.state, crate::supervisor::protocol::StateName::Down))
        .collect();
    let catalogue = services::catalogue(config);
    let stale: Vec<String> = running
        .iter()
        .filter(|job| {
            catalogue.iter().any(|spec| {
                spec.name == job.name && (affected.contains(job.name.as_str()) || spec.fingerprint != job.fingerprint)
            })
        })
        .map(|job| job.name.clone())
        .collect();
    let disabled: Vec<String> = running
        .iter()
        .filter(|job| catalogue.iter().all(|spec| spec.name != job.name))
        .map(|job| job.name.clone())
        .collect();
    if only_say {
        if !stale.is_empty() {
            session
                .ui
                .hint(&format!("not restarted; do it with: kdk restart {}", stale.join(" ")));
        }
        if !disabled.is_empty() {
            session.ui.hint(&format!(
                "not enabled any more; stop with: kdk stop {}",
                disabled.join(" ")
            ));
        }
        return Ok(());
    }
    if !disabled.is_empty() {
        session
            .ui
            .say(&format!("Stopping {}, not enabled any more.", disabled.join(", ")));
        run_state::stop_named(session, config.root(), Some(disabled))?;
    }
    if !stale.is_empty() {
        session.ui.say(&format!(
            "Restarting {}, whose configuration changed.",
            stale.join(", ")
        ));
        run_state::restart_named(session, config, &stale)?;
    }
    Ok(())
}

fn show(session: &Session, config: &Config, plan: &Plan) {
    let ui = &session.ui;
    let root = config.root();
    for pair in &plan.pairs {
        let name = root.relative(&pair.wanted.certificate);
        match &pair.verdict {
            Verdict::Keep => {}
            Verdict::Make => ui.say(&format!(
                "  new certificate {name} for {} ({})",
                pair.wanted.purpose,
                pair.wanted.names.join(", ")
            )),
            Verdict::Renew(reason) => ui.say(&format!("  renewed certificate {name}: {reason}")),
            Verdict::Complain(reason) => ui.warn(&format!(
                "{name}: {reason}; it was not made by kdk, so it is left alone"
            )),
        }
    }
    for file in &plan.files {
        let name = root.relative(&file.path);
        match file.action {
            Action::Keep => {}
            Action::Create => ui.say(&format!("  new file {name}")),
            Action::Restrict => ui.say(&format!("  {name} is made readable by you alone")),
            Action::Protected => ui.warn(&format!(
                "Changes to '{name}' not applied because it's protected in kdk.yml."
            )),
            Action::Update => {
                ui.say(&format!("  changed file {name}"));
                show_diff(&file.old, &file.new, |line| ui.say(&format!("  {line}")));
            }
        }
    }
}
