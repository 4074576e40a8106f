//! `kdk init`: make a root.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;

use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::config::Config;
use crate::reconfigure::makefile_text;
use crate::root::Root;
use crate::roots::{self, Rival, Roots};
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
    /// Refuse when a default port is taken, instead of using the next free one
    #[arg(long)]
    strict_ports: bool,
}

/// Makes a root, unless it is one.
pub fn run(session: &Session, args: &InitArgs) -> Result<(), CommandError> {
    make(session, &args.directory, args.with_registry, args.strict_ports)?;
    if !args.with_registry {
        session
            .ui
            .tip("next: kdk config set registry.enabled true && kdk reconfigure && kdk start");
    }
    Ok(())
}

/// Makes a root of a directory.
///
/// # Errors
/// When it is one already, or cannot be made.
pub fn make(
    session: &Session,
    directory: &Utf8Path,
    with_registry: bool,
    strict_ports: bool,
) -> Result<Root, CommandError> {
    let own = directory.canonicalize_utf8().unwrap_or_else(|_| directory.to_owned());
    if own.join("kdk.yml").exists() {
        return Err(
            CommandError::user(format!("{own} is a KDK root already; nothing was changed"))
                .hint("change a setting with: kdk config set KEY VALUE"),
        );
    }
    // Held until the root is in it: two that are made at once get different ports.
    let mut list = Roots::open().unwrap_or_else(|error| {
        session.ui.warn(&format!(
            "the list of your roots cannot be kept, so others may take this one's ports: {error}"
        ));
        None
    });
    super::roots::warn_of_damage(session, list.as_ref());
    let defaults = Config::defaults(&Root::example());
    let rival = |port: u16| match &list {
        Some(list) => list.rival(port, &own),
        None => roots::taken(port),
    };
    let registry = pick(session, "registry.port", defaults.registry_port(), strict_ports, &rival)?;
    let rails = pick(session, "port", defaults.port(), strict_ports, &rival)?;
    create_dir(directory)?;
    let root = Root::at(directory)?;
    root.check_directory()?;
    create_private_dir(&root.state())?;
    let mut settings =
        "---\n# Settings of this KDK. See them all: kdk config list. Change one: kdk config set KEY VALUE\n".to_owned();
    if let Some(port) = rails {
        settings.push_str(&format!("\nport: {port}\n"));
    }
    if with_registry || registry.is_some() {
        settings.push_str("\nregistry:\n");
    }
    if with_registry {
        settings.push_str("  enabled: true\n");
    }
    if let Some(port) = registry {
        settings.push_str(&format!("  port: {port}\n"));
    }
    if !root.makefile().exists() {
        write_atomic(&root.makefile(), makefile_text().as_bytes(), PUBLIC)?;
    }
    // Last: its presence makes the directory a root.
    write_atomic(&root.kdk_yml(), settings.as_bytes(), PUBLIC)?;
    if let Some(list) = &mut list {
        list.enter(root.path(), roots::claims(&Config::load(&root)?))?;
    }
    session.ui.done(&format!("{} is a KDK root now", root.path()));
    Ok(root)
}

/// Returns a port to write down, when the default one is not free.
fn pick(
    session: &Session,
    key: &str,
    default: u16,
    strict: bool,
    rival: &dyn Fn(u16) -> Option<Rival>,
) -> Result<Option<u16>, CommandError> {
    let Some(holder) = rival(default) else { return Ok(None) };
    if strict {
        return Err(
            CommandError::user(format!("port {default} is {holder}; nothing was made")).hint(
                "leave out --strict-ports to use the next free one, or free this one: kdk roots lists who claims what",
            ),
        );
    }
    let port = roots::first_free(default, |port| rival(port).is_none())
        .ok_or_else(|| CommandError::user(format!("no port from {default} on is free")))?;
    session.ui.say(&format!("  {key} is {port}: {default} is {holder}"));
    Ok(Some(port))
}
