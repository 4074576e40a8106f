//! What `kdk setup --apply` and `--remove` did, and what takes it up.

use std::io::IsTerminal as _;
use std::process::Command;

use serde_json::{Value, json};

use super::error::{CommandError, USER};
use super::ui::Ui;
use crate::clients::setup::apply::Handled;
use crate::clients::setup::file::Done;
use crate::clients::setup::plan::{Plan, Reload};
use crate::clients::shell::word as quote;
use crate::config::Config;
use crate::sys;

/// How it was asked for.
#[derive(Debug)]
pub struct How<'a> {
    /// The client.
    pub client: &'static str,
    /// The name by which it was asked for.
    pub asked: &'a str,
    /// Whether something was to be put in, and not taken out.
    pub is_apply: bool,
    /// Whether running programs may take it up without asking.
    pub yes: bool,
    /// Whether JSON is wanted.
    pub json: bool,
}

/// What became of what takes it up.
enum Taken {
    /// It ran.
    Up,
    /// Somebody else must run it.
    NotYet,
    /// It failed, for a reason.
    Failed(String),
}

/// Says what was done with files, and lets running programs take it up.
pub fn show(ui: &Ui, config: &Config, how: &How<'_>, plan: &Plan, handled: &[Handled]) -> Result<(), CommandError> {
    let lines: Vec<&str> = handled.iter().filter_map(|item| by_hand(&item.done)).collect();
    let reload = plan
        .reload
        .as_ref()
        .filter(|reload| handled.iter().any(|item| is_due(how, reload, item)));
    let taken = match reload {
        Some(reload) => Some(take_up(ui, how, reload, lines.is_empty())?),
        None => None,
    };
    if how.json {
        as_json(ui, how, plan, handled, reload, taken.as_ref())?;
    } else {
        as_text(ui, how, handled, &lines);
        if let (Some(Taken::NotYet | Taken::Failed(_)), Some(reload)) = (&taken, reload) {
            ui.tip(&format!("it is taken up after: {}", line(reload)));
        }
    }
    let failures: Vec<String> = handled
        .iter()
        .filter_map(|item| match &item.done {
            Done::Failed(reason) => Some(reason.clone()),
            _ => None,
        })
        .collect();
    if !failures.is_empty() {
        return Err(CommandError::user(failures.join("\n")));
    }
    if let Some(Taken::Failed(reason)) = taken {
        return Err(CommandError::user(reason).hint("the files are written; this alone is left"));
    }
    if !lines.is_empty() {
        return Err(CommandError::silent(USER));
    }
    if !how.is_apply && !how.json && reload.is_some_and(|reload| reload.of_file == Some("daemon.json")) {
        ui.tip("dockerd forgets registries that are named no more only when it is restarted");
    }
    if how.is_apply && !how.json {
        let is_unchanged = handled.iter().all(|item| item.done == Done::Unchanged);
        if let Some(reload) = plan.reload.as_ref().filter(|_| is_unchanged && taken.is_none()) {
            ui.tip(&format!("if it was not taken up yet: {}", line(reload)));
        }
        if !plan.files.is_empty() && !matches!(taken, Some(Taken::NotYet)) {
            ui.done(&format!("{} is set up for {}.", how.asked, config.registry_address()));
        }
        plan.notes.iter().for_each(|note| ui.tip(note));
    }
    Ok(())
}

/// Says whether a file is to be taken up: by somebody else, where rights are missing.
fn is_due(how: &How<'_>, reload: &Reload, item: &Handled) -> bool {
    let is_meant = reload.of_file.is_none_or(|name| item.path.file_name() == Some(name));
    // What was written before may not have been taken up then.
    let may_be_left = how.is_apply && how.yes && item.done == Done::Unchanged;
    is_meant && (item.done.is_change() || by_hand(&item.done).is_some() || may_be_left)
}

fn as_text(ui: &Ui, how: &How<'_>, handled: &[Handled], lines: &[&str]) {
    for item in handled.iter().filter(|item| item.done != Done::Absent) {
        ui.say(&format!("  {:12} {} ({})", item.done.word(), item.path, item.reader));
    }
    if !how.is_apply && handled.iter().all(|item| item.done == Done::Absent) {
        ui.say(&format!("Nothing was set up for {} by this root.", how.asked));
    }
    if !lines.is_empty() {
        ui.tip("no permission to write there; run:");
        lines.iter().for_each(|line| ui.say(&format!("  {line}")));
    }
}

fn as_json(
    ui: &Ui,
    how: &How<'_>,
    plan: &Plan,
    handled: &[Handled],
    reload: Option<&Reload>,
    taken: Option<&Taken>,
) -> Result<(), CommandError> {
    let files: Vec<Value> = handled
        .iter()
        .map(|item| json!({"path": item.path, "reader": item.reader, "result": item.done.word(), "by_hand": by_hand(&item.done)}))
        .collect();
    ui.json(&json!({
        "client": how.client,
        "files": files,
        "reload": reload.map(|reload| &reload.argv),
        "reloaded": taken.map(|taken| matches!(taken, Taken::Up)),
        "notes": plan.notes,
    }))
}

/// Returns the line that lets a program take its files up.
pub fn line(reload: &Reload) -> String {
    let words: Vec<String> = reload.argv.iter().map(|part| quote(part)).collect();
    let is_root = sys::process::user_id() == 0;
    let sudo = if reload.needs_root && !is_root { "sudo " } else { "" };
    format!("{sudo}{}", words.join(" "))
}

/// Runs what lets a program take its files up, where it may and is to.
fn take_up(ui: &Ui, how: &How<'_>, reload: &Reload, is_written: bool) -> Result<Taken, CommandError> {
    let may = is_written && (!reload.needs_root || sys::process::user_id() == 0);
    let asks =
        || -> Result<bool, CommandError> { Ok(!how.json && std::io::stdin().is_terminal() && ui.asks(&reload.what)?) };
    if !may || !(how.yes || asks()?) {
        return Ok(Taken::NotYet);
    }
    let (program, arguments) = reload.argv.split_first().expect("a command has a program");
    let status = Command::new(program).args(arguments).stdout(std::io::stderr()).status();
    Ok(match status {
        Ok(status) if status.success() => Taken::Up,
        Ok(status) => Taken::Failed(format!("{} failed: {status}", line(reload))),
        Err(error) => Taken::Failed(format!("{}: {error}", line(reload))),
    })
}

fn by_hand(done: &Done) -> Option<&str> {
    match done {
        Done::Denied(line) => Some(line),
        _ => None,
    }
}
