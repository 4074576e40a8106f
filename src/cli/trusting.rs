//! Telling the clients of this machine what they must know of the registry.

use camino::Utf8Path;
use serde_json::json;

use super::error::{CommandError, USER};
use super::ui::Ui;
use crate::clients::setup::apply::{self, Handled};
use crate::clients::setup::file::Done;
use crate::clients::setup::plan::{Plan, SetupError};
use crate::clients::setup::{self, Client as _, Scene};
use crate::clients::{Found, needs};
use crate::config::Config;
use crate::sys::clock::Clock;

/// What the records call the jobs of a runner.
pub const JOBS: &str = "jobs";

/// How it is told of.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Whether something was taken away, and not put there.
    pub remove: bool,
    /// Whether JSON is wanted.
    pub json: bool,
}

/// Lets the clients of this machine trust the registry's certificate.
///
/// # Errors
/// When a file is not of its format, or nothing could be put anywhere.
pub fn trust(ui: &Ui, config: &Config, how: How) -> Result<(), CommandError> {
    let mut all = Vec::new();
    for (client, plan) in plans(config)? {
        all.extend(apply::apply(config.root(), &client, &plan, Clock::System.now())?);
    }
    report(ui, config, how, &all)?;
    if !all.iter().any(|item| matches!(item.done, Done::Denied(_))) {
        still_needed(ui, config);
    }
    Ok(())
}

/// Returns what is planned for the clients of this machine that are told here.
pub fn plans(config: &Config) -> Result<Vec<(String, Plan)>, CommandError> {
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

/// Says what clients that are found on this machine still need.
pub fn still_needed(ui: &Ui, config: &Config) {
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
        ui.done(&format!(
            "The clients found here take {} as it is.",
            config.registry_address()
        ));
    }
    for need in needs {
        ui.tip(&need);
    }
}

/// Says what was put where, for programs.
pub fn as_json(handled: &[Handled]) -> Vec<serde_json::Value> {
    let item = |item: &Handled| json!({"client": item.reader, "path": item.path, "result": item.done.word()});
    handled.iter().map(item).collect()
}

/// Says what was put where.
///
/// # Errors
/// When nothing could be put anywhere.
pub fn report(ui: &Ui, config: &Config, how: How, placed: &[Handled]) -> Result<(), CommandError> {
    if how.json {
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
    if how.remove || how.json {
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
