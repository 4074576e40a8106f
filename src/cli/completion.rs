//! What a shell may complete: commands and options, and beside these
//! services, settings and their values.
//!
//! The shell's script asks the program itself, so both are always of one
//! version.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};

use clap::Command;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use crate::config::settings::{self, Setting};
use crate::config::types::Kind;
use crate::services::{FRONT, POSTGRESQL, RAILS, REGISTRY};

/// The variable by which a shell's script asks.
const ASKED: &str = "KDK_COMPLETE";

/// Writes the script that makes a shell ask.
///
/// # Errors
/// When it cannot be written, or the shell is none that can.
pub fn write_script(shell: &str, to: &mut dyn Write) -> io::Result<()> {
    let shells = Shells::builtins();
    let shell = shells.completer(shell).ok_or(io::ErrorKind::Unsupported)?;
    shell.write_registration(ASKED, "kdk", "kdk", "kdk", to)
}

/// Answers a shell that asks what may come next; says whether one did.
///
/// # Errors
/// When it is a shell that nobody knows, or does not listen.
pub fn answer(definition: fn() -> Command, arguments: &[OsString]) -> clap::error::Result<bool> {
    let before = word_before(arguments);
    CompleteEnv::with_factory(|| completed(definition(), before.as_deref()))
        .var(ASKED)
        .try_complete(arguments, None)
}

/// Returns the word before the one that is being typed.
fn word_before(arguments: &[OsString]) -> Option<String> {
    let words: Vec<&str> = arguments
        .iter()
        .skip_while(|word| *word != "--")
        .skip(1)
        .map(|word| word.to_str().unwrap_or(""))
        .collect();
    // Where a shell does not say which word it is, it is the last.
    let at = crate::sys::env::var("_CLAP_COMPLETE_INDEX").and_then(|at| at.parse().ok());
    let at: usize = at.unwrap_or(words.len().checked_sub(1)?);
    let mut before = words.get(..at)?.iter().rev();
    match before.next() {
        // Bash takes `key=value` apart.
        Some(&"=") => before.next(),
        word => word,
    }
    .map(|word| (*word).to_owned())
}

/// Adds to the definition what can be typed for settings and services.
fn completed(command: Command, before: Option<&str>) -> Command {
    let services = || ArgValueCompleter::new(services);
    let command = ["start", "stop", "restart", "status", "tail", "logs"]
        .into_iter()
        .fold(command, |command, name| {
            command.mut_subcommand(name, |command| command.mut_arg("services", |arg| arg.add(services())))
        });
    let before = before.map(str::to_owned);
    command.mut_subcommand("config", |config| {
        let config = [("get", "key"), ("unset", "keys")]
            .into_iter()
            .fold(config, |config, (name, argument)| {
                config.mut_subcommand(name, |command| {
                    command.mut_arg(argument, |arg| arg.add(ArgValueCompleter::new(keys)))
                })
            });
        config.mut_subcommand("set", |command| {
            command.mut_arg("words", |arg| {
                arg.add(ArgValueCompleter::new(move |typed: &OsStr| {
                    words(before.as_deref(), typed)
                }))
            })
        })
    })
}

fn services(typed: &OsStr) -> Vec<CompletionCandidate> {
    let all = [REGISTRY, FRONT, RAILS, POSTGRESQL, "rails", "db"];
    all.into_iter()
        .filter(|name| begins(name, typed))
        .map(CompletionCandidate::new)
        .collect()
}

fn keys(typed: &OsStr) -> Vec<CompletionCandidate> {
    settings::all()
        .filter(|setting| begins(setting.key, typed))
        .map(|setting| {
            CompletionCandidate::new(setting.key).help(
                setting
                    .doc
                    .split('.')
                    .next()
                    .map(|first| first.trim().to_owned().into()),
            )
        })
        .collect()
}

/// Returns a setting's values after its key, in one word or two, else keys.
fn words(before: Option<&str>, typed: &OsStr) -> Vec<CompletionCandidate> {
    let text = typed.to_str().unwrap_or("");
    if let Some((key, value)) = text.split_once('=') {
        let prefix = format!("{key}=");
        let values = settings::find(key)
            .map(|setting| values(setting, value))
            .unwrap_or_default();
        return values
            .into_iter()
            .map(|candidate| candidate.add_prefix(&prefix))
            .collect();
    }
    match before.and_then(settings::find) {
        Some(setting) => values(setting, text),
        None => keys(typed),
    }
}

fn values(setting: &Setting, typed: &str) -> Vec<CompletionCandidate> {
    let all: &[&str] = match setting.kind {
        Kind::Bool => &["true", "false"],
        Kind::Choice(words) => words,
        _ => &[],
    };
    all.iter()
        .filter(|value| value.starts_with(typed))
        .map(CompletionCandidate::new)
        .collect()
}

fn begins(name: &str, typed: &OsStr) -> bool {
    typed.to_str().is_some_and(|typed| name.starts_with(typed))
}
