//! Generated texts: completion scripts, man pages, files of the source tree.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use clap_complete::Shell;

use crate::cli::Session;
use crate::cli::completion;
use crate::cli::error::{CommandError, USER};
use crate::config::generate::FILES;
use crate::sys::fs::{PUBLIC, create_dir, read_optional, write_atomic};

/// Arguments of `kdk completions`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  source <(kdk completions bash)    # in ~/.bashrc\n  source <(kdk completions zsh)     # in ~/.zshrc, after compinit\n  kdk completions fish > ~/.config/fish/completions/kdk.fish"
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

/// Prints a completion script.
pub fn completions(args: &CompletionsArgs) -> Result<(), CommandError> {
    Ok(completion::write_script(
        &args.shell.to_string(),
        &mut std::io::stdout(),
    )?)
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
