//! `kdk init`: make a root.

use camino::Utf8PathBuf;
use clap::Args;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::reconfigure::makefile_text;
use crate::root::Root;
use crate::sys::fs::{PUBLIC, create_dir, create_private_dir, write_atomic};

/// Arguments of `kdk init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kdk init\n  kdk init ~/kdk --with-registry")]
pub struct InitArgs {
    /// Directory to make a root of
    #[arg(default_value = ".")]
    directory: Utf8PathBuf,
    /// Enable the container registry
    #[arg(long)]
    with_registry: bool,
}

/// Makes a root, unless it is one.
pub fn run(session: &Session, args: &InitArgs) -> Result<(), CommandError> {
    create_dir(&args.directory)?;
    let root = Root::at(&args.directory)?;
    if root.kdk_yml().exists() {
        return Err(
            CommandError::user(format!("{} is a KDK root already; nothing was changed", root.path()))
                .hint("change a setting with: kdk config set KEY VALUE"),
        );
    }
    create_private_dir(&root.state())?;
    let registry = if args.with_registry {
        "\nregistry:\n  enabled: true\n"
    } else {
        ""
    };
    let settings = format!(
        "---\n# Settings of this KDK. See them all: kdk config list. Change one: kdk config set KEY VALUE\n{registry}"
    );
    if !root.makefile().exists() {
        write_atomic(&root.makefile(), makefile_text().as_bytes(), PUBLIC)?;
    }
    // Last: its presence makes the directory a root.
    write_atomic(&root.kdk_yml(), settings.as_bytes(), PUBLIC)?;
    session.ui.done(&format!("{} is a KDK root now", root.path()));
    if !args.with_registry {
        session
            .ui
            .hint("next: kdk config set registry.enabled true && kdk reconfigure && kdk start");
    }
    Ok(())
}
