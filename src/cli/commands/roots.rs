//! `kdk roots`: all roots of this user.

use clap::Args;
use serde_json::json;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::ui::Tone;
use crate::config::Config;
use crate::root::Root;
use crate::roots::{self, Roots};
use crate::services;

/// Arguments of `kdk roots`.
#[derive(Debug, Args)]
pub struct RootsArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows the roots of this user, their ports, and whether they run.
pub fn run(session: &Session, args: &RootsArgs) -> Result<(), CommandError> {
    let list = Roots::open()?;
    warn_of_damage(session, list.as_ref());
    let known = list.map_or_else(Vec::new, |roots| roots.known().to_vec());
    let port = |known: &roots::Known, key: &str| known.ports.get(key).copied();
    let states: Vec<&str> = known.iter().map(|known| state(&known.path)).collect();
    if args.json {
        let list: Vec<_> = known
            .iter()
            .zip(&states)
            .map(|(known, state)| json!({"path": known.path, "registry_port": port(known, "registry.port"), "rails_port": port(known, "port"), "state": state}))
            .collect();
        return session.ui.json(&list);
    }
    if known.is_empty() {
        session.ui.say("There are no roots yet. Make one with: kdk up DIR");
        return Ok(());
    }
    let rows: Vec<_> = known
        .iter()
        .zip(&states)
        .map(|(known, state)| {
            let shown = |port: Option<u16>| port.map_or("-".to_owned(), |port| port.to_string());
            let tone = match *state {
                "up" => Tone::Good,
                "down" => Tone::Faint,
                _ => Tone::Odd,
            };
            vec![
                ((*state).to_owned(), Some(tone)),
                (shown(port(known, "registry.port")), None),
                (shown(port(known, "port")), None),
                (known.path.to_string(), Some(Tone::Name)),
            ]
        })
        .collect();
    session.ui.table(&["STATE", "REGISTRY", "RAILS", "ROOT"], &rows);
    Ok(())
}

fn state(path: &camino::Utf8Path) -> &'static str {
    let Ok(root) = Root::at(path) else { return "gone" };
    match services::supervisor(&root).status() {
        Ok(jobs) if jobs.iter().any(|job| job.state.is_alive()) => "up",
        Ok(_) => "down",
        Err(_) => "unknown",
    }
}

/// Says so when the list cannot be read, so that ports may be given twice.
pub fn warn_of_damage(session: &Session, list: Option<&Roots>) {
    if let Some((path, kept)) = list.and_then(Roots::damage) {
        session.ui.warn(&format!(
            "the list of your roots, {path}, was damaged and is started over (the old one is kept as {kept}); each root is listed again after its next kdk reconfigure"
        ));
    }
}

/// Enters a root into the list of this user's roots. That others cannot see
/// it is no reason to fail.
pub fn enter(session: &Session, config: &Config) {
    let entered = Roots::open().and_then(|roots| match roots {
        Some(mut roots) => {
            warn_of_damage(session, Some(&roots));
            for (key, port) in roots::claims(config) {
                if let Some(other) = roots.claimed(port, config.root().path()) {
                    session.ui.warn(&format!(
                        "{key} {port} is claimed by the root {other}, too: they cannot run at the same time"
                    ));
                }
            }
            roots.enter(config.root().path(), roots::claims(config))
        }
        None => Ok(()),
    });
    if let Err(error) = entered {
        session.ui.warn(&format!(
            "the list of your roots cannot be kept, so others may take this one's ports: {error}"
        ));
    }
}
