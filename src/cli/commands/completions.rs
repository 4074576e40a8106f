//! Generated texts: completion scripts, man pages, files of the source tree.

use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use clap::builder::PossibleValuesParser;
use clap_complete::Shell;

use crate::cli::Session;
use crate::cli::error::{CommandError, USER};
use crate::config::generate::FILES;
use crate::config::settings;
use crate::sys::fs::{PUBLIC, create_dir, read_optional, write_atomic};

/// Arguments of `kdk completions`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kdk completions bash > ~/.local/share/bash-completion/completions/kdk\n  kdk completions zsh > ~/.zfunc/_kdk"
)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Arguments of `kdk man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory to write the pages to
    #[arg(default_value = "man")]
    directory: Utf8PathBuf,
}

/// Arguments of `kdk generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Top of the source tree
    #[arg(default_value = ".")]
    directory: Utf8PathBuf,
    /// Write nothing; fail when a file is not current
    #[arg(long)]
    check: bool,
}

/// Prints a completion script; settings and services complete by it too.
pub fn completions(args: &CompletionsArgs) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut completed(crate::cli::definition()), "kdk", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}

/// Adds to the definition what can be typed for keys and services. Only for
/// completion: parsing gives better errors by itself.
fn completed(command: clap::Command) -> clap::Command {
    let keys = || PossibleValuesParser::new(settings::all().map(|setting| setting.key));
    let services = || {
        PossibleValuesParser::new([
            crate::services::REGISTRY,
            crate::services::FRONT,
            crate::services::RAILS,
            crate::services::POSTGRESQL,
            "rails",
            "db",
        ])
    };
    let command = ["start", "stop", "restart", "status", "tail"]
        .into_iter()
        .fold(command, |command, name| {
            command.mut_subcommand(name, |command| {
                command.mut_arg("services", |arg| arg.value_parser(services()))
            })
        });
    command.mut_subcommand("config", |config| {
        ["get", "set", "unset"].into_iter().fold(config, |config, name| {
            config.mut_subcommand(name, |command| {
                let argument = if name == "set" { "words" } else { "key" };
                command.mut_arg(argument, |arg| arg.value_parser(keys()))
            })
        })
    })
}

/// Writes the man pages.
pub fn man(session: &Session, args: &ManArgs) -> Result<(), CommandError> {
    create_dir(&args.directory)?;
    clap_mangen::generate_to(crate::cli::definition(), &args.directory)?;
    session.ui.done(&format!("The man pages are in {}.", args.directory));
    Ok(())
}

/// Writes or checks the generated files.
pub fn generate(session: &Session, args: &GenerateArgs) -> Result<(), CommandError> {
    let mut stale = Vec::new();
    for (name, text) in FILES {
        let path = args.directory.join(name);
        let text = text();
        if read_optional(&path)?.as_deref() == Some(text.as_str()) {
            continue;
        }
        stale.push(name);
        if !args.check {
            create_dir(path.parent().unwrap_or(Utf8Path::new(".")))?;
            write_atomic(&path, text.as_bytes(), PUBLIC)?;
        }
    }
    if args.check && !stale.is_empty() {
        session.ui.error(&format!("not current: {}", stale.join(", ")));
        session.ui.hint("write them with: make generate");
        return Err(CommandError::silent(USER));
    }
    Ok(())
}
