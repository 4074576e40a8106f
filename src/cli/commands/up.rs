//! `kdk up`: from nothing to a registry that takes pushes.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum as _};

use super::login::{self, Client};
use super::{init, reconfigure, run_state};
use crate::cli::Session;
use crate::cli::error::CommandError;
use crate::cli::{tokens, trusting, welcome};
use crate::config::{Config, edit};
use crate::root::Root;

/// Variable that says yes beforehand.
const CONFIRM: &str = "KDK_UP_CONFIRM";

/// Arguments of `kdk up`.
#[derive(Debug, Args)]
#[command(
    after_help = "In a root, or with DIR naming one, it applies kdk.yml and starts what is down.\nElsewhere it makes a root with a container registry that asks for a login.\n\nExamples:\n  kdk up --yes --login            in an empty directory: a registry, and docker logged in\n  kdk up --yes --login --https    the same over HTTPS, with a certificate that docker trusts\n  kdk up ~/kdk"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct UpArgs {
    /// The root (default: the one around the working directory, else that directory)
    directory: Option<Utf8PathBuf>,
    /// Make a root, and write what podman needs for plain HTTP, without asking
    #[arg(long, short)]
    yes: bool,
    /// Log a client in, too (docker where it is installed, else podman)
    #[arg(long, value_name = "CLIENT", num_args = 0..=1, require_equals = true)]
    #[expect(
        clippy::option_option,
        reason = "clap's form of an option whose value may be left out"
    )]
    login: Option<Option<Client>>,
    /// Serve HTTPS, and let the clients of this machine trust the certificate
    #[arg(long)]
    https: bool,
    /// Refuse when a default port is taken, instead of using the next free one
    #[arg(long)]
    strict_ports: bool,
    /// Accepted for habit's sake: services always run in the background
    #[arg(long, short, hide = true)]
    detach: bool,
}

/// Makes a root where there is none, applies its settings, starts it, and says what next.
pub fn run(session: &Session, args: &UpArgs) -> Result<(), CommandError> {
    let (root, made) = find_or_make(session, args)?;
    let session = session.at(&root);
    let mut config = session.config()?;
    if args.https && config.registry_is_elsewhere() {
        return Err(CommandError::user(format!(
            "the registry runs at {} (registry.mode: external): HTTPS is set up there",
            config.registry_api_url()
        )));
    }
    if args.https && config.registry_external_url().is_some() {
        return Err(CommandError::user(
            "clients reach the registry by registry.external_url: HTTPS is its proxy's business, not --https's",
        )
        .hint("see what nginx needs with: kdk setup nginx"));
    }
    if args.https && !config.registry_enabled() {
        return Err(
            CommandError::user("the registry is not enabled: there is nothing to serve over HTTPS")
                .hint("enable it with: kdk config set registry.enabled true"),
        );
    }
    if args.https && !config.registry_self_signed() {
        serve_https(&config)?;
        config = session.config()?;
    }
    if args.login.is_some() {
        tokens::check(&config)?;
    }
    if args.login.is_some() && !config.registry_enabled() {
        return Err(
            CommandError::user("the registry is not enabled: there is nothing to log in to")
                .hint("enable it with: kdk config set registry.enabled true"),
        );
    }
    reconfigure::bring_in_line(
        &session,
        &config,
        &reconfigure::ReconfigureArgs::for_up(made, args.https),
    )?;
    run_state::start_all(&session, &config)?;
    if args.https {
        trusting::trust(&session.ui, &config, trusting::How::default())?;
    }
    let logged_in = match args.login {
        Some(client) => login::log_in_as_admin(&session, &config, client, args.yes)?,
        None => None,
    };
    welcome::next(&session, &config, logged_in);
    Ok(())
}

/// Writes into `kdk.yml` that the registry serves HTTPS.
fn serve_https(config: &Config) -> Result<(), CommandError> {
    let _turn = edit::turn(config.root())?;
    let text = edit::set_in(config.text(), "registry.self_signed", &true.into())
        .map_err(|reason| CommandError::user(format!("kdk.yml cannot be edited: {reason}")))?;
    Ok(edit::replace(config, &text, false)?)
}

/// Refuses what can be meant in two ways.
fn check_meant(session: &Session, args: &UpArgs, directory: &Utf8Path) -> Result<(), CommandError> {
    if session.root.is_some() {
        return Err(
            CommandError::user(format!("{directory} and --root both name a root")).hint("leave one of them out")
        );
    }
    let client = Client::from_str(directory.as_str(), false).is_ok();
    if client && matches!(args.login, Some(None)) && !directory.exists() {
        return Err(
            CommandError::user(format!("{directory} would be a directory to make a root of")).hint(format!(
                "to log {directory} in, write --login={directory}; to make that directory, ./{directory}"
            )),
        );
    }
    Ok(())
}

/// Returns the root, and whether it was made now.
fn find_or_make(session: &Session, args: &UpArgs) -> Result<(Root, bool), CommandError> {
    if let Some(directory) = &args.directory {
        check_meant(session, args, directory)?;
    }
    let directory = match &args.directory {
        Some(directory) if directory.join("kdk.yml").is_file() => {
            return Ok((Root::find(Some(directory))?, false));
        }
        Some(directory) => directory.clone(),
        None => match session.find_root()? {
            Some(root) => return Ok((root, false)),
            None => crate::sys::env::current_dir()?,
        },
    };
    let shown = crate::sys::env::current_dir().map_or(directory.clone(), |here| here.join(&directory));
    let beside = directory
        .read_dir_utf8()
        .is_ok_and(|mut entries| entries.next().is_some());
    let beside = if beside { ", beside what is in it" } else { "" };
    session.ui.consent(
        &format!("Make {shown} a KDK root with a container registry{beside}?"),
        args.yes,
        CONFIRM,
    )?;
    Ok((init::make(session, &directory, true, args.strict_ports)?, true))
}
