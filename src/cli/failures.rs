//! Why services did not start, and what to do about it.

use std::time::Duration;

use camino::Utf8PathBuf;

use super::error::CommandError;
use super::ui::{Tone, Ui, paint};
use crate::clients::hosts;
use crate::clients::shell::word;
use crate::config::Config;
use crate::root::Root;
use crate::roots::Roots;
use crate::services;
use crate::supervisor::client::Outcome;
use crate::supervisor::log::NOTE;
use crate::supervisor::protocol::Failure;
use crate::supervisor::tail::Source;
use crate::sys::clock::wait_until;

/// Log lines in which its last error is looked for.
const SEARCHED_LINES: usize = 500;
/// Log lines that are shown of a service that failed.
const SHOWN_LINES: usize = 10;

/// Explains what did not start.
pub fn explain(ui: &Ui, config: &Config, outcome: &Outcome, since: &[(String, String)]) -> Result<(), CommandError> {
    if outcome.failures.is_empty() {
        return Ok(());
    }
    let mut error = CommandError::user(
        outcome
            .failures
            .iter()
            .map(|failure| format!("{}: {}", failure.name, failure.reason))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    for failure in &outcome.failures {
        if was_started(failure) {
            let started = since.iter().rev().find(|(name, _)| *name == failure.name);
            if let Some((_, started)) = started {
                show_log(ui, config, failure, started);
            }
        }
        for hint in advice(config, failure) {
            if !error.hints.contains(&hint) {
                error = error.hint(hint);
            }
        }
    }
    // One that was not even started has said nothing.
    let started = outcome.failures.iter().rev().find(|failure| was_started(failure));
    Err(match started {
        Some(failure) => error.hint(format!("see more with: kdk tail --no-follow {}", failure.name)),
        None => error,
    })
}

/// Shows what a failed service said since it was started.
fn show_log(ui: &Ui, config: &Config, failure: &Failure, since: &str) {
    let path = services::paths(config.root()).log(&failure.name);
    // The last line may be on its way still.
    let read = || {
        let lines = Source::new(&failure.name, path.clone())
            .last(SHOWN_LINES, Some(since))
            .ok()?;
        (!lines.is_empty()).then_some(lines)
    };
    let lines = wait_until(Duration::from_millis(300), read).unwrap_or_default();
    for line in lines.iter().filter(|line| !line.text.starts_with(NOTE)) {
        ui.say(&format!(
            "  {} {}",
            paint(Tone::Faint, &format!("{} :", line.service)),
            line.text
        ));
    }
}

/// Returns the last error in a service's log, among its last lines.
pub fn last_error(root: &Root, name: &str) -> Option<String> {
    let lines = Source::new(name, services::paths(root).log(name)).last(SEARCHED_LINES, None);
    lines.ok()?.iter().rev().find_map(|line| {
        let fields: serde_json::Value = serde_json::from_str(&line.text).ok()?;
        let text = |name: &str| fields[name].as_str().map(str::to_owned);
        (fields["level"] == "error").then(|| text("error").or_else(|| text("msg")))?
    })
}

fn advice(config: &Config, failure: &Failure) -> Vec<String> {
    let mut advice = Vec::new();
    if let Some(port) = failure.port_taken {
        let setting = services::port_key(config, &failure.name);
        if let Some((root, free)) = other_root(config, port) {
            advice.push(format!("the root {root} has it; {free}"));
        }
        if is_airplay(port) {
            advice.push("it is the AirPlay Receiver of macOS; turn it off in System Settings > General > AirDrop & Handoff, or take another port".to_owned());
        }
        advice.push(format!(
            "choose another port: kdk config set {setting} {} && kdk reconfigure && kdk start",
            port.saturating_add(100)
        ));
    }
    if is_about_address(&failure.reason) {
        advice.extend(hosts::lacking(config));
    }
    advice
}

/// Returns another root of this user that claims a port, and how to free it.
pub fn other_root(config: &Config, port: u16) -> Option<(Utf8PathBuf, String)> {
    let roots = Roots::open().ok().flatten()?;
    let root = roots.claimed(port, config.root().path())?.to_owned();
    let free = format!("free it with: kdk --root {} stop", word(root.as_str()));
    Some((root, free))
}

/// Says whether a service got as far as to be started.
fn was_started(failure: &Failure) -> bool {
    failure.port_taken.is_none() && !is_about_address(&failure.reason)
}

/// Says whether there is nothing where a service is to listen.
fn is_about_address(reason: &str) -> bool {
    reason.contains("does not resolve") || reason.contains("is no address of this machine")
}

/// Recognises macOS's AirPlay Receiver by its `Server` header.
fn is_airplay(port: u16) -> bool {
    let client = reqwest::blocking::Client::builder()
        .timeout(Duration::from_secs(1))
        .no_proxy()
        .build();
    let answer = client.and_then(|client| client.get(format!("http://127.0.0.1:{port}/")).send());
    answer.is_ok_and(|answer| {
        answer
            .headers()
            .get("server")
            .and_then(|value| value.to_str().ok())
            .is_some_and(|server| server.starts_with("AirTunes"))
    })
}
